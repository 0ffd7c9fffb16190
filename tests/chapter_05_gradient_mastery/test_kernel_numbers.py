"""Kernels at the ends of what floats can hold: saturation, infinities, NaN, large means, long sums.

What they give there is what their composed forms give.
"""

from __future__ import annotations

import numpy as np
import pytest

from chapter_05_gradient_mastery import (
    FUSED,
    batch_norm,
    embedding,
    gelu,
    layer_norm,
    linear,
    linear_activation,
    log_softmax,
    masked,
    mean_cross_entropy,
    rms_norm,
    silu,
    softmax,
)
from utils import Tensor, grad

FAR = [-1000.0, -40.0, -0.0, 0.0, 40.0, 1000.0]


def both(kernel, x, *others, g=None, **options):
    """The value and the gradient by x, of the kernel and of its composed form."""
    results = []
    for function in (kernel, kernel.composed):
        leaf = Tensor(x, requires_grad=True)
        y = function(leaf, *others, **options)
        results += [y.data, grad(y, [leaf], np.ones(y.shape, y.dtype) if g is None else g)[0].data]
    return results


def agree(kernel, x, *others, tolerance=1e-12, **options):
    y, dx, expected, expected_dx = both(kernel, x, *others, **options)
    np.testing.assert_allclose(y, expected, tolerance, tolerance, err_msg="the value")
    np.testing.assert_allclose(dx, expected_dx, tolerance, tolerance, err_msg="the gradient")
    return y, dx


# Saturation


@pytest.mark.parametrize("dtype, tolerance", [("f4", 1e-6), ("f8", 1e-12)])
@pytest.mark.parametrize(
    "kernel, options", [(gelu, {}), (gelu, {"approximate": "tanh"}), (silu, {})], ids=str
)
def test_activations_far_from_zero(kernel, options, dtype, tolerance):
    y, dx = agree(kernel, np.array(FAR, dtype), tolerance=tolerance, **options)
    np.testing.assert_allclose(y[[0, -1]], [0, 1000], atol=1e-10)
    np.testing.assert_allclose(dx, [0, 0, 0.5, 0.5, 1, 1], atol=1e-10)


@pytest.mark.parametrize("activation", FUSED)
@pytest.mark.parametrize("dtype, tolerance", [("f4", 1e-6), ("f8", 1e-12)])
def test_linear_activation_far_from_zero(activation, dtype, tolerance):
    one = np.ones((1, 1), dtype)
    x = np.array(FAR, dtype)[:, None]
    _, dx = agree(linear_activation, x, one, tolerance=tolerance, activation=activation)
    if activation == "relu":
        assert dx.ravel().tolist() == [0, 0, 0, 0, 1, 1], "the derivative of relu at 0 is 0"


@pytest.mark.parametrize("kernel", [softmax, log_softmax])
@pytest.mark.parametrize("dtype, tolerance", [("f4", 1e-5), ("f8", 1e-12)])
def test_softmax_of_logits_far_apart(kernel, dtype, tolerance):
    x = np.array([[1000, -1000, 0], [-1000, -1000, -1000], [1000, 1000, 999]], dtype)
    g = np.array([[1, 2, 3], [4, 5, 6], [-1, 0, 1]], dtype)
    y, dx = agree(kernel, x, tolerance=tolerance, g=g)
    assert np.isfinite(y).all() and np.isfinite(dx).all()


def test_cross_entropy_of_logits_far_apart():
    x = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]])
    loss, dx = agree(mean_cross_entropy, x, np.array([0, 0]))
    assert loss == 1000 and dx.tolist() == [[0, 0], [-0.5, 0.5]]


# Infinities and NaN


@pytest.mark.parametrize("kernel", [softmax, log_softmax])
def test_rows_of_minus_infinity(kernel):
    x = np.array([[-np.inf] * 3, [0.0, -np.inf, 1.0]])
    g = np.array([[1.0, 2.0, 3.0], [1.0, 0.0, -1.0]])
    y, dx = agree(kernel, x, g=g)
    assert np.isnan(y[0]).all() and np.isnan(dx[0]).all(), "as PyTorch's: there is no distribution"
    assert np.isfinite(dx[1]).all(), "what one row lacks is no other's trouble"


def test_cross_entropy_with_classes_ruled_out():
    x = np.array([[0.0, -np.inf, 1.0], [2.0, 1.0, -np.inf]])
    loss, dx = agree(mean_cross_entropy, x, np.array([0, 1]))
    assert np.isfinite(loss) and dx[0, 1] == 0 and dx[1, 2] == 0
    loss, _ = agree(mean_cross_entropy, x, np.array([1, 1]))
    assert loss == np.inf, "what was ruled out has come"


