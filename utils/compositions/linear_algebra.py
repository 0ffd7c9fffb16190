"""Products of vectors, matrices and stacks of them; diagonals and triangles; norms."""

from __future__ import annotations

import functools
import math
import operator
import string

import numpy as np

from utils.compositions.reductions import reduced_first
from utils.primitives import (
    contract,
    euclidean_norm,
    getitem,
    log_abs_determinant,
    matrix_product,
    matrix_solve,
    normalize_axes,
    scatter_add,
)
from utils.promotion import alike, plain

# In the order in which NumPy numbers them: an implicit output is sorted by it.
EINSUM_LETTERS = string.ascii_uppercase + string.ascii_lowercase


def matmul(x1, x2):
    """Vectors become matrices, and a stack times one matrix becomes one product, of a tall one."""
    x1, x2 = alike(x1, x2)
    a, b = np.shape(x1), np.shape(x2)
    if not a or not b:
        raise ValueError(f"matmul: {a} @ {b}: numbers are multiplied with *")
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        inner = b[-2 if len(b) > 1 else 0]
        raise ValueError(f"matmul: {a} @ {b}: inner sizes {a[-1]} and {inner} differ")
    if len(a) == 1:
        return np.squeeze(matmul(np.reshape(x1, (1, -1)), x2), axis=-2 if len(b) > 1 else 0)
    if len(b) == 1:
        return np.squeeze(matmul(x1, np.reshape(x2, (-1, 1))), axis=-1)
    if len(a) > 2 and len(b) == 2:
        tall = np.reshape(x1, (math.prod(a[:-1]), a[-1]))
        return np.reshape(matrix_product(tall, x2), (*a[:-1], b[1]))
    try:
        np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ValueError(
            f"matmul: {a} @ {b}: stacks {a[:-2]} and {b[:-2]} do not broadcast"
        ) from None
    return matrix_product(x1, x2)


def dot(a, b):
    a, b = alike(a, b)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    if np.ndim(b) < 3:
        return np.matmul(a, b)
    return np.tensordot(a, b, axes=(-1, -2))


def vdot(a, b):
    a, b = alike(a, b)
    return np.matmul(np.ravel(a), np.ravel(b))


def vecdot(x1, x2, axis=-1):
    return np.sum(np.multiply(x1, x2), axis=axis)


def inner(a, b):
    a, b = alike(a, b)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return np.tensordot(a, b, axes=(-1, -1))


def outer(a, b):
    a, b = alike(a, b)
    return np.multiply(np.reshape(a, (-1, 1)), np.reshape(b, (1, -1)))


def tensordot(a, b, axes=2):
    """The summed axes last in `a` and first in `b`, and one product of matrices."""
    a, b = alike(a, b)
    if np.ndim(axes) == 0:
        axes_a, axes_b = range(np.ndim(a) - axes, np.ndim(a)), range(axes)
    else:
        axes_a, axes_b = (np.atleast_1d(x).tolist() for x in axes)
    axes_a = [i % np.ndim(a) for i in axes_a] if np.ndim(a) else []
    axes_b = [i % np.ndim(b) for i in axes_b] if np.ndim(b) else []
    summed_a, summed_b = [np.shape(a)[i] for i in axes_a], [np.shape(b)[i] for i in axes_b]
    if summed_a != summed_b:
        raise ValueError(
            f"tensordot: {np.shape(a)} and {np.shape(b)} over axes {axes_a} and {axes_b}: "
            f"sizes {summed_a} and {summed_b} differ"
        )
    free_a = [i for i in range(np.ndim(a)) if i not in axes_a]
    free_b = [i for i in range(np.ndim(b)) if i not in axes_b]
    kept_a, kept_b = [np.shape(a)[i] for i in free_a], [np.shape(b)[i] for i in free_b]
    n, k, m = (math.prod(sizes) for sizes in (kept_a, summed_a, kept_b))
    left = np.reshape(np.transpose(a, [*free_a, *axes_a]), (n, k))
    right = np.reshape(np.transpose(b, [*axes_b, *free_b]), (k, m))
    return np.reshape(matrix_product(left, right), [*kept_a, *kept_b])


def einsum(*operands, optimize=False):
    subscripts, operands = _explicit(operands)
    return contract(*operands, subscripts=subscripts, optimize=optimize)


