"""Products, norms, inverses, determinants, factors: of vectors, matrices and stacks of them."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad
from utils.primitives import log_abs_determinant, matrix_product, matrix_solve

CASES = {
    np.matmul: """np.matmul(A, M); A @ M; A @ v; v @ M; v @ w; K @ L; K @ M
        K @ v; A @ L; v @ L; D @ S; S @ D; D @ u; A.T @ B; A @ A.T; S @ S; E @ M
        Z @ np.ones((0, 2)); v @ v; K[:, :0] @ L; (F @ F); F @ np.ones((3, 2, 2))
        np.ones((2, 3)) @ A""",
    np.dot: """np.dot(s, A); np.dot(A, s); np.dot(v, w); np.dot(A, v)
        np.dot(v, M); np.dot(A, M); np.dot(K, v); np.dot(v, L); np.dot(A, L); np.dot(K, M)
        np.dot(K, L); np.dot(A, 2.0); np.dot(s, s); (A.dot(M)); np.dot(E, v)""",
    np.inner: """np.inner(v, w); np.inner(A, v); np.inner(A, B)
        np.inner(K, A); np.inner(K, K); np.inner(s, A); np.inner(v, v); np.inner(v, A)""",
    np.outer: """np.outer(v, u); np.outer(A, v); np.outer(s, v); np.outer(v, v)
        np.outer(v, [1.0, 2.0])""",
    np.vdot: "np.vdot(v, w); np.vdot(A, B); np.vdot(A, A)",
    np.kron: """np.kron(v, u); np.kron(S, A); np.kron(v, A); np.kron(A, v); np.kron(s, A)
        np.kron(u, u)""",
    np.cross: "np.cross(u, S[0]); np.cross(S, u); np.cross(S, S.T); np.cross(S, S[::-1], axis=0)",
    np.tensordot: """np.tensordot(K, A); np.tensordot(A, B, 2)
        np.tensordot(v, w, 1); np.tensordot(v, u, 0); np.tensordot(A, M, axes=1)
        np.tensordot(A, B, axes=([0, 1], [0, 1])); np.tensordot(A, B, (0, 0))
        np.tensordot(K, L, axes=([2], [1])); np.tensordot(K, A, axes=([1, 2], [0, 1]))
        np.tensordot(K, K, 3); np.tensordot(K, A, axes=[[-1, -2], [-1, -2]])
        np.tensordot(A, B, (-1, -1)); np.tensordot(K, L, (0, 0))
        np.tensordot(K, L, axes=((0, 2), (0, 1))); np.tensordot(s, v, 0)
        np.tensordot(A, A, axes=0)""",
    np.linalg.inv: "np.linalg.inv(S); np.linalg.inv(D); np.linalg.inv(S.T); np.linalg.inv(D[:0])",
    np.linalg.det: "np.linalg.det(S); np.linalg.det(D); np.linalg.det(S.T @ S)",
    np.linalg.slogdet: """np.linalg.slogdet(S)[1]; np.linalg.slogdet(D)[1]
        np.linalg.slogdet(-S)[1]""",
    np.linalg.solve: """np.linalg.solve(S, u); np.linalg.solve(S, A)
        np.linalg.solve(D, D.swapaxes(1, 2) + 1); np.linalg.solve(S, np.stack([A, B]))
        np.linalg.solve(S.T, u); np.linalg.solve(S, S)
        np.linalg.solve(np.diag([1.0, 2.0, 3.0]), u); np.linalg.solve(S, np.ones(3))
        np.linalg.solve(D, S[None])""",
    np.linalg.cholesky: """np.linalg.cholesky(S @ S.T)
        np.linalg.cholesky(A @ A.T + np.eye(3)); np.linalg.cholesky(D @ D.swapaxes(-1, -2))
        np.linalg.cholesky(S.T @ S + D[0] + D[0].T)""",
    np.linalg.matrix_power: """np.linalg.matrix_power(S, 0); np.linalg.matrix_power(S, 1)
        np.linalg.matrix_power(S, 2); np.linalg.matrix_power(S, 5)
        np.linalg.matrix_power(S, -2); np.linalg.matrix_power(D, 3) / 50""",
    np.linalg.multi_dot: """np.linalg.multi_dot([A, M]); np.linalg.multi_dot([S, A, M])
        np.linalg.multi_dot([u, S, u])""",
}
NORMS = """
np.linalg.norm(v); np.linalg.norm(A); np.linalg.norm(K); np.linalg.norm(A, axis=0)
np.linalg.norm(K, axis=(0, 1)); np.linalg.norm(A, "fro")
np.linalg.norm(K, "fro", axis=(-2, -1)); np.linalg.norm(v, 2)
np.linalg.norm(A, axis=1, keepdims=True); np.linalg.norm(v, 3); np.linalg.norm(v, 1.7)
np.linalg.norm(A, 4, axis=0); np.linalg.norm(v, -2); np.linalg.norm(v, ord=0.5)
np.linalg.norm(A, None, (0, 1), True); np.linalg.norm(A, 2, axis=1, keepdims=True)
np.linalg.norm(A, keepdims=True)
"""
PIECEWISE = """
np.linalg.norm(v, 1); np.linalg.norm(v, np.inf); np.linalg.norm(v, -np.inf)
np.linalg.norm(A, 1); np.linalg.norm(A, -1); np.linalg.norm(A, np.inf)
np.linalg.norm(A, -np.inf); np.linalg.norm(A, 1, axis=0)
np.linalg.norm(A, np.inf, axis=1, keepdims=True); np.linalg.norm(K, 1, axis=(0, 2))
np.linalg.norm(K, 1, axis=(2, 0)); np.linalg.norm(K, np.inf, axis=(-1, 0), keepdims=True)
"""
TESTED = {*CASES, np.linalg.norm, matrix_product, matrix_solve, log_abs_determinant}
if hasattr(np, "vecdot"):
    TESTED.add(np.vecdot)


def cases(text):
    return [case.strip() for case in text.strip().replace("\n", ";").split(";")]


@pytest.mark.parametrize("expression", cases(";".join(CASES.values())))
def test_product_or_factor(expression, check_expression):
    big = "D" in expression or "K" in expression  # third derivatives of many elements are slow
    check_expression(expression, order=2 if big else 3)


@pytest.mark.parametrize("expression", cases(NORMS))
def test_norm(expression, check_expression):
    check_expression(expression, order=3)


@pytest.mark.parametrize("expression", cases(PIECEWISE))
def test_norm_with_corners(expression, check_expression):
    check_expression(expression, linear=True)


@pytest.mark.skipif(not hasattr(np, "vecdot"), reason="np.vecdot came with NumPy 2.0")
def test_vecdot(check):
    a, b = np.arange(6.0).reshape(2, 3), np.array([1.0, -2.0, 0.5])
    check(np.vecdot, a, b, order=3)


def test_private_products(check):
    a, b = np.array([[2.0, 1.0], [0.5, 3.0]]), np.array([[1.0], [2.0]])
    check(matrix_product, a, b, order=3)
    check(matrix_solve, a, b, order=3)
    check(log_abs_determinant, a, order=3)


def test_slogdet_is_a_sign_and_a_logarithm():
    x = Tensor(-np.eye(3), requires_grad=True)
    result = np.linalg.slogdet(x)
    sign, logarithm = result
    assert sign == -1 and not isinstance(sign, Tensor) and logarithm.requires_grad
    if hasattr(np.linalg.slogdet(np.eye(2)), "logabsdet"):
        assert result.logabsdet is logarithm, "NumPy's slogdet names its results"


def test_norm_of_zeros_has_gradient_zero():
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    for y in (np.linalg.norm(x), np.linalg.norm(x, axis=1).sum()):
        assert not grad(y, x)[0].data.any()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda a: a @ np.ones((4, 5)), r"\(2, 3\).*\(4, 5\).*3 and 4"),
        (lambda a: np.matmul(a, 2.0), r"\(2, 3\)"),
        (lambda a: np.dot(a, np.ones(4)), r"\(2, 3\).*\(4,\)"),
        (lambda a: np.tensordot(a, np.ones((4, 5)), 1), r"\(2, 3\).*\(4, 5\)"),
        (lambda a: np.inner(a, np.ones(2)), r"\(2, 3\).*\(2,\)"),
        (lambda a: np.linalg.inv(a), "square"),
        (lambda a: np.linalg.norm(a, 3), "3"),
        (
            lambda a: np.ones((2, 4, 3)) @ a[None, None].reshape(1, 1, 3, 2) @ np.ones((3, 2, 2)),
            r"\(",
        ),
    ],
)
def test_errors_show_the_shapes(call, words):
    with pytest.raises((ValueError, TypeError, np.linalg.LinAlgError), match=words):
        call(Tensor(np.ones((2, 3)), requires_grad=True))
