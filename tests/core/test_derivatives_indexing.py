"""Indexing of every kind that NumPy knows, and taking elements by index."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad
from utils.primitives import getitem, scatter_add

KEYS = """
K[0]; K[-1]; K[1, 2]; K[1, 2, 3]; K[()]; K[...]; K[..., 0]; K[0, ..., 1]; K[:, 1]; K[1:]
K[:, ::-1]; K[:, 1:1]; K[::2, 1:, -2:]; K[None]; K[:, None, 1]; K[..., None]
K[np.newaxis, 0, ..., None]; A[::-2, 3:0:-1]; v[100:]; A[[0, 2]]; A[[0, 0, 2]]; A[[-1, 2]]
A[:, [1, 1]]; A[[0, 1], [2, 2]]; A[[0, 0], [2, 2]]; A[np.array([[0, 1], [1, 0]])]
A[[[0], [2]], [1, 3]]; K[:, [0, 0], 1:]; K[0, :, [1, 2, 1]]; K[[0, 1], :, [2, 2]]
K[[0], ..., [1]]; A[np.ix_([0, 2], [1, 1])]; A[np.int64(1)]; A[np.int32(-1), 2]
A[np.array(1)]; A[np.array([], int)]; A[np.arange(3), np.arange(3)]; A[A > 0]; A[A > 9]
A[np.array([True, False, True])]; A[:, np.array([True, False, False, True])]; A[True]
A[False]; A[np.array([True, False, True]), 1:]; A[np.array([True, False, True]), [0, 1]]
A[[True, False, True]]; A[np.True_]
A[np.array([True, False, True]), np.array([True, True, False, False])]; K[A[:2, :3] > 0]
K[None, [0, 0], 0]; s[()]; s[...]; s[None]; E[:, 0]; E[1:]; E[[]]; v[np.argsort(v)]
v[[[0, 1], [0, 3]]]; A[range(2)]; A[(0, 1)]; A[0][1]
"""
TAKES = """
np.take(A, [0, 5, 5]); np.take(A, 2); np.take(A, [0, 2], axis=0)
np.take(A, [[0, 1], [1, -1]], axis=1); (A.take([1, 1])); np.take(v, np.array([3, 3, 0]))
np.take(K, 1, axis=-1); np.take(A, np.array([], int), 0); np.diagonal(A)
np.diagonal(K, 1, 1, 2); np.diagonal(K, offset=-1, axis1=2, axis2=0); np.diagonal(A, 9)
np.diag(v); np.diag(v, k=2); np.diag(v, -1); np.diag(A); np.diag(A, 1); np.diag(A, k=-2)
np.diagflat(A); np.diagflat(v, 1); np.trace(A); np.trace(A, 1); np.trace(A, offset=-1)
np.trace(K, 0, 1, 2); np.trace(K, axis1=-1, axis2=0); np.trace(A, 7); np.tril(A)
np.tril(A, 1); np.tril(K, k=-1); np.triu(A); np.triu(A, -1); np.triu(K, k=2); np.tril(v)
np.triu(v)
"""
TESTED = {
    *(getitem, scatter_add, np.take, np.diagonal, np.diag, np.diagflat, np.trace, np.tril, np.triu),
}


def cases(text):
    return [case.strip() for case in text.strip().replace("\n", ";").split(";")]


@pytest.mark.parametrize("expression", cases(KEYS))
def test_index(expression, check_expression):
    check_expression(expression, linear=True)


@pytest.mark.parametrize("expression", cases(TAKES))
def test_taking(expression, check_expression):
    check_expression(expression, linear=True)


def test_scatter_add_is_the_adjoint_of_indexing(check):
    key = np.array([0, 2, 2])
    check(lambda g: scatter_add(g, key, (4,)) ** 2, np.array([1.0, 2.0, 3.0]), order=2)
    assert scatter_add(np.array([1.0, 2.0, 3.0]), key, (4,)).tolist() == [1, 0, 5, 0]


def test_repeated_indices_add_up():
    table = Tensor(np.zeros((3, 2)), requires_grad=True)
    (g,) = grad(table[np.array([2, 2, 0, 2])].sum(), table)
    assert g.data.tolist() == [[1, 1], [0, 0], [3, 3]]


def test_an_integer_tensor_is_an_index(check):
    ids = Tensor(np.array([1, 1, 0]))
    check(lambda a: a[ids] if isinstance(a, Tensor) else a[ids.data], np.arange(6.0).reshape(3, 2))


def test_a_key_that_changes_later_does_not_change_the_gradient():
    x, key = Tensor(np.zeros(3), requires_grad=True), [0, 1]
    y = x[key].sum()
    key[0] = 2
    assert grad(y, x)[0].data.tolist() == [1, 1, 0]


@pytest.mark.parametrize("key", [5, (0, 9), [7], np.array([True, False]), 1.0, "x", (0, 0, 0)])
def test_bad_keys_are_index_errors(key):
    with pytest.raises(IndexError):
        Tensor(np.ones((3, 2)), requires_grad=True)[key]


def test_iterating_and_unpacking():
    x = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    a, b, c = x
    assert len(x) == 3 and grad(a * b * c, x)[0].data.tolist() == [6, 3, 2]
    with pytest.raises(TypeError):
        len(Tensor(1.0))


def test_assigning_to_an_element_is_an_error():
    with pytest.raises(TypeError, match="assigned"):
        Tensor(np.ones(3), requires_grad=True)[0] = 2