def _explicit(operands) -> tuple[str, list]:
    """Any of einsum's notations as letters only, with an output: "...ij,jk" as "aij,jk->aik"."""
    if not isinstance(operands[0], str):
        operands, terms = list(operands), []
        output = operands.pop() if len(operands) % 2 else None
        lists = operands[1::2] + ([] if output is None else [output])
        for labels in lists:
            named = ("..." if s is Ellipsis else EINSUM_LETTERS[s] for s in labels)
            terms.append("".join(named))
        operands = operands[::2]
        subscripts = ",".join(terms[: len(operands)])
        if output is not None:
            subscripts += "->" + terms[-1]
    else:
        subscripts, operands = operands[0].replace(" ", ""), list(operands[1:])
    inputs, arrow, output = subscripts.partition("->")
    labels = inputs.split(",")
    if len(labels) != len(operands):
        raise ValueError(
            f"einsum: {subscripts!r} names {len(labels)} operands, {len(operands)} given"
        )
    ranks = [
        np.ndim(a) - len(label.replace("...", "")) if "..." in label else 0
        for a, label in zip(operands, labels)
    ]
    free = [c for c in string.ascii_letters if c not in subscripts][: max(ranks, default=0)]
    if not arrow:
        once = sorted(c for c in set(inputs) - set(".,") if inputs.count(c) == 1)
        output = "".join(["..." if free else "", *once])
    labels = [
        label.replace("...", "".join(free[len(free) - rank :]))
        for label, rank in zip(labels, ranks)
    ]
    return ",".join(labels) + "->" + output.replace("...", "".join(free)), operands


def kron(a, b):
    a, b = alike(a, b)
    ndim = max(np.ndim(a), np.ndim(b))
    a = np.reshape(a, (1,) * (ndim - np.ndim(a)) + np.shape(a))
    b = np.reshape(b, (1,) * (ndim - np.ndim(b)) + np.shape(b))
    spread_a = np.reshape(a, [n for size in np.shape(a) for n in (size, 1)])
    spread_b = np.reshape(b, [n for size in np.shape(b) for n in (1, size)])
    return np.reshape(spread_a * spread_b, np.multiply(np.shape(a), np.shape(b)).tolist())


def cross(a, b, *, axis=-1):
    a, b = alike(a, b)
    if np.shape(a)[axis] != 3 or np.shape(b)[axis] != 3:
        raise ValueError(f"cross: {np.shape(a)} and {np.shape(b)}: axis {axis} must have size 3")
    after, before = [1, 2, 0], [2, 0, 1]
    return np.take(a, after, axis) * np.take(b, before, axis) - np.take(a, before, axis) * np.take(
        b, after, axis
    )


def diagonal(a, offset=0, axis1=0, axis2=1):
    a = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = np.shape(a)[-2:]
    size = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    i = np.arange(size)
    return getitem(a, (Ellipsis, i - min(offset, 0), i + max(offset, 0)))


def diag(v, k=0):
    if np.ndim(v) == 2:
        return diagonal(v, k)
    if np.ndim(v) != 1:
        raise ValueError(f"diag: needs one or two axes, given {np.shape(v)}")
    i, n = np.arange(np.shape(v)[0]), np.shape(v)[0] + abs(k)
    return scatter_add(v, (i - min(k, 0), i + max(k, 0)), (n, n))


def diagflat(v, k=0):
    return diag(np.ravel(v), k)


def trace(a, offset=0, axis1=0, axis2=1):
    return np.sum(diagonal(a, offset, axis1, axis2), axis=-1)


def tril(m, k=0):
    return np.where(np.tri(*np.shape(m)[-2:], k=k, dtype=bool), m, 0)


def triu(m, k=0):
    return np.where(np.tri(*np.shape(m)[-2:], k=k - 1, dtype=bool), 0, m)


