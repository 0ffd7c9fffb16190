"""Sums, means, products, and what sorting gives."""

from __future__ import annotations

import functools
import math

import numpy as np

from utils import primitives
from utils.operation import supported
from utils.primitives import astype, normalize_axes, total
from utils.promotion import alike


def count_along(a, axis) -> int:
    return math.prod(np.shape(a)[i] for i in normalize_axes(axis, np.ndim(a)))


def in_float32(reduction):
    """Reduce 16-bit floats, which are for storage, in 32 bits."""

    @functools.wraps(reduction)
    def widened(a, *args, **keywords):
        if getattr(a, "dtype", None) != np.float16:
            return reduction(a, *args, **keywords)
        return astype(reduction(astype(a, np.float32), *args, **keywords), np.float16)

    return widened


def reduced_first(a, axis, keepdims):
    """The axes to reduce as one, in front: (reduced, *others), and the shape of the result."""
    shape, axes = np.shape(a), normalize_axes(axis, np.ndim(a))
    others = [i for i in range(len(shape)) if i not in axes]
    kept = [shape[i] for i in others]
    front = np.reshape(np.transpose(a, [*axes, *others]), (count_along(a, axis), *kept))
    return front, [1 if i in axes else n for i, n in enumerate(shape)] if keepdims else kept


@in_float32
def mean(a, axis=None, dtype=None, out=None, keepdims=False):
    supported("mean", {"dtype": dtype, "out": out})
    return total(a, axis=axis, keepdims=keepdims) / count_along(a, axis)


@in_float32
def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
    supported("var", {"dtype": dtype, "out": out})
    deviations = a - mean(a, axis, keepdims=True)
    squares = total(np.square(deviations), axis=axis, keepdims=keepdims)
    return squares / (count_along(a, axis) - ddof)


@in_float32
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
    """Where all are equal the derivative is 0, as PyTorch's, not 0 / 0."""
    supported("std", {"dtype": dtype, "out": out})
    variance = var(a, axis, ddof=ddof, keepdims=keepdims)
    flat = variance == 0
    return np.where(flat, 0, np.sqrt(np.where(flat, 1, variance)))


def average(a, axis=None, weights=None, *, keepdims=False):
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    a, weights = alike(a, weights)
    if np.shape(weights) != np.shape(a):
        sizes = [1] * np.ndim(a)
        sizes[axis] = -1
        weights = np.reshape(weights, sizes)
    weights = np.broadcast_to(weights, np.shape(a))
    weighted = np.sum(a * weights, axis=axis, keepdims=keepdims)
    return weighted / np.sum(weights, axis=axis, keepdims=keepdims)


def ptp(a, axis=None, *, keepdims=False):
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


def prod(a, axis=None, dtype=None, out=None, keepdims=False):
    """Halves multiplied with each other until one is left: zeros need no rule of their own."""
    supported("prod", {"dtype": dtype, "out": out})
    a, shape = reduced_first(a, axis, keepdims)
    if len(a) == 0:
        a = np.sum(a, axis=0, keepdims=True) + 1
    while len(a) > 1:
        half = len(a) // 2
        halves = a[:half] * a[half : 2 * half]
        a = np.concatenate([halves, a[2 * half :]]) if len(a) % 2 else halves
    return np.reshape(a, shape)


def cumprod(a, axis=None):
    """Each round multiplies by what lies 1, 2, 4, … places before: zeros need no rule."""
    a = np.ravel(a) if axis is None else np.moveaxis(a, axis, 0)
    step = 1
    while step < len(a):
        a = np.concatenate([a[:step], a[step:] * a[:-step]])
        step *= 2
    return a if axis is None else np.moveaxis(a, 0, axis)


def diff(a, n=1, axis=-1):
    a = np.moveaxis(a, axis, 0)
    for _ in range(n):
        a = a[1:] - a[:-1]
    return np.moveaxis(a, 0, axis)


def ediff1d(ary):
    return diff(np.ravel(ary))


