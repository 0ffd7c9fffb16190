"""Numerical differentiation: quotients by hand, how their errors shrink, and where they stop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_01_autodiff.numerical import (
    central_difference,
    difference_errors,
    forward_difference,
    numerical_gradient,
)
from utils import Tensor, grad


def test_differences_by_hand():
    square = lambda x: x * x
    # (3.5² - 3²) / 0.5 and (3.5² - 2.5²) / 1: no rounding anywhere.
    assert forward_difference(square, 3.0, 0.5) == 6.5
    assert central_difference(square, 3.0, 0.5) == 6.0


def test_central_difference_of_a_cube_is_wrong_by_the_square_of_the_step():
    assert central_difference(lambda x: x**3, 2.0, 0.25) == 12 + 0.25**2


@pytest.mark.parametrize(("method", "order"), [(forward_difference, 1), (central_difference, 2)])
def test_half_the_step_and_the_error_falls_with_its_order(method, order):
    errors = [abs(method(math.sin, 1.0, h) - math.cos(1.0)) for h in (1e-2, 5e-3)]
    ratio = errors[0] / errors[1]
    assert ratio == pytest.approx(2**order, rel=0.02), (
        f"half the step should make the error {2**order} times smaller, yours got {ratio:.3f} "
        "times smaller: is the quotient's other point where it should be?"
    )


@pytest.mark.parametrize("method", [forward_difference, central_difference])
@pytest.mark.parametrize("x", [-1.3, 0.0, 0.7])
def test_default_steps_are_good(method, x):
    assert method(math.exp, x) == pytest.approx(math.exp(x), abs=1e-7)


def test_the_error_curve_falls_and_rises_again():
    steps = np.logspace(-1, -15, 57)
    errors = difference_errors(math.sin, math.cos(1.0), 1.0, steps)
    for name in ("forward", "central"):
        error = np.asarray(errors[name])
        assert error.shape == steps.shape and (error >= 0).all()
        best = int(error.argmin())
        assert error[0] > 1e3 * error[best], f"{name}: large steps must miss the curvature"
        assert error[-1] > 1e3 * error[best], f"{name}: small steps must drown in rounding"
    assert 100 * errors["central"].min() < errors["forward"].min()
    assert steps[errors["central"].argmin()] > steps[errors["forward"].argmin()], (
        "the central difference is at its best with the larger step: its error falls faster, "
        "so rounding takes over earlier"
    )


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,)])
def test_gradient_has_the_shape_of_the_point_and_agrees_with_reverse_mode(shape, rng):
    point = rng.normal(size=shape)
    function = lambda x: np.sum(np.sin(x) * x)
    leaf = Tensor(point, requires_grad=True)
    (exact,) = grad(function(leaf), [leaf])
    found = numerical_gradient(function, point)
    assert found.shape == shape
    np.testing.assert_allclose(found, exact.data, atol=1e-9)


def test_gradient_moves_one_number_at_a_time_and_leaves_the_point_alone():
    point = np.array([1.0, -2.0, 4.0])
    seen = []

    def function(x):
        seen.append(np.count_nonzero(np.asarray(x) != [1.0, -2.0, 4.0]))
        return x[0] * x[1] * x[2]

    np.testing.assert_allclose(numerical_gradient(function, point), [-8, 4, -2], rtol=1e-8)
    assert max(seen) <= 1, "two numbers were moved at once: put the first one back"
    np.testing.assert_array_equal(point, [1.0, -2.0, 4.0], "the caller's point has been moved")


def test_whole_numbers_are_moved_by_less_than_one():
    found = numerical_gradient(lambda x: x[0] ** 2 + 3 * x[1], np.array([3, 5]))
    np.testing.assert_allclose(
        found, [6, 3], rtol=1e-8, err_msg="in an array of integers, 3 + 1e-5 is 3: use floats"
    )


def test_a_function_of_several_outputs_has_no_gradient():
    with pytest.raises((TypeError, ValueError)):
        numerical_gradient(lambda x: x, [1.0, 2.0])
