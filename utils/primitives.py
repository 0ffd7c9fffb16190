"""The few differentiable functions that NumPy does not offer.

Each works on arrays, and hands Tensors over by NumPy's own protocol, so rules may call them in
either world. Their derivatives stand in the table with all others.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Callable

import numpy as np

from utils.error_function import error_function

ROWS_PER_BLOCK = 256  # added one by one in float32, as some products of matrices do
MANY_TERMS = 1 << 20


def primitive(function: Callable) -> Callable:
    """Let `function` of arrays be overridden by its arguments, as NumPy's functions are."""

    @functools.wraps(function)
    def dispatched(*args, **keywords):
        for a in args:
            if type(a) is not np.ndarray and hasattr(a, "__array_function__"):
                return a.__array_function__(dispatched, (type(a),), args, keywords)
        return function(*args, **keywords)

    dispatched.of_arrays = function
    return dispatched


@primitive
def astype(a, dtype):
    """`a` in another dtype."""
    return np.asarray(a, dtype)


@primitive
def relu(a):
    """max(a, 0), whose derivative at 0 is 0 (`np.maximum` shares a tie between its arguments)."""
    return np.maximum(a, a.dtype.type(0))


@primitive
def zeroed(a, off):
    """`np.where(off, 0, a)` on the bits of floats: ten times faster, as nothing is decided."""
    bits = f"u{a.dtype.itemsize}"
    kept = np.negative(np.logical_not(off).astype(bits))  # all bits set, or none
    return np.asarray(kept & a.view(bits)).view(a.dtype)


@primitive
def erf(a):
    """The error function: 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to a."""
    return error_function(np.atleast_1d(a)).reshape(np.shape(a))


@primitive
def reshape(a, shape):
    """`np.reshape`, which takes longer to find the array's method than that takes to work."""
    return a.reshape(shape)


@primitive
def transpose(a, axes=None):
    """`np.transpose`, likewise."""
    return a.transpose(axes)


@primitive
def where(condition, a, b):
    """`np.where` with both choices."""
    return np.where(condition, a, b)


@primitive
def clip(a, low, high):
    """`np.clip` with its bounds by position; None is no bound."""
    return np.clip(a, low, high)


@primitive
def getitem(a, key):
    """`a[key]` for every kind of key."""
    return a[key]


@primitive
def scatter_add(g, key, shape):
    """Zeros of `shape` with `g` added at `key`, repeats adding up: the adjoint of `a[key]`."""
    out = np.zeros(shape, g.dtype)
    if _has_no_repeats(key):
        out[key] = g
    elif out.size > 8 * g.size:
        np.add.at(out, key, g)
    else:  # counting with weights is ten times faster, but goes over all places
        places = np.arange(out.size).reshape(shape)[key]
        sums = np.bincount(places.ravel(), g.ravel(), out.size)
        out += sums.reshape(shape).astype(g.dtype)
    return out


def _has_no_repeats(key) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return all(
        part is None
        or part is Ellipsis
        or isinstance(part, (int, slice))
        or (isinstance(part, np.ndarray) and part.dtype == bool)
        for part in parts
    )


@primitive
def join(*arrays, axis, bounds):
    """`np.concatenate` of arrays as arguments of their own, which meet at `bounds`."""
    return np.concatenate(arrays, axis)


@primitive
def contract(*operands, subscripts, optimize=False):
    """`np.einsum` with explicit subscripts ("ij,jk->ik") and the operands first."""
    inputs, output = subscripts.split("->")
    labelled = [zip(labels, a.shape) for labels, a in zip(inputs.split(","), operands)]
    sizes: dict[str, int] = {}
    for label, size in itertools.chain.from_iterable(labelled):
        sizes[label] = max(size, sizes.get(label, 0))
    terms = math.prod(size for label, size in sizes.items() if label not in output)
    if terms > MANY_TERMS and all(a.dtype == np.float32 for a in operands):
        # einsum adds one by one, too: long float32 sums need float64.
        y = np.einsum(subscripts, *operands, optimize=optimize, dtype=np.float64)
        return y.astype(np.float32)
    return np.einsum(subscripts, *operands, optimize=optimize)