def gradient(f, *spacing, axis=None):
    """Central differences, one-sided at the ends; a list with one array an axis, as NumPy's."""
    normalize_axes(axis, np.ndim(f))
    axes = range(np.ndim(f)) if axis is None else np.atleast_1d(axis).tolist()
    if any(np.ndim(h) for h in spacing) or len(spacing) not in (0, 1, len(axes)):
        raise TypeError("gradient: on Tensors the spacing is one number, or one for each axis")
    steps = spacing if len(spacing) == len(axes) else (spacing or (1.0,)) * len(axes)
    found = []
    for i, h in zip(axes, steps):
        a = np.moveaxis(f, i, 0)
        slopes = [a[1:2] - a[:1], (a[2:] - a[:-2]) / 2, a[-1:] - a[-2:-1]]
        found.append(np.moveaxis(np.concatenate(slopes) / h, 0, i))
    return found[0] if len(found) == 1 else found


def around(a, decimals=0):
    return np.round(a, decimals)


def nansum(a, axis=None, *, keepdims=False):
    return np.sum(np.where(np.isnan(a), 0, a), axis=axis, keepdims=keepdims)


def nanmean(a, axis=None, *, keepdims=False):
    counted = np.sum(~np.isnan(a), axis=axis, keepdims=keepdims)
    return nansum(a, axis, keepdims=keepdims) / counted


def cumulative_sum(a, axis=None, dtype=None, out=None):
    supported("cumsum", {"dtype": dtype, "out": out})
    return primitives.cumsum(a, axis=axis)


def sort(a, axis=-1, kind=None):
    if axis is None:
        a, axis = np.ravel(a), 0
    order = np.argsort(a, axis=axis, kind=kind)
    return np.take_along_axis(a, order, axis=axis)


def partition(a, kth, axis=-1):
    if axis is None:
        a, axis = np.ravel(a), 0
    order = np.argpartition(a, kth, axis=axis)
    return np.take_along_axis(a, order, axis=axis)


def median(a, axis=None, *, keepdims=False):
    a, shape = reduced_first(a, axis, keepdims)
    a = np.sort(a, axis=0)
    middle = (a[(len(a) - 1) // 2] + a[len(a) // 2]) / 2
    # NaN sorts last, and makes the median NaN.
    return np.reshape(np.where(np.isnan(a[-1]), a[-1], middle), shape)


def clip(a, a_min=None, a_max=None, *, min=None, max=None):
    low, high = a_min if min is None else min, a_max if max is None else max
    return primitives.clip(a, low, high)


def nan_to_num(x, *, nan=0.0, posinf=None, neginf=None):
    limits = np.finfo(x.dtype)
    x = np.where(np.isnan(x), nan, x)
    x = np.where(np.isposinf(x), limits.max if posinf is None else posinf, x)
    return np.where(np.isneginf(x), limits.min if neginf is None else neginf, x)


def amax(a, axis=None, *, keepdims=False):
    return np.max(a, axis=axis, keepdims=keepdims)


def amin(a, axis=None, *, keepdims=False):
    return np.min(a, axis=axis, keepdims=keepdims)


def sum(a, axis=None, dtype=None, out=None, keepdims=False):
    supported("sum", {"dtype": dtype, "out": out})
    return total(a, axis=axis, keepdims=keepdims)


REDUCTIONS = {
    np.sum: sum,
    np.mean: mean,
    np.var: var,
    np.std: std,
    np.average: average,
    np.ptp: ptp,
    np.prod: prod,
    np.cumprod: cumprod,
    np.cumsum: cumulative_sum,
    np.diff: diff,
    np.ediff1d: ediff1d,
    np.gradient: gradient,
    np.around: around,
    np.nansum: nansum,
    np.nanmean: nanmean,
    np.sort: sort,
    np.partition: partition,
    np.median: median,
    np.clip: clip,
    np.nan_to_num: nan_to_num,
    np.amax: amax,
    np.amin: amin,
}
