"""Values and gradients where functions bend, break or saturate, written out by hand.

They are PyTorch's; `test_torch_parity.py` compares the two where PyTorch is installed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from utils import Tensor, grad

inf, nan = math.inf, math.nan


def gradient(function, *arrays, dtype="f8"):
    """The value of a function and, for each array, the gradient of the sum of its elements."""
    leaves = [Tensor(np.array(a, dtype), requires_grad=True) for a in arrays]
    with np.errstate(all="ignore"):
        y = function(*leaves)
    return y, [g.data for g in grad(y, leaves, np.ones(y.shape))]


# function, argument, value, gradient
ONE = {
    "relu": (lambda x: x.relu(), [-1, -0.0, 0, 2, inf], [0, 0, 0, 2, inf], [0, 0, 0, 1, 1]),
    "abs": (np.abs, [-2, -0.0, 0, 2, -inf], [2, 0, 0, 2, inf], [-1, 0, 0, 1, -1]),
    "sign": (np.sign, [-2, 0, 3], [-1, 0, 1], [0, 0, 0]),
    "sqrt": (np.sqrt, [0, 4, -1, inf], [0, 2, nan, inf], [inf, 0.25, nan, 0]),
    "log": (np.log, [0, 1, -1, inf], [-inf, 0, nan, inf], [inf, 1, -1, 0]),
    "log1p": (np.log1p, [-1, 0], [-inf, 0], [inf, 1]),
    "square": (np.square, [0, -3], [0, 9], [0, -6]),
    "reciprocal": (lambda x: 1 / x, [0, 2, -0.0], [inf, 0.5, -inf], [-inf, -0.25, -inf]),
    "exp": (np.exp, [-1000, 0, 1000], [0, 1, inf], [0, 1, inf]),
    "tanh": (np.tanh, [-1000, 0, 1000], [-1, 0, 1], [0, 1, 0]),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), [0, 1000], [0.5, 1], [0.25, 0]),
    "arctan": (np.arctan, [-1000, 0], [-math.atan(1000), 0], [1 / 1000001, 1]),
    "x ** 0": (lambda x: x**0, [-2, 0, 3, inf], [1, 1, 1, 1], [0, 0, 0, 0]),
    "x ** 0.0": (lambda x: x**0.0, [-2, 0, 3], [1, 1, 1], [0, 0, 0]),
    "x ** 1": (lambda x: x**1, [-2, 0, 3], [-2, 0, 3], [1, 1, 1]),
    "x ** 2": (lambda x: x**2, [-2, 0, 3], [4, 0, 9], [-4, 0, 6]),
    "x ** 3": (lambda x: x**3, [-2, 0], [-8, 0], [12, 0]),
    "x ** -1": (lambda x: x**-1, [-2.0, 0], [-0.5, inf], [-0.25, -inf]),
    "x ** 0.5": (lambda x: x**0.5, [0, 4, -1], [0, 2, nan], [inf, 0.25, nan]),
    "x ** 1.5": (lambda x: x**1.5, [0, 4], [0, 8], [0, 3]),
    "0 ** x": (lambda x: 0.0**x, [0, 2], [1, 0], [0, 0]),
    "2 ** x": (lambda x: 2.0**x, [0, -1], [1, 0.5], [math.log(2), math.log(2) / 2]),
    "clip": (lambda x: np.clip(x, -1, 1), [-2, -1, 0, 1, 2], [-1, -1, 0, 1, 1], [0, 1, 1, 1, 0]),
    "max": (np.max, [1, 3, 3, 2], 3, [0, 0.5, 0.5, 0]),
    "max of equals": (np.max, [2, 2, 2, 2], 2, [0.25] * 4),
    "min": (np.min, [1, 3, 1], 1, [0.5, 0, 0.5]),
    "prod, one zero": (np.prod, [2, 0, 5], 0, [0, 10, 0]),
    "prod, two zeros": (np.prod, [0, 0, 5], 0, [0, 0, 0]),
    "cumprod, a zero": (np.cumprod, [2, 0, 5], [2, 0, 0], [1, 12, 0]),
    "norm at 0": (np.linalg.norm, [0, 0], 0, [0, 0]),
    "floor": (np.floor, [-0.5, 1, 2.7], [-1, 1, 2], [0, 0, 0]),
    "nan": (lambda x: x * 2, [nan, 1], [nan, 2], [2, 2]),
    "0 / 0": (lambda x: x / x, [0, 1], [nan, 1], [nan, 0]),
}
# function, arguments, value, gradients
TWO = {
    "maximum": (np.maximum, [1, 2, 3], [3, 2, 1], [3, 2, 3], [0, 0.5, 1], [1, 0.5, 0]),
    "minimum": (np.minimum, [1, 2, 3], [3, 2, 1], [1, 2, 1], [1, 0.5, 0], [0, 0.5, 1]),
    "0 / 0": (np.divide, [0, 1, 0], [0, 0, 2], [nan, inf, 0], [inf, inf, 0.5], [nan, -inf, 0]),
    "0 ** 0": (np.power, [0, 0, 2], [0, 2, 0], [1, 0, 1], [0, 0, 0], [0, 0, math.log(2)]),
    "negative bases": (np.power, [-2, -2], [2, 0.5], [4, nan], [-4, nan], [nan, nan]),
    "0 ** -1": (np.power, [0], [-1], [inf], [-inf], [-inf]),
    "logaddexp": (
        np.logaddexp,
        [1000, -1000],
        [0, -1000],
        [1000, -1000 + math.log(2)],
        [1, 0.5],
        [0, 0.5],
    ),
    "hypot": (np.hypot, [3, -3], [4, 0], [5, 3], [0.6, -1], [0.8, 0]),
    "arctan2": (np.arctan2, [0, 1], [1, 0], [0, math.pi / 2], [1, 0], [0, -1]),
    "remainder": (np.remainder, [5, -5], [3, 3], [2, 1], [1, 1], [-1, 2]),
    "where": (lambda a, b: np.where(a > b, a, b), [1, 2], [2, 2], [2, 2], [0, 0], [1, 1]),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", ONE)
def test_one_argument(name, dtype):
    function, x, value, slope = ONE[name]
    y, (g,) = gradient(function, x, dtype=dtype)
    np.testing.assert_allclose(y.data, value, rtol=1e-6, err_msg=f"value of {name} at {x}")
    np.testing.assert_allclose(g, slope, rtol=1e-6, err_msg=f"gradient of {name} at {x}")
    assert g.dtype == dtype


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", TWO)
def test_two_arguments(name, dtype):
    function, a, b, value, *slopes = TWO[name]
    y, found = gradient(function, a, b, dtype=dtype)
    np.testing.assert_allclose(y.data, value, rtol=1e-6, err_msg=f"value of {name}")
    for g, slope, which in zip(found, slopes, ("first", "second")):
        np.testing.assert_allclose(g, slope, rtol=1e-6, err_msg=f"{which} gradient of {name}")


def softmax(x):
    shifted = np.exp(x - np.max(x, axis=-1, keepdims=True).detach())
    return shifted / np.sum(shifted, axis=-1, keepdims=True)


def test_softmax_saturates_without_nan():
    y, (g,) = gradient(lambda x: softmax(x)[..., 0], [[1000, 0, -1000], [-inf, 0, 0]])
    np.testing.assert_array_equal(y.data, [1, 0])
    np.testing.assert_array_equal(g, np.zeros((2, 3)))


def test_softmax_of_nothing_but_minus_infinity_is_nan():
    y, (g,) = gradient(softmax, [[-inf, -inf], [0, 0]])
    assert np.isnan(y.data[0]).all() and np.isnan(g[0]).all(), "0 / 0, as in PyTorch"
    np.testing.assert_allclose(y.data[1], [0.5, 0.5])
    np.testing.assert_allclose(g[1], 0, atol=1e-12)


def test_one_where_lets_a_nan_through_and_two_do_not():
    """The branch not taken has an infinite slope, and 0 times infinity is NaN."""
    _, (once,) = gradient(lambda x: np.where(x > 0, np.sqrt(x), 0), [0, 4])
    assert np.isnan(once[0]) and once[1] == 0.25
    _, (twice,) = gradient(lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0), [0, 4])
    assert twice.tolist() == [0, 0.25]


def test_nan_in_maximum_reaches_both():
    y, (a, b) = gradient(np.maximum, [nan, 1], [1, nan])
    assert np.isnan(y.data).all() and a.tolist() == [1, 1] and b.tolist() == [1, 1]


def test_fmax_ignores_nan_and_its_gradient_goes_to_the_number():
    y, (a, b) = gradient(np.fmax, [nan, 1], [2, nan])
    assert y.data.tolist() == [2, 1] and a.tolist() == [0, 1] and b.tolist() == [1, 0]


@pytest.mark.parametrize("function", [np.var, np.std])
def test_var_and_std_of_a_constant_have_gradient_zero(function):
    y, (g,) = gradient(function, [3, 3, 3])
    assert y.item() == 0 and g.tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [1e3, 1e6, 1e8])
def test_logaddexp_of_large_equals_shares_evenly_in_float32(size):
    _, (a, b) = gradient(np.logaddexp, [size, -size], [size, -size], dtype="f4")
    np.testing.assert_allclose(a, 0.5, rtol=1e-6)
    np.testing.assert_allclose(b, 0.5, rtol=1e-6)


@pytest.mark.parametrize("order", [None, 1, 2, 3, 1.5, np.inf])
def test_norms_of_zeros_have_gradient_zero(order):
    y, (g,) = gradient(lambda x: np.linalg.norm(x, order), [0, 0, 0])
    assert y.item() == 0 and g.tolist() == [0, 0, 0]


@pytest.mark.parametrize("matrix, adjugate", [([[1, 2], [2, 4]], [[4, -2], [-2, 1]])])
def test_det_of_a_singular_matrix_has_its_adjugate_as_gradient(matrix, adjugate):
    y, (g,) = gradient(np.linalg.det, matrix)
    np.testing.assert_allclose(y.data, 0, atol=1e-12)
    np.testing.assert_allclose(g, adjugate)


def test_the_gradient_of_max_does_not_hide_a_nan():
    y, (g,) = gradient(np.max, [nan, 1, 2])
    assert np.isnan(y.item()) and np.isnan(g).any()


def test_relu_of_nan_does_not_hide_it():
    y, (g,) = gradient(lambda x: x.relu(), [nan])
    assert np.isnan(y.data[0]) and g[0] == 1


def test_arctan2_at_the_origin_has_gradient_zero():
    _, (a, b) = gradient(np.arctan2, [0], [0])
    assert a[0] == 0 and b[0] == 0


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_empty_arrays_have_empty_gradients(shape):
    for function in (
        np.sum,
        np.exp,
        np.ravel,
        np.sort,
        np.cumsum,
        np.square,
        lambda x: x @ np.ones((shape[-1], 2)),
    ):
        y, (g,) = gradient(function, np.zeros(shape))
        assert g.shape == shape
        assert y.data.sum() == 0


def test_max_of_an_empty_array_is_an_error():
    with pytest.raises(ValueError):
        np.max(Tensor(np.zeros(0), requires_grad=True))


def test_an_empty_batch_gives_a_bias_a_gradient_of_zero():
    _, (dx, db) = gradient(np.add, np.zeros((0, 3)), np.zeros(3))
    assert dx.shape == (0, 3) and db.tolist() == [0, 0, 0]


def test_a_backward_pass_over_infinities_does_not_warn():
    x = Tensor(np.array([0.0]), requires_grad=True)
    with np.errstate(divide="ignore"):
        y = np.log(x).sum()
    y.backward()  # warnings are errors in this suite
    assert x.grad[0] == inf


def test_warnings_of_the_forward_pass_are_numpys():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.log(Tensor(np.array([0.0]), requires_grad=True))


@pytest.mark.parametrize("b", [0.0, 1.0, 2.0, 3.0])
def test_second_derivatives_of_powers_at_zero_are_finite(b):
    x = Tensor(np.zeros(1), requires_grad=True)
    exponent = Tensor(np.array([b]), requires_grad=True)
    for y in (x**b, np.power(x, exponent)):
        (g,) = grad(y.sum(), x, create_graph=True)
        second = grad((g * 1.0).sum(), x)[0].item()
        assert second == (2 if b == 2 else 0)
