"""Joining, splitting, repeating, padding and picking: the same numbers in another arrangement."""

from __future__ import annotations

import numpy as np

from utils import primitives
from utils.primitives import getitem, join, scatter_add
from utils.promotion import alike, common_dtype, is_tensor, plain


def reshape(a, *shape, order="C", **named):
    """The new shape is called `newshape` by NumPy before 2.1, `shape` since."""
    if order != "C":
        raise TypeError(f"reshape: order={order!r} is not supported on Tensors")
    (shape,) = (*shape, *named.values())
    return primitives.reshape(a, shape)


def transpose(a, axes=None):
    return primitives.transpose(a, axes=axes)


def where(condition, *choices):
    if not choices:
        return np.nonzero(condition)
    return primitives.where(condition, *choices)


def concatenate(arrays, axis=0):
    arrays = alike(*arrays)
    if axis is None:
        arrays, axis = [np.ravel(a) for a in arrays], 0
    ndim = np.ndim(arrays[0])
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"concatenate: axis {axis} is out of bounds for arrays of {ndim} dimensions"
        )
    axis %= ndim
    sizes = [np.shape(a)[axis] if np.ndim(a) == ndim else 0 for a in arrays]
    return join(*arrays, axis=axis, bounds=[0, *np.cumsum(sizes).tolist()])


def stack(arrays, axis=0):
    return concatenate([np.expand_dims(a, axis) for a in alike(*arrays)], axis)


def vstack(tup):
    return concatenate([np.atleast_2d(a) for a in alike(*tup)], 0)


def hstack(tup):
    arrays = [np.atleast_1d(a) for a in alike(*tup)]
    return concatenate(arrays, 0 if arrays and np.ndim(arrays[0]) == 1 else 1)


def dstack(tup):
    return concatenate([np.atleast_3d(a) for a in alike(*tup)], 2)


def column_stack(tup):
    return concatenate([a if np.ndim(a) > 1 else np.reshape(a, (-1, 1)) for a in alike(*tup)], 1)


def append(arr, values, axis=None):
    arr, values = alike(arr, values)
    if axis is None:
        return concatenate([np.ravel(arr), np.ravel(values)])
    return concatenate([arr, values], axis)


def array_split(ary, indices_or_sections, axis=0):
    size = np.shape(ary)[axis]
    if np.ndim(indices_or_sections) == 0:
        if indices_or_sections < 1:
            raise ValueError(f"array_split: at least 1 section, not {indices_or_sections}")
        each, extra = divmod(size, indices_or_sections)
        stops = np.cumsum([each + (i < extra) for i in range(indices_or_sections)])[:-1]
    else:
        stops = indices_or_sections
    lead = (slice(None),) * (axis % np.ndim(ary))
    bounds = [0, *(int(stop) for stop in stops), size]
    return [ary[(*lead, slice(start, stop))] for start, stop in zip(bounds, bounds[1:])]


def split(ary, indices_or_sections, axis=0):
    size = np.shape(ary)[axis]
    if np.ndim(indices_or_sections) == 0 and size % indices_or_sections:
        raise ValueError(
            f"split: {size} elements along axis {axis} do not divide into "
            f"{indices_or_sections} equal parts; np.array_split allows unequal ones"
        )
    return array_split(ary, indices_or_sections, axis)


def hsplit(ary, indices_or_sections):
    return split(ary, indices_or_sections, 0 if np.ndim(ary) == 1 else 1)


def vsplit(ary, indices_or_sections):
    return split(ary, indices_or_sections, 0)


def dsplit(ary, indices_or_sections):
    return split(ary, indices_or_sections, 2)


def ravel(a):
    return np.reshape(a, (-1,))


def rollaxis(a, axis, start=0):
    axis, start = axis % np.ndim(a), start + np.ndim(a) * (start < 0)
    return np.moveaxis(a, axis, start - (axis < start))


def atleast_1d(*arys):
    found = [a if np.ndim(a) else np.reshape(a, (1,)) for a in arys]
    return found[0] if len(found) == 1 else found


def atleast_2d(*arys):
    found = [a if np.ndim(a) > 1 else np.reshape(a, (1, -1)) for a in arys]
    return found[0] if len(found) == 1 else found


def atleast_3d(*arys):
    found = []
    for a in arys:
        shape = np.shape(a)
        padded = {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}.get(len(shape), shape)
        found.append(np.reshape(a, padded))
    return found[0] if len(found) == 1 else found


def broadcast_arrays(*args):
    shape = np.broadcast_shapes(*(np.shape(a) for a in args))
    return [np.broadcast_to(a, shape) for a in alike(*args)]


