"""Jacobians, Hessians and their products with vectors: by hand, against one another and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_01_autodiff.numerical import numerical_gradient
from chapter_01_autodiff.transformations import hessian, hvp, jacobian, jvp, vjp
from utils import Tensor, check_gradients

WEIGHTS = np.linspace(-1.0, 1.0, 12).reshape(4, 3)


def vector_to_vector(x):
    return np.tanh(np.matmul(WEIGHTS, x)) * np.sum(x * x)


def matrix_to_vector(x):
    return np.sin(x).sum(axis=0) * x[0]


def vector_to_matrix(x):
    return np.outer(np.exp(x), x)


def number_to_vector(x):
    return x * np.array([1.0, 2.0]) * x


def number_to_number(x):
    return x * np.exp(x)


CASES = {
    "(3,) to (4,)": (vector_to_vector, (3,)),
    "(2, 3) to (3,)": (matrix_to_vector, (2, 3)),
    "(3,) to (3, 3)": (vector_to_matrix, (3,)),
    "() to (2,)": (number_to_vector, ()),
    "() to ()": (number_to_number, ()),
}


@pytest.fixture(params=CASES)
def case(request, rng):
    function, shape = CASES[request.param]
    return function, np.asarray(rng.normal(size=shape))


def test_hvp_by_hand():
    """Of a^2 b the Hessian is [[2b, 2a], [2a, 0]]."""
    found = hvp(lambda x: x[0] * x[0] * x[1], np.array([3.0, 5.0]), np.array([1.0, -2.0]))
    assert found.tolist() == [10 - 12, 6]


def test_jacobian_by_hand():
    found = jacobian(lambda x: np.stack([x[0] * x[1], x[1] ** 2]), np.array([3.0, 5.0]))
    np.testing.assert_allclose(
        found, [[5, 3], [0, 10]], err_msg="a row for each output, a column for each input"
    )


def test_hessian_by_hand():
    found = hessian(lambda x: x[0] ** 2 * x[1] + x[1] ** 3, np.array([3.0, 5.0]))
    np.testing.assert_allclose(found, [[10, 6], [6, 30]])


def test_jacobian_has_both_shapes_and_equals_differences(case):
    function, x = case
    y = np.asarray(function(x))
    found = jacobian(function, x)
    assert found.shape == y.shape + x.shape, "a Jacobian's shape is f(x)'s, then x's"
    check_gradients(function, [x])
    for index in np.ndindex(*y.shape):
        row = numerical_gradient(lambda x, index=index: np.asarray(function(x))[index], x)
        np.testing.assert_allclose(found[index], row, atol=1e-7, rtol=1e-7)


def test_products_agree_with_the_jacobian(case, rng):
    function, x = case
    y, matrix = np.asarray(function(x)), jacobian(function, x)
    u, v = np.asarray(rng.normal(size=y.shape)), np.asarray(rng.normal(size=x.shape))
    value, left = vjp(function, x, u)
    np.testing.assert_allclose(value, y)
    assert left.shape == x.shape
    np.testing.assert_allclose(left, np.tensordot(u, matrix, y.ndim), rtol=1e-12, atol=1e-12)
    value, right = jvp(function, x, v)
    np.testing.assert_allclose(value, y)
    assert right.shape == y.shape
    np.testing.assert_allclose(right, np.tensordot(matrix, v, x.ndim), rtol=1e-12, atol=1e-12)
    assert np.sum(u * right) == pytest.approx(
        np.sum(left * v)
    ), "u·(J v) and (u·J)·v are one number"


def test_hvp_is_the_symmetric_hessian_times_the_vector(case, rng):
    function, x = case
    total = lambda x: np.sum(np.cos(function(x)))
    v = np.asarray(rng.normal(size=x.shape))
    matrix = hessian(total, x)
    assert matrix.shape == x.shape + x.shape
    square = matrix.reshape(x.size, x.size)
    np.testing.assert_allclose(square, square.T, atol=1e-12, err_msg="a Hessian is symmetric")
    product = hvp(total, x, v)
    assert product.shape == x.shape
    np.testing.assert_allclose(product, (square @ v.ravel()).reshape(x.shape), atol=1e-11)


def test_of_what_does_not_bend_or_does_not_depend_on_x():
    x, v = np.ones(3), np.array([1.0, -2.0, 4.0])
    linear = lambda x: np.sum(x * 3)
    np.testing.assert_array_equal(hessian(linear, x), np.zeros((3, 3)))
    np.testing.assert_array_equal(hvp(linear, x, v), np.zeros(3))
    assert jvp(linear, x, v)[1] == pytest.approx(9)
    constant = lambda x: Tensor(np.ones(2))
    np.testing.assert_array_equal(jacobian(constant, x), np.zeros((2, 3)))
    np.testing.assert_array_equal(jvp(constant, x, v)[1], np.zeros(2))


def test_a_tensor_that_is_given_is_not_touched():
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    square = lambda x: np.sum(x * x)
    for result in (jacobian(square, x), hessian(square, x), hvp(square, x, np.ones(2))):
        assert isinstance(result, np.ndarray)
    assert x.grad is None, "these functions return derivatives: they leave .grad to backward()"


def test_float32_stays_float32():
    x = np.ones(3, np.float32)
    results = [jacobian(vector_to_vector, x), vjp(vector_to_vector, x, np.ones(4, np.float32))[1]]
    assert [r.dtype for r in results] == [np.float32, np.float32]


def test_pytorch_agrees(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not here: install the oracle extra")
    x, v = rng.normal(size=3), rng.normal(size=3)
    ours = lambda x: np.tanh(np.matmul(WEIGHTS, x)) * np.sum(x * x)
    theirs = lambda x: torch.tanh(torch.tensor(WEIGHTS) @ x) * (x * x).sum()
    functional, tx, tv = torch.autograd.functional, torch.tensor(x), torch.tensor(v)
    np.testing.assert_allclose(jacobian(ours, x), functional.jacobian(theirs, tx), rtol=1e-12)
    np.testing.assert_allclose(jvp(ours, x, v)[1], functional.jvp(theirs, tx, tv)[1], rtol=1e-12)
    matrix = functional.hessian(lambda x: theirs(x).sum(), tx)
    np.testing.assert_allclose(hessian(lambda x: np.sum(ours(x)), x), matrix, rtol=1e-11)


@pytest.mark.parametrize(
    "make",
    [
        lambda: jvp(vector_to_vector, np.ones(3), np.ones(4)),
        lambda: vjp(vector_to_vector, np.ones(3), np.ones(3)),
        lambda: hvp(lambda x: np.sum(x * x), np.ones(3), np.ones(2)),
    ],
    ids=["jvp", "vjp", "hvp"],
)
def test_a_vector_of_another_shape_is_an_error(make):
    with pytest.raises(ValueError, match="shape"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: hessian(lambda x: x * x, np.ones(3)),
        lambda: hvp(lambda x: x * x, np.ones(3), np.ones(3)),
    ],
    ids=["hessian", "hvp"],
)
def test_only_a_number_has_a_hessian(make):
    with pytest.raises((ValueError, RuntimeError)):
        make()