@pytest.mark.parametrize("activation", FUSED)
def test_nan_is_not_hidden(activation):
    x, one = np.array([[np.nan], [1.0]]), np.ones((1, 1))
    y, dx, expected, expected_dx = both(linear_activation, x, one, activation=activation)
    assert np.isnan(y[0]).all() and not np.isnan(y[1]).any()
    np.testing.assert_array_equal(np.isnan(dx), np.isnan(expected_dx))


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("rows", [6, 1500])
def test_a_bad_gradient_of_one_word_stays_with_that_word(bad, rows):
    """One-hot products multiply it by 0 for all other rows, and 0 times infinity is NaN."""
    g = np.ones((3, 2))
    g[1, 0] = bad
    weight = np.zeros((rows, 2))
    _, dx, _, expected = both(embedding, weight, np.array([0, 4, 2]), g=g)
    np.testing.assert_array_equal(dx, expected)


# Accuracy: float32 beside the same kernel in float64

LONG = 1 << 20


def error_in_float32(kernel, arrays, g, *others, **options):
    """The largest relative errors of the value and of every gradient."""
    results = []
    for dtype in (np.float32, np.float64):
        leaves = [Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        y = kernel(*leaves, *others, **options)
        results.append([y.data, *(x.data for x in grad(y, leaves, g.astype(dtype)))])
    return [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(*results)]


@pytest.mark.parametrize(
    "kernel, shapes, options",
    [
        (linear, [(LONG, 1), (2, 1), (2,)], {}),
        (linear_activation, [(LONG, 1), (2, 1), (2,)], {"activation": "tanh"}),
        (batch_norm, [(LONG, 2), (2,), (2,)], {}),
        (batch_norm, [(64, 2, LONG // 64), (2,), (2,)], {}),
        (layer_norm, [(LONG, 2), (2,), (2,)], {"eps": 1.0}),
        (layer_norm, [(2, 1 << 16), (1 << 16,), (1 << 16,)], {}),
        (rms_norm, [(LONG, 2), (2,)], {}),
        (rms_norm, [(2, 1 << 16), (1 << 16,)], {}),
        (softmax, [(2, LONG)], {"axis": 1}),
        (softmax, [(LONG, 2)], {"axis": 0}),
        (log_softmax, [(LONG, 2)], {"axis": 0}),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_long_sums_in_float32(kernel, shapes, options):
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 1.5, shape) for shape in shapes]
    g = rng.uniform(0.5, 1.5, kernel(*arrays, **options).shape)
    errors = error_in_float32(kernel, arrays, g, **options)
    composed = error_in_float32(kernel.composed, arrays, g, **options)
    for i, (error, other) in enumerate(zip(errors, composed)):
        what = "the value" if i == 0 else f"the gradient by argument {i - 1}"
        assert error < max(2e-5, 10 * other), f"{what}: NumPy adds float32 one by one along axis 0"


@pytest.mark.parametrize(
    "kernel, shapes",
    [
        (linear, [(LONG, 2), (2, 2), (2,)]),
        (linear_activation, [(LONG, 2), (2, 2), (2,)]),
        (layer_norm, [(LONG, 2), (2,), (2,)]),
        (batch_norm, [(LONG, 2), (2,), (2,)]),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_a_bias_gathers_a_million_float32_gradients(kernel, shapes):
    """One by one, a million times 0.1 makes 100,958."""
    args = [Tensor(np.ones(shape, np.float32), requires_grad=True) for shape in shapes]
    args[0].data[::2] = 2  # or batch norm would have no variance
    (found,) = grad(kernel(*args), args[2:], np.full(shapes[0], 0.1, np.float32))
    np.testing.assert_allclose(found.data, 0.1 * LONG, rtol=1e-5)


@pytest.mark.parametrize("rows", [4, 1500])
def test_a_word_that_stands_everywhere_in_float32(rows):
    ids = np.full(LONG, 3)
    g = np.random.default_rng(0).uniform(0.5, 1.5, (LONG, 1)).astype(np.float32)
    weight = Tensor(np.zeros((rows, 1), np.float32), requires_grad=True)
    (found,) = grad(embedding(weight, ids), [weight], g)
    np.testing.assert_allclose(found.data[3], g.sum(dtype=np.float64), rtol=1e-5)


def test_a_mean_loss_over_many_targets_in_float32():
    x = np.random.default_rng(0).normal(3, 1, (LONG, 2))
    targets = np.zeros(LONG, int)
    loss = mean_cross_entropy(x.astype(np.float32), targets)
    np.testing.assert_allclose(loss, mean_cross_entropy(x, targets), rtol=1e-6)


@pytest.mark.parametrize("kernel, shape", [(layer_norm, (4, 64)), (batch_norm, (64, 4))])
def test_a_large_mean_does_not_eat_the_variance(kernel, shape):
    x = 10_000 + np.random.default_rng(0).normal(size=shape)
    found, expected = kernel(x.astype(np.float32)), kernel(x)
    np.testing.assert_allclose(found, expected, atol=5e-3, err_msg="E[x^2] - mean^2 has no digits")


def test_masked_infinities_are_as_the_composed_form():
    x = np.array([np.inf, 1.0, np.inf])
    agree(masked, x, np.array([True, True, True]), scale=2.0)
