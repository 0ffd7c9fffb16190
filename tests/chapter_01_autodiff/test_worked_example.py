"""f = (a*b + c) * (a + b*c) at (2, -3, 10): one expression, worked by hand, by every method.

Multiplied out, f = a²b + ab²c + ac + bc². So df/da = 2ab + b²c + c, df/db = a² + 2abc + c² and
df/dc = ab² + a + 2bc, and the second derivatives follow in the same way.
"""

from __future__ import annotations

import numpy as np
import pytest

from chapter_01_autodiff import (
    Scalar,
    Tensor,
    check_gradients,
    directional_derivative,
    grad,
    hessian,
    hessian_vector_product,
    hvp,
    jacobian,
    jvp,
    numerical_gradient,
    vjp,
)

POINT, VALUE, GRADIENT = [2.0, -3.0, 10.0], -112.0, [88.0, -16.0, -40.0]
HESSIAN = np.array([[-6.0, -56.0, 10.0], [-56.0, 40.0, 8.0], [10.0, 8.0, -6.0]])
DIRECTIONS = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, -2.0, 3.0]]


def f(a, b, c):
    return (a * b + c) * (a + b * c)


def of_vector(x):
    return f(x[0], x[1], x[2])


def by_scalars():
    inputs = [Scalar(x) for x in POINT]
    output = f(*inputs)
    output.backward()
    return output.data, [x.grad for x in inputs]


def by_tensors():
    inputs = [Tensor(x, requires_grad=True, dtype=np.float64) for x in POINT]
    output = f(*inputs)
    return output.item(), [g.item() for g in grad(output, inputs)]


def by_backward():
    inputs = [Tensor(x, requires_grad=True, dtype=np.float64) for x in POINT]
    output = f(*inputs)
    output.backward()
    return output.item(), [float(x.grad) for x in inputs]


def by_dual_numbers():
    runs = [directional_derivative(f, POINT, axis) for axis in np.eye(3).tolist()]
    return runs[0][0], [tangent for _, tangent in runs]


def by_vjp():
    value, gradient = vjp(of_vector, np.array(POINT), np.array(1.0))
    return float(value), gradient


def by_jvp():
    runs = [jvp(of_vector, np.array(POINT), axis) for axis in np.eye(3)]
    return float(runs[0][0]), [float(tangent) for _, tangent in runs]


def by_jacobian():
    return f(*POINT), jacobian(of_vector, np.array(POINT))


EXACT = [by_scalars, by_tensors, by_backward, by_dual_numbers, by_vjp, by_jvp, by_jacobian]


@pytest.mark.parametrize("method", EXACT, ids=lambda method: method.__name__)
def test_value_and_gradient(method):
    value, gradient = method()
    assert value == VALUE, "(2 * -3 + 10) * (2 + -3 * 10) = 4 * -28 = -112"
    np.testing.assert_allclose(
        gradient,
        GRADIENT,
        rtol=1e-14,
        err_msg="every input reaches f along two edges or more: their products have to be added",
    )


def test_differences_come_close():
    found = numerical_gradient(of_vector, POINT)
    np.testing.assert_allclose(found, GRADIENT, rtol=1e-8)


def test_the_judge_agrees_to_second_order():
    check_gradients(f, POINT, order=2)


def test_hessian():
    found = hessian(of_vector, np.array(POINT))
    np.testing.assert_allclose(found, HESSIAN, rtol=1e-13, err_msg="rows and columns are a, b, c")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_hessian_vector_products_agree(direction):
    expected = HESSIAN @ direction
    gradient, forward_over_reverse = hessian_vector_product(f, POINT, direction)
    np.testing.assert_allclose(gradient, GRADIENT, rtol=1e-14)
    np.testing.assert_allclose(forward_over_reverse, expected, rtol=1e-13)
    reverse_twice = hvp(of_vector, np.array(POINT), np.array(direction))
    np.testing.assert_allclose(reverse_twice, expected, rtol=1e-13)
    matrix = hessian(of_vector, np.array(POINT))
    np.testing.assert_allclose(matrix @ direction, forward_over_reverse, rtol=1e-13)
