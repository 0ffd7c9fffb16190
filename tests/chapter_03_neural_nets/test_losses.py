"""Losses: values by hand, their options one by one and together, gradients, and the ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_02_text_generation import log_softmax
from chapter_03_neural_nets import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
)
from utils import Tensor, check_gradients

REGRESSION = [mse_loss, l1_loss, huber_loss]
LOG2, LOG3, LOG4 = math.log(2), math.log(3), math.log(4)
# Probabilities (1/4, 3/4), (1/2, 1/2), (1/4, 3/4).
LOGITS = np.log([[1.0, 3.0], [1.0, 1.0], [1.0, 3.0]])
NLL = np.array([LOG4, LOG2, LOG4 - LOG3])
TARGETS = np.array([0, 1, 1])


def entropy(targets=TARGETS, **options):
    return cross_entropy(Tensor(LOGITS), targets, **options)


# Cross-entropy


def test_cross_entropy_by_hand():
    assert entropy().item() == pytest.approx(NLL.mean())
    assert entropy(reduction="sum").item() == pytest.approx(NLL.sum())
    np.testing.assert_allclose(entropy(reduction="none").data, NLL)


def test_ignored_targets_take_no_part():
    targets = [-100, 1, 1]
    assert entropy(targets).item() == pytest.approx(NLL[1:].mean()), "nor in the count"
    np.testing.assert_allclose(entropy(targets, reduction="none").data, [0, *NLL[1:]])
    assert entropy([0, 1, 0], ignore_index=0).item() == pytest.approx(NLL[1])
    logits = Tensor(LOGITS, requires_grad=True)
    cross_entropy(logits, targets).backward()
    assert logits.grad[0].tolist() == [0, 0] and np.all(logits.grad[1:] != 0)


def test_ignored_rows_do_not_poison_the_others():
    logits = np.array([[math.nan, math.inf], [0.0, 0.0]])
    for reduction in ("mean", "sum", "none"):
        x = Tensor(logits, requires_grad=True)
        with np.errstate(invalid="ignore"):
            y = cross_entropy(x, [-100, 0], reduction=reduction)
        assert np.sum(y.data) == pytest.approx(LOG2)
        np.sum(y).backward()
        np.testing.assert_allclose(x.grad[1], [-0.5, 0.5], err_msg=reduction)


def test_class_weights_weigh_the_mean():
    weight = np.array([3.0, 1.0])
    each = np.array([3, 1, 1]) * NLL
    np.testing.assert_allclose(entropy(weight=weight, reduction="none").data, each)
    assert entropy(weight=weight, reduction="sum").item() == pytest.approx(each.sum())
    assert entropy(weight=weight).item() == pytest.approx(each.sum() / 5), "over 3 + 1 + 1"


def test_smoothing_mixes_the_target_with_all_classes():
    q = np.full((3, 2), 0.05)
    q[[0, 1, 2], TARGETS] += 0.9
    expected = -np.sum(q * log_softmax(LOGITS), axis=1)
    found = entropy(label_smoothing=0.1, reduction="none").data
    np.testing.assert_allclose(found, expected, err_msg="0.9 on the target, 0.1 spread over all")
    assert entropy(label_smoothing=0.1).item() == pytest.approx(expected.mean())
    uniform = -log_softmax(LOGITS).mean(axis=1)
    np.testing.assert_allclose(entropy(label_smoothing=1.0, reduction="none").data, uniform)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [None, np.array([0.5, 2.0, 1.0, 0.0])])
@pytest.mark.parametrize("ignored", [0, 2])
def test_cross_entropy_gradients(reduction, smoothing, weight, ignored, rng):
    targets = rng.integers(3, size=(2, 3))
    targets.ravel()[:ignored] = -100
    loss = lambda logits: cross_entropy(
        logits, targets, weight, label_smoothing=smoothing, reduction=reduction
    )
    check_gradients(loss, [rng.normal(size=(2, 3, 4))], order=2, tolerance=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_any_size_give_finite_losses(dtype):
    x = Tensor(np.array([[1e4, 0, -1e4], [-1e30, 1e30, 0]], dtype), requires_grad=True)
    y = cross_entropy(x, [0, 0], reduction="none")
    np.testing.assert_allclose(y.data, [0, 2e30], rtol=1e-6)
    np.sum(y).backward()
    np.testing.assert_allclose(x.grad, [[0, 0, 0], [-1, 1, 0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_targets_of_any_integer_type(dtype):
    assert entropy(TARGETS.astype(dtype)).item() == pytest.approx(NLL.mean())
    assert entropy(Tensor(TARGETS.astype(dtype))).item() == pytest.approx(NLL.mean())


@pytest.mark.parametrize("shape", [(), (0,), (2,), (2, 0, 3)])
def test_classes_are_the_last_axis_whatever_comes_before(shape):
    logits, targets = np.zeros((*shape, 5)), np.zeros(shape, int)
    y = cross_entropy(Tensor(logits), targets, reduction="none")
    assert y.shape == shape
    np.testing.assert_allclose(y.data, math.log(5))
    assert cross_entropy(Tensor(logits), targets, reduction="sum").item() == pytest.approx(
        math.prod(shape) * math.log(5)
    )


# Regression


def test_regression_by_hand():
    predictions, targets = Tensor(np.array([0.0, 1.0, 5.0])), [0.0, 1.5, 1.0]
    each = {
        "mse_loss": [0, 0.25, 16],
        "l1_loss": [0, 0.5, 4],
        "huber_loss": [0, 0.125, 3.5],
    }
    for loss in REGRESSION:
        expected = np.array(each[loss.__name__])
        np.testing.assert_allclose(loss(predictions, targets, reduction="none").data, expected)
        assert loss(predictions, targets).item() == pytest.approx(expected.mean())
        assert loss(predictions, targets, reduction="sum").item() == pytest.approx(expected.sum())


def test_hubers_line_begins_at_delta():
    d = np.array([-3.0, -2.0, -1.0, 0.0, 0.5, 2.0, 4.0])
    x = Tensor(d, requires_grad=True)
    y = huber_loss(x, np.zeros(7), delta=2.0, reduction="none")
    np.testing.assert_allclose(y.data, [4, 2, 0.5, 0, 0.125, 2, 6])
    y.backward(np.ones(7))
    np.testing.assert_allclose(x.grad, np.clip(d, -2, 2), err_msg="the pull is bounded by delta")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", REGRESSION)
def test_regression_gradients_reach_both_arguments(loss, reduction, rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)) + 0.3
    check_gradients(lambda a, b: loss(a, b, reduction=reduction), [a, b], tolerance=1e-7)


# Yes or no


def test_binary_cross_entropy_by_hand():
    logits = Tensor(np.array([0.0, LOG3, LOG3]))  # probabilities 1/2, 3/4, 3/4
    targets = [1, 0, 0.5]
    each = np.array([LOG2, LOG4, (LOG4 + LOG4 - LOG3) / 2])
    loss = binary_cross_entropy_with_logits
    np.testing.assert_allclose(loss(logits, targets, reduction="none").data, each)
    assert loss(logits, targets).item() == pytest.approx(each.mean())
    weighted = loss(logits, targets, weight=[2.0, 0.0, 1.0], reduction="sum").item()
    assert weighted == pytest.approx(2 * each[0] + each[2])
    positive = loss(logits, targets, pos_weight=3.0, reduction="none").data
    np.testing.assert_allclose(positive, [3 * LOG2, LOG4, (3 * (LOG4 - LOG3) + LOG4) / 2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_logit_makes_it_overflow(dtype):
    x = Tensor(np.array([1e4, -1e4, 1e4, -1e4], dtype), requires_grad=True)
    y = binary_cross_entropy_with_logits(x, [1, 0, 0, 1], reduction="none")
    assert y.tolist() == [0, 0, 1e4, 1e4]
    np.sum(y).backward()
    assert x.grad.tolist() == [0, 0, 1, -1]


def test_binary_gradients(rng):
    x, t, w = rng.normal(size=(2, 3)), rng.uniform(size=(2, 3)), rng.uniform(1, 2, (2, 3))
    loss = lambda x: binary_cross_entropy_with_logits(x, t, weight=w, pos_weight=[1.0, 2.0, 3.0])
    check_gradients(loss, [x], order=2, tolerance=1e-7)


# All of them


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [*REGRESSION, binary_cross_entropy_with_logits])
def test_the_dtype_is_that_of_the_predictions(loss, dtype):
    x = Tensor(np.zeros((2, 3), dtype))
    for targets in (np.ones((2, 3)), np.ones((2, 3), np.float32), np.ones((2, 3), int)):
        assert loss(x, targets).dtype == dtype
        assert loss(x, targets, reduction="none").dtype == dtype


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_do_not_change_the_dtype(reduction):
    x = Tensor(np.zeros((2, 3), np.float32))
    options = {"label_smoothing": 0.1, "reduction": reduction}
    assert cross_entropy(x, [0, 1], np.ones(3), **options).dtype == np.float32
    for name in ("weight", "pos_weight"):
        options = {name: np.ones(3), "reduction": reduction}
        y = binary_cross_entropy_with_logits(x, np.ones((2, 3)), **options)
        assert y.dtype == np.float32, f"{name} in float64 turned a float32 loss into {y.dtype}"


@pytest.mark.parametrize("loss", [*REGRESSION, binary_cross_entropy_with_logits])
def test_nothing_sums_to_nothing(loss):
    empty = Tensor(np.zeros((0, 3)))
    assert loss(empty, np.zeros((0, 3)), reduction="sum").item() == 0
    assert loss(empty, np.zeros((0, 3)), reduction="none").shape == (0, 3)
