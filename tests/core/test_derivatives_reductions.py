"""Sums, means, products, extremes, sorting: each in NumPy's argument forms."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad
from utils.primitives import cumsum, euclidean_norm, total

LINEAR = {
    np.sum: """np.sum(A); np.sum(A, 0); np.sum(A, axis=-1)
        np.sum(K, axis=(0, 2)); np.sum(K, axis=()); np.sum(A, axis=1, keepdims=True)
        np.sum(s); np.sum(E, axis=0); np.sum(E); np.sum(A.T, axis=0)
        np.sum(A[::2, ::-1], axis=1); np.sum(np.broadcast_to(v, (3, 4)), axis=0)
        (A.sum(axis=(0, 1)))""",
    np.mean: """np.mean(A); np.mean(A, 0)
        np.mean(K, axis=(0, -1), keepdims=True); np.mean(s); (A.mean(axis=1))
        np.mean(E, axis=1); np.mean(Z, axis=0)""",
    np.average: """np.average(A); np.average(A, axis=1)
        np.average(A, axis=0, weights=[1, 2, 5])
        np.average(A, weights=np.arange(12.0).reshape(3, 4))
        np.average(A, axis=-1, keepdims=True)""",
    np.cumsum: """cumsum(A, axis=1); np.cumsum(A); np.cumsum(A, axis=0); np.cumsum(A, axis=-1)
        np.cumsum(K, axis=1); np.cumsum(E, axis=0); (v.cumsum()); np.cumsum(s)""",
    np.diff: "np.diff(v); np.diff(A, axis=0); np.diff(A, n=2, axis=-1); np.diff(A, n=0)",
    np.max: """np.max(A); np.max(A, axis=0)
        np.max(A, axis=-1, keepdims=True); np.max(K, axis=(0, 2)); np.max(s)
        np.max(E, axis=1); (A.max(axis=1)); np.max(A.T, axis=0); np.max(K, axis=(-1, 0))""",
    np.min: """np.min(A); np.min(A, axis=0)
        np.min(A, axis=-1, keepdims=True); np.min(K, axis=(0, 2)); (A.min(axis=0))
        np.min(E, axis=-1)""",
    np.amax: "np.amax(A); np.amax(A, axis=0, keepdims=True); np.amax(A, (0, 1))",
    np.amin: "np.amin(A); np.amin(A, axis=1)",
    np.ptp: "np.ptp(A); np.ptp(A, axis=0); np.ptp(A, axis=1, keepdims=True)",
    np.median: """np.median(v); np.median(u); np.median(A, axis=0)
        np.median(A, axis=1, keepdims=True); np.median(K, axis=(0, 1))""",
    np.sort: """np.sort(v); np.sort(A); np.sort(A, axis=0)
        np.sort(A, axis=None); np.sort(E, axis=0); np.sort(A, kind="stable")
        np.sort(K, axis=1); np.sort(A.T, axis=-1)""",
    np.partition: """np.partition(v, 2); np.partition(A, 1, axis=0)
        np.partition(A, (0, 2), axis=None)""",
    total: "total(A); total(K, axis=(0, 2)); total(A, axis=0, keepdims=True)",
}
CURVED = {
    np.var: """np.var(A); np.var(A, axis=0); np.var(A, axis=1, ddof=1)
        np.var(K, axis=(0, 2), keepdims=True); (A.var(axis=-1)); np.var(s)
        np.var(A.T, axis=0)""",
    np.std: """np.std(A); np.std(A, axis=0); np.std(A, axis=1, ddof=1)
        np.std(K, axis=(0, 2), keepdims=True); (A.std(axis=0))""",
    np.prod: """np.prod(u); np.prod(A, axis=0)
        np.prod(A, axis=1, keepdims=True); np.prod(K, axis=(0, 1)); np.prod(s)
        np.prod(E, axis=0); (A.prod(axis=-1)); np.prod(u * np.array([0, 1, 1]))
        np.prod(v * np.array([0, 1, 0, 1]))""",
    np.cumprod: """np.cumprod(v); np.cumprod(A, axis=0); np.cumprod(A, axis=1)
        np.cumprod(u * [1, 0, 1])""",
    euclidean_norm: """euclidean_norm(v); euclidean_norm(A, axis=0)
        euclidean_norm(A, (0, 1), True)""",
}
TESTED = {*LINEAR, *CURVED, np.take_along_axis, cumsum}


def cases(table):
    return [case.strip() for text in table.values() for case in text.replace("\n", ";").split(";")]


@pytest.mark.parametrize("expression", cases(LINEAR))
def test_piecewise_linear(expression, check_expression):
    empty_mean = "mean(Z" in expression
    with np.errstate(invalid="ignore", divide="ignore"):
        check_expression(expression, linear=not empty_mean)


@pytest.mark.parametrize("expression", cases(CURVED))
def test_curved(expression, check_expression):
    check_expression(expression, order=3)


@pytest.mark.parametrize("function", LINEAR, ids=lambda f: f.__name__)
def test_every_text_names_its_function(function):
    """`np.amax` and `np.max` are one function in some versions and two in others."""
    text = LINEAR[function]
    assert function.__name__ in text or function.__name__.replace("a", "", 1) in text


@pytest.mark.parametrize("axis", [-1, 0, 1, None])
def test_take_along_axis(axis, check):
    index = np.array([3, 0, 3] if axis is None else [[0, 1], [1, 1]])
    check(lambda a: np.take_along_axis(a, index, axis), np.arange(4.0).reshape(2, 2), order=2)


@pytest.mark.parametrize("function", [np.max, np.min])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
def test_ties_share_the_gradient_evenly(function, axis):
    x = Tensor(np.ones((2, 4)), requires_grad=True)
    share = 1 / {None: 8, 0: 2, 1: 4, (0, 1): 8}[axis]
    (g,) = grad(function(x, axis=axis).sum(), x)
    np.testing.assert_allclose(g.data, np.full((2, 4), share))


def test_sorting_equal_numbers_permutes_the_gradient():
    x = Tensor(np.array([2.0, 1.0, 1.0]), requires_grad=True)
    (g,) = grad((np.sort(x) * np.array([1.0, 10.0, 100.0])).sum(), x)
    assert g.data[0] == 100 and sorted(g.data[1:]) == [1, 10]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_product_of_nothing_is_one_in_its_own_dtype(dtype, keepdims):
    x = Tensor(np.zeros((0, 3), dtype), requires_grad=True)
    y = np.prod(x, axis=0, keepdims=keepdims)
    assert y.dtype == dtype
    (g,) = grad(y.sum(), x)
    assert g.shape == (0, 3) and (y.data == 1).all()
    y.sum().backward()


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, 2)])
@pytest.mark.parametrize("function", [np.sum, np.mean, np.max, np.prod, np.var, np.linalg.norm])
def test_axes_that_are_not_there_are_errors(function, axis):
    with pytest.raises((ValueError, TypeError)):  # NumPy's AxisError is a ValueError
        function(Tensor(np.ones((2, 3)), requires_grad=True), axis=axis)