@primitive
def cumsum(a, axis=None):
    """`np.cumsum`, which for float32 adds up in float64: it goes one by one."""
    if a.dtype.kind != "f" or a.dtype.itemsize >= 8:
        return np.cumsum(a, axis)
    return np.cumsum(a, axis, dtype=np.float64).astype(a.dtype)


@primitive
def matrix_product(a, b):
    """`np.matmul` of matrices and stacks of them, not of vectors."""
    return np.matmul(a, b)


@primitive
def matrix_solve(a, b):
    """`np.linalg.solve` for a matrix `b`, or a stack of them, not for a vector."""
    missing = max(a.ndim - b.ndim, 0)
    return np.linalg.solve(a, b.reshape((1,) * missing + b.shape))


@primitive
def eigenvalues(a, uplo):
    """The eigenvalues of symmetric matrices, from their lower or upper triangles."""
    return np.linalg.eigvalsh(a, uplo)


@primitive
def eigenvectors(a, uplo):
    """Their eigenvectors, in columns."""
    return np.linalg.eigh(a, uplo)[1]


@primitive
def singular_values(a):
    return np.linalg.svd(a, compute_uv=False)


@primitive
def pseudo_inverse(a):
    return np.linalg.pinv(a)


@primitive
def log_abs_determinant(a):
    """log |det a| over the last two axes."""
    return np.linalg.slogdet(a)[1]


@primitive
def euclidean_norm(a, axis=None, keepdims=False):
    """sqrt(sum(a^2)), whose derivative where it is 0 is 0, as PyTorch's."""
    return np.sqrt(total(np.square(a), axis=axis, keepdims=keepdims))


@primitive
def total(a, axis=None, keepdims=False):
    """`np.sum`, right for long float32 arrays too.

    NumPy adds pairwise along the last axis but one by one along any other, so that 2^25 float32
    ones over axis 0 make 2^24. Matrix products with rows of ones are faster, and in blocks their
    error grows with the size of a block, not of the array (Higham, 1993, doi:10.1137/0914050).
    """
    if a.size <= ROWS_PER_BLOCK or a.dtype.kind != "f" or a.dtype.itemsize >= 8:
        return np.add.reduce(a, axis, None, None, keepdims)
    ndim = a.ndim
    one = type(axis) is int and -ndim <= axis < ndim
    axes = (axis % ndim,) if one else normalize_axes(axis, ndim)
    first, count = (axes[0], len(axes)) if axes else (0, 0)
    outer, inner = a.shape[:first], a.shape[first + count :]
    in_one_run = axes == tuple(range(first, first + count)) and a.flags.c_contiguous
    if not in_one_run or a.dtype.itemsize < 4:
        wider = np.float32 if a.dtype.itemsize < 4 else np.float64
        return np.sum(a, axis=axes, keepdims=keepdims, dtype=wider).astype(a.dtype)
    rows = a.reshape(math.prod(outer), math.prod(a.shape[first : first + count]), math.prod(inner))
    kept = (1,) * count if keepdims else ()
    return _sum_rows(rows).reshape(outer + kept + inner)


def _sum_rows(a):
    """(outer, rows, inner) to (outer, inner)."""
    outer, rows, inner = a.shape
    if inner == 1 and rows > ROWS_PER_BLOCK:
        return np.sum(a.reshape(outer, rows), axis=1)
    if inner == 1:
        return np.matmul(a.reshape(outer, rows), np.ones(rows, a.dtype))
    if rows <= ROWS_PER_BLOCK:
        return np.matmul(np.ones(rows, a.dtype), a)
    whole = rows - rows % ROWS_PER_BLOCK
    blocks = _sum_rows(a[:, :whole].reshape(-1, ROWS_PER_BLOCK, inner))
    return _sum_rows(blocks.reshape(outer, -1, inner)) + _sum_rows(a[:, whole:])


def normalize_axes(axis, ndim: int) -> tuple[int, ...]:
    """NumPy's `axis` argument (None, a number, several) as sorted numbers from 0."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for i in axes:
        if not -max(ndim, 1) <= i < max(ndim, 1):
            raise ValueError(f"axis {i} is out of bounds for an array of {ndim} dimensions")
    if ndim == 0:  # NumPy reduces a single number along axis 0 or -1
        return ()
    found = sorted({i % ndim for i in axes})
    if len(found) != len(axes):
        raise ValueError(f"axis {axis} names an axis twice")
    return tuple(found)