def take(a, indices, axis=None):
    if axis is None:
        return getitem(np.ravel(a), np.asarray(indices))
    return getitem(a, (slice(None),) * (axis % np.ndim(a)) + (np.asarray(indices),))


def take_along_axis(arr, indices, axis=-1):
    if axis is None:
        return getitem(np.ravel(arr), np.asarray(indices))
    axis %= np.ndim(arr)
    key = list(np.ogrid[tuple(slice(n) for n in np.shape(indices))])
    key[axis] = np.asarray(indices)
    return getitem(arr, tuple(key))


def repeat(a, repeats, axis=None):
    if axis is None:
        a, axis = np.ravel(a), 0
    return take(a, np.repeat(np.arange(np.shape(a)[axis]), repeats), axis)


def tile(A, reps):
    reps = tuple(reps) if np.ndim(reps) else (reps,)
    shape = (1,) * (len(reps) - np.ndim(A)) + np.shape(A)
    reps = (1,) * (len(shape) - len(reps)) + reps
    sizes = [(1, n) for n in shape]
    copies = [(r, n) for r, n in zip(reps, shape)]
    spread = np.broadcast_to(np.reshape(A, [i for s in sizes for i in s]), sum(copies, ()))
    return np.reshape(spread, [r * n for r, n in copies])


def pad(array, pad_width, mode="constant", constant_values=0):
    shape = np.shape(array)
    widths = np.broadcast_to(pad_width, (len(shape), 2)).tolist()
    if mode == "constant":
        inside = tuple(slice(before, before + n) for n, (before, _) in zip(shape, widths))
        padded = tuple(before + n + after for n, (before, after) in zip(shape, widths))
        frame = np.pad(np.zeros(shape, bool), widths, constant_values=True)
        border = np.pad(np.zeros(shape), widths, constant_values=constant_values)
        return np.where(frame, border.astype(array.dtype), scatter_add(array, inside, padded))
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise TypeError(f"pad: mode {mode!r} is not supported on Tensors")
    for axis, width in enumerate(widths):
        array = take(array, np.pad(np.arange(shape[axis]), width, mode=mode), axis)
    return array


def meshgrid(*xi, indexing="xy"):
    """Every vector along an axis of its own, and the same along all others."""
    n = len(xi)
    along = list(range(n))
    if indexing == "xy" and n > 1:
        along[:2] = 1, 0
    spread = [np.reshape(x, [-1 if k == i else 1 for k in range(n)]) for i, x in zip(along, xi)]
    return broadcast_arrays(*spread)


def select(condlist, choicelist, default=0):
    for condition, choice in reversed(list(zip(condlist, choicelist))):
        default = np.where(condition, choice, default)
    return default


def linspace(start, stop, num=50, endpoint=True):
    dtype = common_dtype([start, stop])
    share = np.arange(num, dtype=dtype) / max(num - endpoint, 1)
    share = np.reshape(share, (-1, *(1,) * max(np.ndim(start), np.ndim(stop))))
    return start * (1 - share) + stop * share


def full_like(a, fill_value):
    if not is_tensor(fill_value):
        return np.full_like(plain(a), fill_value)
    return np.broadcast_to(primitives.astype(fill_value, a.dtype), np.shape(a))


def fliplr(m):
    return np.flip(m, 1)


def flipud(m):
    return np.flip(m, 0)


def rot90(m, k=1, axes=(0, 1)):
    for _ in range(k % 4):
        m = np.flip(np.swapaxes(m, *axes), axes[0])
    return m


SHAPES = {
    np.reshape: reshape,
    np.transpose: transpose,
    np.where: where,
    np.concatenate: concatenate,
    np.stack: stack,
    np.vstack: vstack,
    np.hstack: hstack,
    np.dstack: dstack,
    np.column_stack: column_stack,
    np.append: append,
    np.array_split: array_split,
    np.split: split,
    np.hsplit: hsplit,
    np.vsplit: vsplit,
    np.dsplit: dsplit,
    np.ravel: ravel,
    np.rollaxis: rollaxis,
    np.atleast_1d: atleast_1d,
    np.atleast_2d: atleast_2d,
    np.atleast_3d: atleast_3d,
    np.broadcast_arrays: broadcast_arrays,
    np.take: take,
    np.take_along_axis: take_along_axis,
    np.repeat: repeat,
    np.tile: tile,
    np.pad: pad,
    np.meshgrid: meshgrid,
    np.select: select,
    np.linspace: linspace,
    np.full_like: full_like,
    np.fliplr: fliplr,
    np.flipud: flipud,
    np.rot90: rot90,
}
