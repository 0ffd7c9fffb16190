"""Layer, RMS and group norm: values by hand, gradients, and that no example sees another."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_04_training_dynamics import (
    GroupNorm,
    LayerNorm,
    RMSNorm,
    group_norm,
    layer_norm,
    rms_norm,
)
from utils import Tensor, check_gradients

NORMS = {
    "LayerNorm": (lambda: LayerNorm(6), (4, 6)),
    "LayerNorm of two axes": (lambda: LayerNorm((3, 2)), (4, 3, 2)),
    "RMSNorm": (lambda: RMSNorm(6), (4, 6)),
    "GroupNorm": (lambda: GroupNorm(3, 6), (4, 6)),
    "GroupNorm of images": (lambda: GroupNorm(2, 6), (4, 6, 3, 2)),
}
each_norm = pytest.mark.parametrize("make, shape", NORMS.values(), ids=NORMS)


def test_layer_norm_by_hand():
    x = Tensor(np.array([[1.0, 3.0], [10.0, 10.0]]))
    y = layer_norm(x, np.array([2.0, 4.0]), np.array([0.0, 1.0]), eps=3.0)
    np.testing.assert_allclose(y.data, [[-1.0, 3.0], [0.0, 1.0]])


def test_rms_norm_by_hand():
    x = Tensor(np.array([[3.0, 4.0, 0.0, 0.0]]))  # the mean square is 25 / 4
    y = rms_norm(x, np.array([1.0, 2.0, 1.0, 1.0]), eps=0.0)
    np.testing.assert_allclose(y.data, [[1.2, 3.2, 0, 0]], err_msg="no mean is subtracted")


def test_rms_norm_without_eps_takes_that_of_the_dtype():
    for dtype in (np.float32, np.float64):
        x = np.full((1, 2), 1e-8, dtype)
        expected = 1e-8 / np.sqrt(1e-16 + np.finfo(dtype).eps)
        y = RMSNorm(2).astype(dtype)(Tensor(x))
        np.testing.assert_allclose(y.data, expected, rtol=1e-5)


def test_group_norm_by_hand():
    x = Tensor(np.array([[1.0, 3.0, 10.0, 30.0]]))
    y = group_norm(x, 2, np.array([1.0, 1.0, 2.0, 2.0]), np.array([0.0, 0.0, 0.0, 5.0]), eps=0.0)
    np.testing.assert_allclose(
        y.data, [[-1, 1, -2, 7]], err_msg="neighbouring channels are a group, each standardised"
    )


def test_one_group_is_layer_norm_and_many_are_instance_norm(rng):
    x = rng.normal(2, 3, (3, 4, 5)).astype(np.float32)
    one = GroupNorm(1, 4)(Tensor(x)).data
    np.testing.assert_allclose(one, LayerNorm((4, 5))(Tensor(x)).data, atol=1e-5)
    each = GroupNorm(4, 4)(Tensor(x)).data
    np.testing.assert_allclose(each.mean(axis=2), 0, atol=1e-5)
    np.testing.assert_allclose(each.var(axis=2), 1, atol=1e-4)


@each_norm
def test_an_example_does_not_depend_on_its_companions(make, shape, rng):
    layer, x = make(), rng.normal(size=shape).astype(np.float32)
    together = layer(Tensor(x)).data
    alone = np.concatenate([layer(Tensor(x[i : i + 1])).data for i in range(len(x))])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_array_equal(layer.eval()(Tensor(x)).data, together)
    assert layer(Tensor(x[:0])).shape == (0, *shape[1:]), "no examples, no output"


@each_norm
def test_the_scale_of_an_example_does_not_matter(make, shape, rng):
    layer, x = make(), rng.normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(layer(Tensor(1000 * x)).data, layer(Tensor(x)).data, atol=1e-2)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (4,), (0, 4)])
def test_gradients(shape, rng):
    x, weight, bias = rng.normal(size=shape), rng.normal(size=4), rng.normal(size=4)
    check_gradients(layer_norm, [x, weight, bias])
    check_gradients(rms_norm, [x, weight])
    check_gradients(lambda x: rms_norm(x, eps=1e-3), [x])


def test_gradients_over_two_axes_and_in_groups(rng):
    x = rng.normal(size=(2, 4, 3))
    check_gradients(lambda *a: layer_norm(*a, dims=2), [x, *rng.normal(size=(2, 4, 3))])
    check_gradients(lambda *a: rms_norm(*a, dims=2), [x, rng.normal(size=(4, 3))])
    weight, bias = rng.normal(size=(2, 4))
    for groups in (1, 2, 4):
        check_gradients(lambda x, w, b, n=groups: group_norm(x, n, w, b), [x, weight, bias])
    check_gradients(lambda x: group_norm(x, 2), [x], order=2, tolerance=1e-6)


def test_a_large_mean_does_not_eat_the_variance():
    x = Tensor(np.array([[10_000, 10_001, 10_002]], np.float32))
    for layer in (LayerNorm(3), GroupNorm(1, 3)):
        np.testing.assert_allclose(layer(x).data, [[-1.2247, 0, 1.2247]], atol=2e-3)


def test_parameters():
    assert list(LayerNorm(4).state_dict()) == ["weight", "bias"]
    assert list(LayerNorm(4, bias=False).state_dict()) == ["weight"]
    assert list(LayerNorm(4, elementwise_affine=False).state_dict()) == []
    assert LayerNorm((2, 3)).weight.shape == (2, 3)
    assert list(RMSNorm(4).state_dict()) == ["weight"]
    assert list(GroupNorm(2, 4).state_dict()) == ["weight", "bias"]
    assert list(GroupNorm(2, 4, affine=False).state_dict()) == []


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: LayerNorm(4)(Tensor(np.ones((2, 3), np.float32))), r"\(..., 4\), not \(2, 3\)"),
        (lambda: LayerNorm((2, 3))(Tensor(np.ones(3, np.float32))), r"not \(3,\)"),
        (lambda: RMSNorm(4)(Tensor(np.ones((4, 2), np.float32))), r"not \(4, 2\)"),
        (lambda: GroupNorm(2, 4)(Tensor(np.ones((2, 3), np.float32))), r"not \(2, 3\)"),
        (lambda: GroupNorm(2, 4)(Tensor(np.ones(4, np.float32))), r"not \(4,\)"),
        (lambda: GroupNorm(3, 4), "4 channels do not divide into 3 groups"),
        (lambda: GroupNorm(0, 4), "0 groups"),
        (lambda: LayerNorm(0), "0"),
        (lambda: LayerNorm(()), "sizes"),
        (lambda: RMSNorm(2.5), "2.5"),
        (lambda: LayerNorm(4, eps=float("nan")), "nan"),
        (lambda: RMSNorm(4, eps=-1.0), "-1"),
    ],
)
def test_what_does_not_fit(make, said):
    with pytest.raises(ValueError, match=said):
        make()
