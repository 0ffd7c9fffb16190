"""Every elementwise rule against NumPy's value and central differences, up to the third order."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad
from utils.primitives import astype, clip, erf, relu, where, zeroed

# Each function with the interval its arguments are drawn from, away from kinks and poles.
CURVED = {
    np.reciprocal: (0.5, 2),
    np.square: (-2, 2),
    np.sqrt: (0.5, 2),
    np.cbrt: (0.5, 2),
    np.exp: (-1, 1),
    np.exp2: (-1, 1),
    np.expm1: (-1, 1),
    np.log: (0.5, 2),
    np.log2: (0.5, 2),
    np.log10: (0.5, 2),
    np.log1p: (-0.4, 2),
    np.sin: (-2, 2),
    np.cos: (-2, 2),
    np.tan: (-0.8, 0.8),
    np.arcsin: (-0.6, 0.6),
    np.arccos: (-0.6, 0.6),
    np.arctan: (-2, 2),
    np.sinh: (-1, 1),
    np.cosh: (-1, 1),
    np.tanh: (-1, 1),
    erf: (-1, 1),
    np.arcsinh: (-2, 2),
    np.arccosh: (1.6, 3),
    np.arctanh: (-0.6, 0.6),
}
STRAIGHT = {
    np.negative: (-2, 2),
    np.positive: (-2, 2),
    np.conjugate: (-2, 2),
    np.absolute: (-2, 2),
    np.fabs: (-2, 2),
    np.deg2rad: (-2, 2),
    np.radians: (-2, 2),
    np.rad2deg: (-2, 2),
    np.degrees: (-2, 2),
    np.sign: (-2, 2),
    np.floor: (0.1, 0.9),
    np.ceil: (-0.9, -0.1),
    np.trunc: (1.1, 1.9),
    np.rint: (0.6, 1.4),
    np.round: (0.6, 1.4),
    np.nan_to_num: (-2, 2),
    relu: (-2, 2),
}
CURVED_PAIRS = {
    np.multiply: ((-2, 2), (-2, 2)),
    np.divide: ((-2, 2), (0.5, 2)),
    np.power: ((0.5, 2), (-2, 1.8)),
    np.hypot: ((0.5, 2), (-2, -0.5)),
    np.arctan2: ((0.5, 2), (-2, 2)),
    np.logaddexp: ((-1, 1), (-1, 1)),
    np.logaddexp2: ((-1, 1), (-1, 1)),
}
STRAIGHT_PAIRS = {
    np.add: ((-2, 2), (-2, 2)),
    np.subtract: ((-2, 2), (-2, 2)),
    np.remainder: ((2.1, 2.5), (1.3, 1.9)),
    np.fmod: ((-2.9, -2.7), (1.1, 1.3)),
    np.floor_divide: ((2.1, 2.9), (4.1, 5)),
    np.maximum: ((-2, 2), (-1.9, 1.8)),
    np.minimum: ((-2, 2), (-1.9, 1.8)),
    np.fmax: ((-2, 2), (-1.9, 1.8)),
    np.fmin: ((-2, 2), (-1.9, 1.8)),
}
UNARY, PAIRS = {**CURVED, **STRAIGHT}, {**CURVED_PAIRS, **STRAIGHT_PAIRS}
TESTED = {*UNARY, *PAIRS, np.where, np.clip, clip, where, zeroed, astype}

LAYOUTS = {
    "transposed": lambda t: t.T,
    "sliced": lambda t: t[::2, ::-1],
    "0-d": lambda t: t[0, 1],
    "zero-size": lambda t: t[:, :0],
}
PAIR_SHAPES = {
    "row": ((2, 3), (3,)),
    "column": ((2, 3), (2, 1)),
    "both": ((1, 3), (2, 1)),
    "0-d": ((), (2, 3)),
    "stack": ((3,), (2, 2, 3)),
    "zero-size": ((0, 3), (1, 3)),
}


def name(x):
    return getattr(x, "__name__", None)


def draw(interval, shape, seed=0):
    low, high = interval
    n = int(np.prod(shape))
    order = np.random.default_rng(seed).permutation(n)
    return (low + (high - low) * (order + 0.5) / max(n, 1)).reshape(shape)


@pytest.mark.parametrize("off", [True, False, [True, False, True], [[True], [False]]], ids=str)
def test_zeroed(off, check):
    off, x = np.array(off), np.array([[1.5, -2.0, np.pi], [-0.5, 3.0, 0.0]])
    assert np.array_equal(zeroed(x, off), np.where(off, 0, x))
    check(lambda a: zeroed(a * a, off), x, order=2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zeroed_hides_what_is_not_finite_and_nothing_else(dtype):
    x = np.array([np.nan, np.inf, -np.inf, np.nan, -0.0], dtype)
    y = zeroed(x, np.array([True, True, True, False, False]))
    assert y.dtype == dtype and y[:3].tolist() == [0, 0, 0]
    assert np.isnan(y[3]) and np.signbit(y[4])
    assert zeroed(np.array(2.0, dtype), np.array(True)) == 0


@pytest.mark.parametrize("function", UNARY, ids=name)
def test_function_of_one_array(function, check):
    x = draw(UNARY[function], (2, 2))
    check(function, x, order=3 if function in CURVED else 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", UNARY, ids=name)
def test_function_of_one_array_in_every_layout(function, layout, check):
    check(lambda t: function(LAYOUTS[layout](t)), draw(UNARY[function], (3, 2)))


@pytest.mark.parametrize("function", PAIRS, ids=name)
def test_function_of_two_arrays(function, check):
    x, y = PAIRS[function]
    check(function, draw(x, (3,)), draw(y, (3,), 1), order=3 if function in CURVED_PAIRS else 1)


@pytest.mark.parametrize("shapes", PAIR_SHAPES)
@pytest.mark.parametrize("function", PAIRS, ids=name)
def test_function_of_two_arrays_broadcasts(function, shapes, check):
    (x, y), (a, b) = PAIRS[function], PAIR_SHAPES[shapes]
    check(function, draw(x, a), draw(y, b, 1))


@pytest.mark.parametrize("function", [f for f in PAIRS if f not in (np.floor_divide,)], ids=name)
def test_with_a_constant_on_either_side(function, check):
    x, y = PAIRS[function]
    check(lambda a: function(a, float(y[1])), draw(x, (3,)))
    check(lambda b: function(np.full((2, 1), x[0]), b), draw(y, (3,)))


@pytest.mark.parametrize("function", [np.add, np.subtract, *CURVED_PAIRS], ids=name)
def test_the_same_tensor_twice(function, check):
    check(lambda a: function(a, a), draw((0.6, 1.8), (2, 3)), order=3)
    check(lambda a: function(a, a.T), draw((0.6, 1.8), (2, 2)), order=2)


def test_power_at_exponent_zero_mixes_its_two_derivatives(check):
    """d/db d/da of a**b at b = 0 is 1 / a, though d/da is 0 there."""
    check(np.power, np.array([0.5, 2.0]), np.array([0.0, 0.0]), order=3)


OPERATORS = """
a + b; a - b; a * b; a / b; a ** b; a % b; a @ b.T; -a; +a; abs(a); 2 + a; 2 - a; 2 * a
2 / a; 2.0 ** a; a ** 2; a ** 3; a ** -1; a ** 0.5; a ** 1; a ** 4; a % 5; 5 % a; 7 // a
a // 9
"""


def cases(text):
    return [case.strip() for case in text.strip().replace("\n", ";").split(";")]


@pytest.mark.parametrize("expression", cases(OPERATORS))
def test_operator(expression, check):
    function = eval(f"lambda a, b: {expression}")
    a, b = draw((0.6, 1.8), (2, 2)), draw((2.1, 2.9), (2, 2), 1)
    check(lambda t: function(t, b), a, order=3 if "%" not in expression else 1)
    if "b" in expression.replace("abs", ""):
        check(lambda a, b: function(a, b), a, b)
        check(lambda t: function(a, t), b)


CLIPS = """
np.clip(A, -1, 1); np.clip(A, None, 0.4); np.clip(A, -0.4, None)
np.clip(A, a_min=0, a_max=1); np.clip(A, B - 1, B + 0.8); np.clip(A, u[:, None], 3.0)
np.clip(A, -3, v + 0.1); A.clip(-1, 1); A.clip(min=0); np.where(A > 0, A, B)
np.where(A > 0, A, 0); np.where(A > 0, 1.5, A); np.where(True, A, v)
np.where(np.array([[True], [False], [True]]), v, s); np.where(A > 0, A * A, np.exp(A))
A.astype("f8")
"""


@pytest.mark.parametrize("expression", cases(CLIPS))
def test_choice(expression, check_expression):
    if expression.startswith("A."):
        expression = f"({expression})"
    check_expression(expression, linear=True)


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="min= came with 2.1")
def test_clip_by_the_newer_names(check):
    check(lambda a: np.clip(a, min=-1, max=0.5), draw((-2, 2), (5,)))


@pytest.mark.parametrize("function", [np.abs, np.tanh, np.exp, np.sqrt], ids=name)
def test_broadcast_and_reversed_views_as_leaves(function):
    base = np.array([0.5, 1.0, 1.5, 2.0])
    for view in (np.broadcast_to(base, (3, 4)), base[::-1], base[::2], base.reshape(2, 2).T):
        x, copy = Tensor(view, requires_grad=True), Tensor(view.copy(), requires_grad=True)
        found, expected = grad(function(x).sum(), x)[0], grad(function(copy).sum(), copy)[0]
        np.testing.assert_array_equal(found.data, expected.data)
