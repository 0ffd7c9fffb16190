"""Pooling: by hand, who gets the gradient, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_06_hierarchical import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
    adaptive_average_pool,
    adaptive_max_pool,
    max_pool,
)
from utils import Tensor, check_gradients

LINE = np.array([[[1.0, 5.0, 2.0, 4.0, 3.0]]])


def test_a_line_by_hand():
    assert MaxPool1d(2)(LINE).data.tolist() == [[[5.0, 4.0]]], "what does not fill a window is left"
    assert AvgPool1d(2)(LINE).data.tolist() == [[[3.0, 3.0]]]
    assert MaxPool1d(3, stride=1)(LINE).data.tolist() == [[[5.0, 5.0, 4.0]]]
    assert MaxPool1d(3, stride=2, padding=1)(-LINE).data.tolist() == [[[-1.0, -2.0, -3.0]]]
    assert AvgPool1d(2, padding=1)(LINE).data.tolist() == [[[0.5, 3.5, 3.5]]]
    without = AvgPool1d(2, padding=1, count_include_pad=False)(LINE).data
    assert without.tolist() == [[[1.0, 3.5, 3.5]]], "zeros of the border are not counted"


def test_windows_as_equal_as_they_can_be():
    assert AdaptiveAvgPool1d(2)(LINE).data.tolist() == [[[8 / 3, 3.0]]]
    assert AdaptiveMaxPool1d(2)(LINE).data.tolist() == [[[5.0, 4.0]]]
    assert AdaptiveAvgPool1d(5)(LINE).data.tolist() == LINE.tolist()
    picture = np.arange(24.0).reshape(1, 2, 3, 4)
    means = AdaptiveAvgPool2d(1)(picture)
    assert means.shape == (1, 2, 1, 1) and np.ravel(means).tolist() == [5.5, 17.5]


def test_of_equals_the_first_gets_the_gradient():
    for pool in (max_pool, max_pool.composed):
        x = Tensor(np.array([[[2.0, 2.0, 1.0, 2.0]]]), requires_grad=True)
        pool(x, kernel_size=2).sum().backward()
        assert x.grad.tolist() == [[[1.0, 0.0, 0.0, 1.0]]]


def test_overlapping_windows_add_what_they_send_back():
    x = Tensor(LINE, requires_grad=True)
    MaxPool1d(3, stride=1)(x).sum().backward()
    assert x.grad.tolist() == [[[0.0, 2.0, 0.0, 1.0, 0.0]]]


@pytest.mark.parametrize("pool", [adaptive_average_pool, adaptive_max_pool])
def test_gradients_of_adaptive_pools(pool, rng):
    check_gradients(lambda x: pool(x, (2, 3)), [rng.normal(size=(2, 2, 5, 4))])


def test_a_nan_is_not_hidden():
    x = np.array([[[1.0, np.nan, 2.0, 3.0]]])
    assert np.isnan(MaxPool1d(2)(x).data).tolist() == [[[True, False]]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxPool2d(2)(np.ones((3, 4, 4))), "takes 4 axes"),
        (lambda: MaxPool2d(5)(np.ones((1, 3, 4, 4))), "does not fit"),
        (lambda: MaxPool2d(2, padding=2)(np.ones((1, 3, 4, 4))), "more than half"),
        (lambda: AvgPool2d(0)(np.ones((1, 3, 4, 4))), "kernel_size"),
        (lambda: AdaptiveAvgPool2d(0), "output_size"),
        (lambda: max_pool(np.ones((3, 4)), kernel_size=2), r"x \(B, C, ...\)"),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
