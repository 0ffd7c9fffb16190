"""Functions of functions: Jacobians, Hessians and their products with vectors, on Tensors.

Reverse mode gives a row of the Jacobian a run, so a gradient, which is one row, costs about as much
as the function. What follows builds everything else out of that one step.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from utils import Tensor, grad


def vjp(f: Callable[[Tensor], Tensor], x: Any, v: Any) -> tuple[np.ndarray, np.ndarray]:
    """f(x), and v times its Jacobian, of x's shape; `v` has the shape of f(x)."""
    x = _leaf(x)
    y = f(x)
    return y.data, grad(y, x, v)[0].data


def jvp(f: Callable[[Tensor], Tensor], x: Any, v: Any) -> tuple[np.ndarray, np.ndarray]:
    """f(x), and its Jacobian times `v`, of f(x)'s shape; `v` has the shape of x.

    The product from the left, uᵀJ, is linear in u, so its derivative by u along v is J v: forward
    mode made of reverse mode twice (J. Townsend, 2017, "A new trick for calculating Jacobian vector
    products").
    """
    x = _leaf(x)
    y = f(x)
    u = Tensor(np.zeros(y.shape, y.dtype), requires_grad=True)
    (left_product,) = grad(y, x, u, create_graph=True)
    return y.data, grad(left_product, u, v)[0].data


def jacobian(f: Callable[[Tensor], Tensor], x: Any) -> np.ndarray:
    """All derivatives of f(x) by x: an array of f(x)'s shape followed by x's, row by row."""
    x = _leaf(x)
    y = f(x)
    rows = np.zeros((y.size, *x.shape), x.dtype)
    for i, one in enumerate(np.eye(y.size, dtype=y.dtype)):
        rows[i] = grad(y, x, one.reshape(y.shape))[0].data
    return rows.reshape(y.shape + x.shape)


def hessian(f: Callable[[Tensor], Tensor], x: Any) -> np.ndarray:
    """The second derivatives of a number f(x): the Jacobian of its gradient."""
    return jacobian(lambda x: grad(f(x), x, create_graph=True)[0], x)


def hvp(f: Callable[[Tensor], Tensor], x: Any, v: Any) -> np.ndarray:
    """The Hessian of a number f(x) times `v`, at the cost of a few gradients."""
    x = _leaf(x)
    (gradient,) = grad(f(x), x, create_graph=True)
    return grad(gradient, x, v)[0].data


def _leaf(x: Any) -> Tensor:
    return Tensor(x.data if isinstance(x, Tensor) else x, requires_grad=True)