def norm(x, ord=None, axis=None, keepdims=False):
    axes = normalize_axes(axis, np.ndim(x))
    if ord is None or (ord == "fro" and len(axes) == 2) or (ord == 2 and len(axes) == 1):
        return euclidean_norm(x, axis=axes, keepdims=keepdims)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        row, column = axis if axis is not None else axes
        summed, kept = (row, column) if abs(ord) == 1 else (column, row)
        sums = np.sum(np.abs(x), axis=summed, keepdims=True)
        extreme = (np.max if ord > 0 else np.min)(sums, axis=kept, keepdims=True)
        return extreme if keepdims else np.squeeze(extreme, axis=axes)
    if len(axes) == 2 and ord in (2, -2, "nuc"):
        values = np.linalg.svd(np.moveaxis(x, axes, (-2, -1)), compute_uv=False)
        found = {2: np.max, -2: np.min, "nuc": np.sum}[ord](values, axis=-1)
        return np.expand_dims(found, axes) if keepdims else found
    raise TypeError(f"norm: ord={ord!r} over {len(axes)} axes is not supported on Tensors")


def _vector_norm(x, ord, axis, keepdims):
    size = np.abs(x)
    if ord == np.inf:
        return np.max(size, axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return np.min(size, axis=axis, keepdims=keepdims)
    if ord == 1:
        return np.sum(size, axis=axis, keepdims=keepdims)
    if ord == 0 or isinstance(ord, str):
        raise TypeError(f"norm: ord={ord!r} is not supported on Tensors")
    powers = np.sum(size**ord, axis=axis, keepdims=keepdims)
    zero = powers == 0
    return np.where(zero, 0, np.where(zero, 1, powers) ** (1 / ord))


def vector_norm(x, *, axis=None, ord=2, keepdims=False):
    """Over several axes together, where `norm` takes two for those of a matrix."""
    front, shape = reduced_first(x, axis, keepdims)
    return np.reshape(norm(front, ord, axis=0), shape)


def matrix_norm(x, *, ord="fro", keepdims=False):
    return norm(x, ord, (-2, -1), keepdims)


def matrix_transpose(x):
    return np.swapaxes(x, -1, -2)


def solve(a, b):
    a, b = alike(a, b)
    if np.ndim(b) == 1:
        return np.squeeze(matrix_solve(a, np.reshape(b, (-1, 1))), axis=-1)
    return matrix_solve(a, b)


def slogdet(a):
    result = np.linalg.slogdet(plain(a))
    both = result[0], log_abs_determinant(a)
    return result._replace(logabsdet=both[1]) if hasattr(result, "_replace") else both


def matrix_power(a, n):
    if n < 0:
        return matrix_power(np.linalg.inv(a), -n)
    if n == 0:
        return np.broadcast_to(np.eye(np.shape(a)[-1], dtype=a.dtype), np.shape(a)) + 0 * a
    half = matrix_power(a, n // 2) if n > 1 else None
    if n == 1:
        return a
    return half @ half @ a if n % 2 else half @ half


def multi_dot(arrays):
    return functools.reduce(operator.matmul, arrays)


LINEAR_ALGEBRA = {
    np.matmul: matmul,
    np.dot: dot,
    np.vdot: vdot,
    np.inner: inner,
    np.outer: outer,
    np.tensordot: tensordot,
    np.einsum: einsum,
    np.kron: kron,
    np.cross: cross,
    np.diagonal: diagonal,
    np.diag: diag,
    np.diagflat: diagflat,
    np.trace: trace,
    np.tril: tril,
    np.triu: triu,
    np.linalg.norm: norm,
    np.linalg.solve: solve,
    np.linalg.slogdet: slogdet,
    np.linalg.matrix_power: matrix_power,
    np.linalg.multi_dot: multi_dot,
}
# NumPy 2 has second names for these, with the last two axes as the matrix.
newer = {
    np: {"vecdot": vecdot, "matrix_transpose": matrix_transpose},
    np.linalg: {
        "cross": cross,
        "diagonal": lambda x, *, offset=0: diagonal(x, offset, -2, -1),
        "matmul": matmul,
        "matrix_norm": matrix_norm,
        "matrix_transpose": matrix_transpose,
        "outer": outer,
        "tensordot": tensordot,
        "trace": lambda x, *, offset=0: trace(x, offset, -2, -1),
        "vecdot": vecdot,
        "vector_norm": vector_norm,
    },
}
LINEAR_ALGEBRA.update(
    (getattr(place, name), function)
    for place, names in newer.items()
    for name, function in names.items()
    if hasattr(place, name) and getattr(place, name) not in LINEAR_ALGEBRA
)
