"""Each gradient by hand alone: numbers from a pencil, then the composed form's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_cases import agree, agree_when_some_are_wanted, case, tensors

from chapter_05_gradient_mastery import layer_norm, linear, rms_norm, softmax
from chapter_05_gradient_mastery.embedding import FEW, sum_by_row
from chapter_05_gradient_mastery.linear import _gradients
from chapter_05_gradient_mastery.softmax import mean_cross_entropy
from utils import Tensor, grad


def gradient(y, x, g=None) -> np.ndarray:
    first = grad(y, x, g)[0].data.copy()
    again = grad(y, x, g)[0].data
    np.testing.assert_array_equal(again, first, "backward has written over what it needs again")
    return first


def test_the_gradient_of_softmax_by_hand():
    x = Tensor(np.log([1.0, 3.0]), requires_grad=True)  # p = 1/4, 3/4
    dx = gradient(softmax(x), x, np.array([1.0, 0.0]))
    np.testing.assert_allclose(dx, [3 / 16, -3 / 16], err_msg="dx = p (g - sum(g p))")
    same = gradient(softmax(x), x, np.array([5.0, 5.0]))
    np.testing.assert_allclose(same, 0, atol=1e-15, err_msg="probabilities cannot all grow")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_gradient_of_softmax_along_an_axis(axis, rng):
    agree(softmax, tensors([rng.normal(size=(3, 4, 5))]), axis=axis)


def test_the_gradient_of_cross_entropy_by_hand():
    logits = Tensor(np.log([[1.0, 3.0], [1.0, 1.0]]), requires_grad=True)
    dx = gradient(mean_cross_entropy(logits, np.array([1, 0])), logits)
    expected = [[1 / 8, -1 / 8], [-1 / 4, 1 / 4]]
    np.testing.assert_allclose(dx, expected, err_msg="p less 1 at the target, over their number")


@pytest.mark.parametrize("ignored", [-100, 3])
def test_the_gradient_of_cross_entropy_where_targets_are_ignored(ignored, rng):
    targets = np.array([[2, 0, ignored], [ignored, 1, 2]])
    logits = tensors([rng.normal(size=(2, 3, 4))])
    agree(mean_cross_entropy, [*logits, targets], np.array(2.0), ignore_index=ignored)
    loss = mean_cross_entropy(*logits, targets, ignore_index=ignored)
    there = gradient(loss, logits[0])[targets == ignored]
    assert not there.any(), "a target that does not count sends nothing back"


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)], ids=str)
def test_the_gradients_of_a_linear_layer(shape, rng):
    agree(linear, tensors([rng.normal(size=s) for s in (shape, (5, 4), (5,))]))
    agree(linear, tensors([rng.normal(size=s) for s in (shape, (5, 4))]))


def test_a_linear_layer_makes_only_the_gradients_that_are_wanted():
    agree_when_some_are_wanted(linear, case("linear", (2, 3, 4), (5, 4), (5,)))
    shapes = (2, 3, 4), (5, 4), (5,)
    for wanted in itertools.product([True, False], repeat=3):
        found = _gradients(np.ones((2, 3, 5)), np.ones(shapes[0]), np.ones(shapes[1]), wanted)
        made = [None if a is None else a.shape for a in found]
        assert made == [s if want else None for s, want in zip(shapes, wanted)], f"for {wanted}"


@pytest.mark.parametrize("times", [1, FEW], ids=["few", "many"])
def test_rows_are_added_where_their_ids_say(times):
    ids = np.tile([2, 0, 2, -1, 3], times)  # -1 and 3 are the same row of 4
    g = np.tile(np.arange(1, 11, dtype=np.float32).reshape(5, 2), (times, 1))
    expected = np.array([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [16.0, 18.0]]) * times
    found = sum_by_row(g, ids, 4)
    np.testing.assert_allclose(
        found, expected, err_msg="a row that is looked up twice gathers both"
    )
    assert found.dtype == g.dtype


def test_the_gradient_of_rms_norm_by_hand():
    x = Tensor(np.array([[1.0, 7.0]]), requires_grad=True)  # a root mean square of 5
    dx = gradient(rms_norm(x, eps=0.0), x, np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(dx, [[0.196, -0.028]], err_msg="dx = (g - n mean(g n)) / rms")


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("norm", [layer_norm, rms_norm], ids=["layer_norm", "rms_norm"])
def test_the_gradients_of_a_norm(norm, dims, rng):
    shape = (4, 3, 5)
    arrays = [rng.normal(1, 2, size=shape), rng.normal(size=shape[-dims:])]
    agree(norm, tensors(arrays), dims=dims)
    agree(norm, tensors(arrays[:1]), dims=dims)
