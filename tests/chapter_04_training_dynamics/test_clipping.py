"""Clipping: lengths by hand, directions kept, and gradients that are no numbers."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Batches, Linear, mse_loss, train
from chapter_04_training_dynamics import clip_grad_norm, clip_grad_value
from utils import Tensor


def leaf(gradient, dtype=np.float32):
    p = Tensor(np.zeros(np.shape(gradient), dtype), requires_grad=True)
    p.grad = None if gradient is None else np.array(gradient, dtype)
    return p


def test_by_hand():
    p, q = leaf([3.0, 0.0]), leaf([[4.0]])
    buffer = p.grad
    assert clip_grad_norm([p, q], 1.0) == pytest.approx(5.0), "the norm before, of all together"
    np.testing.assert_allclose(p.grad, [0.6, 0.0], rtol=1e-5)
    np.testing.assert_allclose(q.grad, [[0.8]], rtol=1e-5)
    assert p.grad is buffer, "in place: others may hold the same buffer"


def test_just_as_much_as_needed():
    p = leaf([3.0, 4.0])
    clip_grad_norm(p, 4.0)
    np.testing.assert_allclose(p.grad, [2.4, 3.2], rtol=1e-5)


def test_short_gradients_stay_as_they_are():
    p = leaf([0.3, 0.4])
    assert clip_grad_norm(p, 1.0) == pytest.approx(0.5)
    assert p.grad.tolist() == leaf([0.3, 0.4]).grad.tolist()
    assert clip_grad_norm(p, float("inf")) == pytest.approx(0.5), "inf only measures"


@pytest.mark.parametrize("norm_type, expected", [(1, 7.0), (2, 5.0), (float("inf"), 4.0)])
def test_other_norms(norm_type, expected):
    assert clip_grad_norm([leaf([3.0]), leaf([-4.0])], 100, norm_type) == pytest.approx(expected)


def test_iterables_and_parameters_without_gradients():
    without = Tensor([1.0], requires_grad=True)
    assert clip_grad_norm((p for p in [without, leaf([2.0])]), 1.0) == pytest.approx(2.0)
    assert without.grad is None
    assert clip_grad_norm([], 1.0) == 0.0
    assert clip_grad_norm([without], 1.0) == 0.0
    assert clip_grad_norm([leaf(np.zeros((0, 3)))], 1.0) == 0.0
    clip_grad_value([without], 1.0)


def test_a_gradient_whose_square_leaves_float32_is_clipped_all_the_same():
    p = leaf([3e30, 4e30])
    assert clip_grad_norm(p, 1.0) == pytest.approx(5e30)
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-5)


def test_gradients_that_are_no_numbers():
    p, q = leaf([np.inf, 1.0]), leaf([1.0])
    with pytest.raises(FloatingPointError, match="inf"):
        clip_grad_norm([p, q], 1.0, error_if_nonfinite=True)
    assert q.grad.tolist() == [1.0], "nothing is changed on an error"
    assert clip_grad_norm([p, q], 1.0) == np.inf
    assert np.isnan(p.grad[0]) and q.grad.tolist() == [0.0], "as PyTorch: inf * 0"
    p, q = leaf([np.nan]), leaf([1.0])
    assert np.isnan(clip_grad_norm([p, q], 1.0))
    assert np.isnan(q.grad[0]), "no step may be taken with a gradient that is no number"


def test_by_value():
    p = leaf([-3.0, 0.2, 3.0])
    buffer = p.grad
    clip_grad_value(p, 0.5)
    np.testing.assert_allclose(p.grad, [-0.5, 0.2, 0.5])
    assert p.grad is buffer


def test_as_a_step_of_training(rng):
    model = Linear(3, 1, rng=rng)
    before = model.weight.data.copy()
    data = 1e6 * rng.normal(size=(8, 3)).astype(np.float32)
    train(
        model,
        SGD(model.parameters(), lr=0.1),
        Batches(data, data[:, :1], batch_size=8, rng=rng),
        1,
        loss=lambda m, x, y: mse_loss(m(x), y),
        before_step=[lambda m: clip_grad_norm(m.parameters(), 1.0)],
    )
    assert np.linalg.norm(model.weight.data - before) <= 0.1 + 1e-6, "lr times the clipped norm"


@pytest.mark.parametrize(
    "clip, said",
    [
        (lambda p: clip_grad_norm(p, -1.0), "max_norm .* -1"),
        (lambda p: clip_grad_norm(p, float("nan")), "max_norm .* nan"),
        (lambda p: clip_grad_norm(p, 1.0, norm_type=0), "norm_type .* 0"),
        (lambda p: clip_grad_norm(p, 1.0, norm_type=float("nan")), "norm_type .* nan"),
        (lambda p: clip_grad_value(p, -1.0), "clip_value .* -1"),
        (lambda p: clip_grad_value(p, float("nan")), "clip_value .* nan"),
    ],
)
def test_limits_out_of_range(clip, said):
    p = leaf([1.0])
    with pytest.raises(ValueError, match=said):
        clip(p)
    assert p.grad.tolist() == [1.0]
