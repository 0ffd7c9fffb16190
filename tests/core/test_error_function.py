"""The error function: Python's own on a grid, at the ends, on arrays of all kinds; its slope."""

from __future__ import annotations

import math

import numpy as np
import pytest

from utils import Tensor, check_gradients
from utils.primitives import erf

GRID = np.concatenate(
    [
        np.linspace(-7, 7, 20_001),
        np.geomspace(1e-300, 1, 1000),
        -np.geomspace(1e-300, 1, 1000),
        np.nextafter([4, 6, -4, -6], 0),
        [4, 6, 30, 1e300, -30, -1e300],
    ]
)
# The largest error.
ACCURACY = {np.float16: 1e-3, np.float32: 4e-7, np.float64: 2e-14}


def exactly(xs):
    return np.array([math.erf(x) for x in np.asarray(xs, np.float64).ravel()])


@pytest.mark.parametrize("dtype", ACCURACY)
def test_it_is_pythons_over_a_grid(dtype):
    with np.errstate(over="ignore", under="ignore"):
        xs = GRID.astype(dtype)
    y = erf(xs)
    assert y.dtype == dtype
    error = np.abs(y.astype(np.float64) - exactly(xs))
    worst = error.argmax()
    assert error[worst] <= ACCURACY[dtype], f"erf({xs[worst]}) is off by {error[worst]:.1e}"
    assert np.all(np.abs(y) <= 1), "no probability is above 1"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_zero_it_is_as_good_in_proportion(dtype):
    xs = np.geomspace(1e-30, 0.5, 500).astype(dtype)
    np.testing.assert_allclose(erf(xs), exactly(xs), rtol=ACCURACY[dtype])


@pytest.mark.parametrize("dtype", ACCURACY)
def test_it_is_odd(dtype):
    xs = np.linspace(0, 7, 999).astype(dtype)
    np.testing.assert_array_equal(erf(-xs), -erf(xs))


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_ends(dtype):
    found = erf(np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype))
    np.testing.assert_array_equal(found, np.array([0, 0, 1, -1, np.nan], dtype))
    assert np.signbit(found).tolist()[:4] == [False, True, False, True]


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, bool])
def test_integers_become_floats(dtype):
    found = erf(np.array([0, 1, 3], dtype))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, exactly(np.array([0, 1, 3], dtype)), atol=2e-14)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_shape(shape, dtype):
    xs = np.full(shape, 0.5, dtype)
    assert erf(xs).shape == shape and erf(xs).dtype == dtype
    np.testing.assert_allclose(erf(xs), math.erf(0.5), rtol=2e-3 if dtype == np.float16 else 1e-6)
    x = Tensor(xs, requires_grad=True)
    y = erf(x)
    assert isinstance(y, Tensor) and y.shape == shape and y.dtype == dtype
    y.backward(np.ones(shape, dtype))
    assert x.grad.shape == shape and x.grad.dtype == dtype


def test_numbers_and_arrays_of_any_layout():
    assert float(erf(0.5)) == pytest.approx(math.erf(0.5), abs=1e-13)
    xs = np.linspace(-2, 2, 24).reshape(4, 6)
    for view in (xs.T, xs[::2, ::-1], np.broadcast_to(xs[0], (3, 6))):
        before = view.copy()
        np.testing.assert_allclose(erf(view), exactly(view).reshape(view.shape), atol=2e-14)
        np.testing.assert_array_equal(view, before, "the argument stays as it is")


def test_derivatives_to_the_third_order():
    check_gradients(erf, [np.linspace(-3, 3, 13)], order=3, tolerance=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_slope(dtype):
    x = Tensor(np.array([0, 1, -1, 1000, np.inf], dtype), requires_grad=True)
    erf(x).backward(np.ones(5, dtype))
    slope = 2 / math.sqrt(math.pi)
    np.testing.assert_allclose(x.grad, [slope, slope / math.e, slope / math.e, 0, 0], rtol=1e-6)
