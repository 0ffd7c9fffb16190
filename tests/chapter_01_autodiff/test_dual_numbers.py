"""Forward mode: the arithmetic of dual numbers, and forward over reverse for second derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_01_autodiff.dual_numbers import Dual, directional_derivative, hessian_vector_product
from chapter_01_autodiff.transformations import hessian
from utils import Scalar, check_gradients

# Functions of one number that Dual and Scalar both compute, with their first two derivatives.
FUNCTIONS = {
    "x + 3": (lambda x: x + 3, lambda x: 1, lambda x: 0),
    "3 + x": (lambda x: 3 + x, lambda x: 1, lambda x: 0),
    "x - 3": (lambda x: x - 3, lambda x: 1, lambda x: 0),
    "3 - x": (lambda x: 3 - x, lambda x: -1, lambda x: 0),
    "-x": (lambda x: -x, lambda x: -1, lambda x: 0),
    "x * 3": (lambda x: x * 3, lambda x: 3, lambda x: 0),
    "3 * x": (lambda x: 3 * x, lambda x: 3, lambda x: 0),
    "x * x": (lambda x: x * x, lambda x: 2 * x, lambda x: 2),
    "x / 3": (lambda x: x / 3, lambda x: 1 / 3, lambda x: 0),
    "3 / x": (lambda x: 3 / x, lambda x: -3 / x**2, lambda x: 6 / x**3),
    "x / (x + 1)": (
        lambda x: x / (x + 1),
        lambda x: 1 / (x + 1) ** 2,
        lambda x: -2 / (x + 1) ** 3,
    ),
    "x**3": (lambda x: x**3, lambda x: 3 * x**2, lambda x: 6 * x),
    "x**-2": (lambda x: x**-2, lambda x: -2 * x**-3, lambda x: 6 * x**-4),
    "x**0.5": (lambda x: x**0.5, lambda x: 0.5 * x**-0.5, lambda x: -0.25 * x**-1.5),
    "x**0": (lambda x: x**0, lambda x: 0, lambda x: 0),
    "x**x": (
        lambda x: x**x,
        lambda x: x**x * (math.log(x) + 1),
        lambda x: x**x * (math.log(x) + 1) ** 2 + x ** (x - 1),
    ),
    "2**x": (
        lambda x: 2**x,
        lambda x: 2**x * math.log(2),
        lambda x: 2**x * math.log(2) ** 2,
    ),
    "exp": (lambda x: x.exp(), math.exp, math.exp),
    "log": (lambda x: x.log(), lambda x: 1 / x, lambda x: -1 / x**2),
    "sin": (lambda x: x.sin(), math.cos, lambda x: -math.sin(x)),
    "cos": (lambda x: x.cos(), lambda x: -math.sin(x), lambda x: -math.cos(x)),
    "tanh": (
        lambda x: x.tanh(),
        lambda x: 1 - math.tanh(x) ** 2,
        lambda x: -2 * math.tanh(x) * (1 - math.tanh(x) ** 2),
    ),
    "sin(x²) exp(-x)": (
        lambda x: (x * x).sin() * (-x).exp(),
        lambda x: math.exp(-x) * (2 * x * math.cos(x * x) - math.sin(x * x)),
        lambda x: math.exp(-x)
        * ((2 - 4 * x) * math.cos(x * x) + (1 - 4 * x * x) * math.sin(x * x)),
    ),
}
each_function = pytest.mark.parametrize("name", FUNCTIONS)


def test_product_and_quotient_by_hand():
    product = Dual(2.0, 1.0) * Dual(3.0, 2.0)
    assert (product.value, product.tangent) == (6.0, 7.0), "(2 + ε)(3 + 2ε) = 6 + (4 + 3)ε + 2ε²"
    quotient = Dual(6.0, 7.0) / Dual(3.0, 2.0)
    assert (quotient.value, quotient.tangent) == (2.0, 1.0), "division undoes the product"


@each_function
@pytest.mark.parametrize("x", [0.4, 1.7])
def test_derivative(name, x):
    function, first, _ = FUNCTIONS[name]
    _, tangent = directional_derivative(function, [x], [1.0])
    assert tangent == pytest.approx(first(x), rel=1e-13, abs=1e-13)


@each_function
def test_value_is_what_plain_numbers_give(name):
    function = FUNCTIONS[name][0]
    value, _ = directional_derivative(function, [1.3], [1.0])
    assert value == pytest.approx(function(Scalar(1.3)).data, rel=1e-15)


@each_function
def test_second_derivative_by_forward_over_reverse(name):
    function, first, second = FUNCTIONS[name]
    gradient, product = hessian_vector_product(function, [1.3], [2.0])
    assert gradient[0] == pytest.approx(first(1.3), rel=1e-13, abs=1e-13)
    assert product[0] == pytest.approx(2 * second(1.3), rel=1e-12, abs=1e-12), (
        "this is the tangent of the gradient: Scalar must compute its slopes with operations that "
        "dual numbers have, not with math's"
    )


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_powers_at_zero(exponent):
    _, tangent = directional_derivative(lambda x: x**exponent, [0.0], [1.0])
    assert tangent == (1.0 if exponent == 1 else 0.0)


def test_a_constant_has_no_derivative():
    assert directional_derivative(lambda x: 5.0, [3.0], [1.0]) == (5.0, 0.0)
    assert directional_derivative(lambda x, y: y * 2, [3.0, 4.0], [1.0, 0.0]) == (8.0, 0.0)


def test_comparisons_look_at_the_value_alone():
    relu = lambda x: x if x > 0 else 0 * x
    assert directional_derivative(relu, [2.0], [-1.0]) == (2.0, -1.0)
    assert directional_derivative(relu, [-2.0], [5.0])[1] == 0.0
    one, two = Dual(1.0, 9.0), 2
    assert one < Dual(2.0, -9.0) and one < two and two > one


def mixed(x, y):
    return (x.sin() * y).exp() + (x / y).tanh() - (x * x + y * y).log() * y**3


def mixed_on_arrays(x):
    x, y = x[0], x[1]
    return np.exp(np.sin(x) * y) + np.tanh(x / y) - np.log(x * x + y * y) * y**3


def test_directional_derivative_is_linear_in_the_direction():
    point, u, v = [0.6, 1.4], np.array([1.0, -2.0]), np.array([0.3, 0.9])
    along = lambda d: directional_derivative(mixed, point, d.tolist())[1]
    assert along(2 * u - 3 * v) == pytest.approx(2 * along(u) - 3 * along(v), rel=1e-12)
    assert along(0 * u) == 0.0


def test_forward_over_reverse_equals_the_hessian_times_the_vector():
    point, direction = [0.6, 1.4], [0.3, -1.1]
    check_gradients(mixed_on_arrays, [np.array(point)], order=2, tolerance=1e-6)
    gradient, product = hessian_vector_product(mixed, point, direction)
    axes = np.eye(2).tolist()
    by_forward_mode = [directional_derivative(mixed, point, axis)[1] for axis in axes]
    np.testing.assert_allclose(gradient, by_forward_mode, rtol=1e-12)
    matrix = hessian(mixed_on_arrays, np.array(point))
    np.testing.assert_allclose(product, matrix @ direction, rtol=1e-12)


def test_hessian_of_a_linear_function_is_zero():
    gradient, product = hessian_vector_product(lambda x, y: 2 * x - y, [1.0, 2.0], [3.0, 4.0])
    assert (gradient, product) == ([2.0, -1.0], [0.0, 0.0])


def test_relu_under_forward_over_reverse():
    gradient, product = hessian_vector_product(lambda x: (x * x * x).relu(), [2.0], [1.0])
    assert (gradient, product) == ([12.0], [12.0])


@pytest.mark.parametrize("method", [directional_derivative, hessian_vector_product])
@pytest.mark.parametrize("direction", [[], [1.0], [1.0, 2.0, 3.0]])
def test_a_direction_of_another_length_is_an_error(method, direction):
    with pytest.raises(ValueError, match="2 .*" + str(len(direction))):
        method(lambda x, y: x * y, [1.0, 2.0], direction)


def test_a_root_of_a_negative_number_is_an_error():
    with pytest.raises(ValueError):
        directional_derivative(lambda x: x**0.5, [-8.0], [1.0])
