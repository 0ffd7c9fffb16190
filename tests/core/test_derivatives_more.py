"""Decompositions, and functions that NumPy composes or names a second time."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad
from utils.primitives import eigenvalues, eigenvectors, pseudo_inverse, singular_values

# Near diagonal matrices of distinct numbers, so that eigenvalues lie well apart: where they come
# close, higher derivatives grow without bound and central differences lose their digits.
A = np.diag([1.0, 2.5, 4.0, 5.5]) + 0.5 * np.random.default_rng(3).normal(size=(4, 4))
B = np.eye(4, 3) * [1.5, 3.0, 4.5] + 0.5 * np.random.default_rng(4).normal(size=(4, 3))
STACK = np.diag([1.5, 3.0, 4.5]) + 0.4 * np.random.default_rng(5).normal(size=(2, 3, 3))
VECTOR = np.array([0.5, -1.0, 2.0, 0.25])

SECOND_NAMES = {
    "vecdot": lambda f: (f, STACK, STACK[0]),
    "matrix_transpose": lambda f: (f, STACK),
    "linalg.cross": lambda f: (f, B, B[::-1]),
    "linalg.diagonal": lambda f: (lambda a: f(a, offset=1), STACK),
    "linalg.matmul": lambda f: (f, STACK, STACK[0]),
    "linalg.matrix_norm": lambda f: (f, STACK),
    "linalg.matrix_transpose": lambda f: (f, STACK),
    "linalg.outer": lambda f: (f, VECTOR, B[:, 0]),
    "linalg.tensordot": lambda f: (f, STACK, STACK[0]),
    "linalg.trace": lambda f: (f, STACK),
    "linalg.vecdot": lambda f: (f, STACK, STACK[0]),
    "linalg.vector_norm": lambda f: (lambda a: f(a, ord=3, axis=-1), STACK),
}


def named(name):
    module, _, last = name.rpartition(".")
    return getattr(np.linalg if module else np, last, None)


TESTED = {
    *(eigenvalues, eigenvectors, singular_values, pseudo_inverse),
    *(np.linalg.eigvalsh, np.linalg.eigh, np.linalg.svd, np.linalg.pinv),
    *(np.gradient, np.ediff1d, np.around, np.nansum, np.nanmean),
    *(np.meshgrid, np.select, np.linspace, np.full_like),
    *(f for f in map(named, SECOND_NAMES) if f is not None),
}


def symmetric(a):
    return a + np.swapaxes(a, -1, -2)


@pytest.mark.parametrize("a", [A, STACK], ids=["matrix", "stack"])
def test_symmetric_eigenproblem(a, check):
    check(lambda a: np.linalg.eigvalsh(symmetric(a)), a, order=3)
    check(lambda a: np.linalg.eigh(symmetric(a))[0], a, order=3)
    # An eigenvector's sign is arbitrary, its square is not.
    check(lambda a: np.linalg.eigh(symmetric(a))[1] ** 2, a, order=3)


def test_private_decompositions(check):
    check(lambda a: eigenvalues(symmetric(a), uplo="U"), A, order=3)
    check(lambda a: eigenvectors(symmetric(a), uplo="U") ** 2, A, order=3)
    check(singular_values, B, order=3)
    check(pseudo_inverse, B, order=3)


@pytest.mark.parametrize("a", [B, B.T, STACK], ids=["tall", "wide", "stack"])
def test_singular_values_and_pseudo_inverse(a, check):
    check(lambda a: np.linalg.svd(a, compute_uv=False), a, order=3)
    check(np.linalg.pinv, a, order=3)


@pytest.mark.parametrize("order", [2, -2, "nuc"])
def test_matrix_norms_by_singular_values(order, check):
    check(lambda a: np.linalg.norm(a, order), B, order=3)
    check(lambda a: np.linalg.norm(a, order, axis=(0, 2), keepdims=True), STACK, order=3)


def test_singular_vectors_have_no_rule():
    with pytest.raises(TypeError, match="compute_uv=False"):
        np.linalg.svd(Tensor(B, requires_grad=True))


def test_the_determinant_of_a_singular_matrix_has_its_cofactors_as_gradient():
    x = Tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    found = grad(np.linalg.det(x), x)[0].data
    np.testing.assert_allclose(found, [[4, -2], [-2, 1]], atol=1e-5)


def test_differences_along_axes(check):
    check(np.gradient, VECTOR, order=3)
    check(lambda a: np.gradient(a, 0.5, axis=1), A, order=3)
    check(lambda a: list(np.gradient(a)), A)
    check(lambda a: list(np.gradient(a, 2.0, 1.0)), A)
    with pytest.raises(TypeError, match="spacing"):
        np.gradient(Tensor(VECTOR), [0.0, 1.0, 2.0, 4.0])
    check(np.ediff1d, A)


def test_around_has_gradient_zero():
    x = Tensor(VECTOR, requires_grad=True)
    y = np.around(x, 1)
    np.testing.assert_array_equal(y.data, np.around(VECTOR, 1))
    assert not grad(y.sum(), x)[0].data.any()


def test_sums_without_nan():
    a = np.array([[1.0, np.nan, 2.0], [3.0, 4.0, 5.0]])
    for function in (np.nansum, np.nanmean):
        x = Tensor(a, requires_grad=True)
        y = function(x, axis=1)
        np.testing.assert_allclose(y.data, function(a, axis=1))
        gradient = grad(y.sum(), x)[0].data
        assert gradient[0, 1] == 0 and np.isfinite(gradient).all(), "NaN has no say"


def test_grids_and_choices(check):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5])
    check(lambda a, b: list(np.meshgrid(a, b)), a, b)
    check(lambda a, b: list(np.meshgrid(a, b, indexing="ij")), a, b)
    check(lambda a, b: np.linspace(a, b, 5), a, a[::-1].copy())
    check(lambda a: np.linspace(a, 2.0, 4, endpoint=False), np.array(0.5))
    check(lambda a: np.full_like(a, a[1]) * a[0], a)
    where = [np.array([True, False, False]), np.array([True, True, False])]
    check(lambda a: np.select(where, [a * 2, a**2], default=a**3), a, order=3)


@pytest.mark.parametrize("name", SECOND_NAMES)
def test_second_name(name, check):
    if named(name) is None:
        pytest.skip(f"this NumPy has no np.{name}")
    function, *arrays = SECOND_NAMES[name](named(name))
    check(function, *arrays, order=3)
