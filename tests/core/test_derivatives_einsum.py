"""`np.einsum` in all of its notations."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad
from utils.primitives import contract

CASES = """
np.einsum("ij,jk->ik", A, M); np.einsum("ij,jk", A, M); np.einsum("ij,j", A, v)
np.einsum("i,i", v, w); np.einsum("i,i->", v, w); np.einsum("ij->ji", A); np.einsum("ji", A)
np.einsum("ij->", A); np.einsum("ij->i", A); np.einsum("ij->j", A); np.einsum("ij", A)
np.einsum("ii", S); np.einsum("ii->i", S); np.einsum("ii->", S)
np.einsum("iij->j", D[:, :2]); np.einsum("kii->ki", D); np.einsum("ii,i->i", S, u)
np.einsum("ii,ij->j", S, S); np.einsum("iji->j", np.ones((2, 3, 2)) * s)
np.einsum("iii->i", D[:2, :2, :2]); np.einsum("i,j->ij", v, u); np.einsum("i,j", v, u)
np.einsum("i,i->i", v, w); np.einsum("i,i->i", v, v); np.einsum(",i->i", s, v)
np.einsum(",", s, s); np.einsum("i->", v); np.einsum("->", s); np.einsum("ijk->kij", K)
np.einsum("ba", A); np.einsum("bij,bjk->bik", K, L); np.einsum("...ij,...jk->...ik", K, L)
np.einsum("...ij,jk", K, M); np.einsum("...,...->...", A, B); np.einsum("...j->...", K)
np.einsum("i...->...", K); np.einsum("...i,...i", A, v); np.einsum("...,i->...i", A, u)
np.einsum("...ii->...i", D); np.einsum("...", A); np.einsum("...i->i...", K)
np.einsum("a...b,b...->a...", K, M[:, :1] * 1); np.einsum("...a,...a->...", K, A)
np.einsum("...a,...a->...", A, K); np.einsum("ij,jk,kl->il", S, A, M)
np.einsum("i,ij,j->", u, A, v); np.einsum("ij,ij,ij->j", A, B, A)
np.einsum("ab,bc,cd", S, A, M); np.einsum(A, [0, 1], M, [1, 2])
np.einsum(A, [0, 1], M, [1, 2], [2, 0]); np.einsum(S, [0, 0]); np.einsum(A, [1, 0])
np.einsum(A, [0, 1], []); np.einsum(K, [Ellipsis, 0], v, [0], [Ellipsis])
np.einsum(K, [Ellipsis, 0, 1], M, [1, 2], [Ellipsis, 2, 0]); np.einsum(A, [7, 30])
np.einsum("ij, jk -> ik", A, M); np.einsum("Ij,jK->IK", A, M); np.einsum("aB", A)
np.einsum("ij,jk->ik", A, M, optimize=True)
np.einsum("ij,jk,kl->il", S, A, M, optimize="greedy")
np.einsum("ij,j,j->i", A, v, w, optimize="optimal"); np.einsum("ij,ij->i", R, A)
np.einsum("ij,ij->ij", R, C); np.einsum("ij,jk->ik", C, M)
np.einsum("...ij,...jk->...ik", K[:1], L); np.einsum("ij->j", E)
np.einsum("ij,jk->ik", E, M); np.einsum("ij,jk->ik", A.T, A)
np.einsum("ij,ij", A[::2, ::-1], B[::2])
np.einsum("ij,kj->ik", A, np.arange(8.0).reshape(2, 4))
np.einsum("ij,jk->ik", np.ones((2, 3)), A); np.einsum("ij,j->i", A, [1, 2, 3, 4])
"""
TESTED = {np.einsum, contract}


def cases(text):
    return [case.strip() for case in text.strip().replace("\n", ";").split(";")]


@pytest.mark.parametrize("expression", cases(CASES))
def test_einsum(expression, check_expression):
    check_expression(expression, order=2, linear=True)


def test_third_derivatives(check):
    a, b = np.array([[1.0, -0.5], [0.3, 0.7]]), np.array([0.4, 1.2])
    check(lambda a, b: np.exp(np.einsum("ij,jk,k->i", a, a, b)), a, b, order=3)


def test_private_form_takes_the_operands_first(check):
    a, b = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
    check(lambda a, b: contract(a, b, subscripts="ij,jk->ik"), a, b, order=3)


@pytest.mark.parametrize(
    "subscripts",
    ["ij,jk->ik", "ijk->i", "i->i", "ij->ijk", "ij->ii", "ij->k", "i!->i", "ij-ji", "ij,"],
)
def test_bad_subscripts_are_errors(subscripts):
    with pytest.raises((ValueError, TypeError)):
        np.einsum(subscripts, Tensor(np.ones((2, 3)), requires_grad=True))


@pytest.mark.parametrize("keyword", ["out", "dtype"])
def test_unsupported_keywords_raise(keyword):
    values = {"out": np.zeros(2), "dtype": np.float64}
    with pytest.raises(TypeError, match=keyword):
        np.einsum(
            "ij->i", Tensor(np.ones((2, 3)), requires_grad=True), **{keyword: values[keyword]}
        )


def test_a_diagonal_sends_its_gradient_to_the_diagonal():
    x = Tensor(np.ones((3, 3)), requires_grad=True)
    assert grad(np.einsum("ii", x), x)[0].data.tolist() == np.eye(3).tolist()
