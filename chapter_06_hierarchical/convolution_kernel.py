"""Convolution as it is used: three loops over blocks of places, each around one matrix product.

A convolution is linear in the input and in the weight, so its gradients are the two adjoints:
`spread` sends each output back over its window, `weight_gradient` correlates the input with the
gradient. `spread` alone is the transposed convolution, whose gradients are then the other two.

Arrays are (C, ..., B) in here, channels first and the batch last: then what one cell of the window
sees are long runs of memory, and a kernel's rows of one block of places fit into the cache. Shapes
outside stay (B, C, ...); only the order in memory is kept from one layer to the next.
"""

from __future__ import annotations

import math
from typing import Iterator

import numpy as np

from chapter_06_hierarchical.convolution import (
    convolve,
    convolve_transposed,
    inner,
    sizes_before,
    transposed_window_of,
    window_of,
)
from chapter_06_hierarchical.windows import Window, windows_of
from utils import kernel
from utils.primitives import total

BLOCK = 1 << 18  # numbers in the columns of one block: a megabyte of float32


@kernel(composed=convolve)
def convolution(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """x (B, C, ...), weight (O, C / groups, ...), bias (O): (B, O, ...)."""
    move = window_of(x, weight, groups, stride, padding, dilation)
    source = batch_last(x, move.padding)
    places = move.places(source.shape[1:-1])
    y = correlate(source, weight, move, places, groups)
    if bias is not None:
        y += bias.reshape(-1, *(1 for _ in y.shape[1:]))

    def backward(g, wanted):
        g = batch_last(g)
        found = [None] * len(wanted)
        if wanted[0]:
            dx = spread(g, weight, source.shape[1:-1], move, groups)
            found[0] = batch_first(dx[without_padding(source, move)])
        if wanted[1]:
            found[1] = weight_gradient(source, g, weight.shape, move, groups)
        if any(wanted[2:]):
            found[2] = total(g, axis=tuple(range(1, g.ndim)))
        return tuple(found)

    return batch_first(y), backward


@kernel(composed=convolve_transposed)
def transposed_convolution(
    x, weight, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1
):
    """x (B, C, ...), weight (C, O / groups, ...), bias (O): (B, O, ...)."""
    move = transposed_window_of(x, weight, groups, stride, padding, dilation)
    source = batch_last(x)
    places = source.shape[1:-1]
    y = spread(source, weight, sizes_before(move, places, output_padding), move, groups)
    y = y[without_padding(y, move)]
    if bias is not None:
        y += bias.reshape(-1, *(1 for _ in y.shape[1:]))

    def backward(g, wanted):
        bordered = batch_last(g, move.padding)
        found = [None] * len(wanted)
        if wanted[0]:
            found[0] = batch_first(correlate(bordered, weight, move, places, groups))
        if wanted[1]:
            found[1] = weight_gradient(bordered, source, weight.shape, move, groups)
        if any(wanted[2:]):
            found[2] = total(batch_last(g), axis=tuple(range(1, g.ndim)))
        return tuple(found)

    return batch_first(y), backward


def correlate(source, weight, move: Window, places, groups: int) -> np.ndarray:
    """The products of (O, C / groups, ...) with all windows of (C, ..., B): (O, *places, B)."""
    rows = as_rows(weight, groups)
    y = np.empty((len(weight), *places, source.shape[-1]), source.dtype)
    for part, columns in blocks_of_columns(source, move, places, groups):
        np.matmul(rows, columns, out=as_rows(y[:, part], groups))
    return y


def spread(g, weight, sizes, move: Window, groups: int) -> np.ndarray:
    """The adjoint of `correlate` by its source: (O, *places, B) to (C, *sizes, B)."""
    columns_of = as_rows(weight, groups).swapaxes(1, 2)
    source = np.zeros((weight.shape[1] * groups, *sizes, g.shape[-1]), g.dtype)
    places = g.shape[1:-1]
    seen = windows_of(source, move, places)
    for part in blocks(len(source) * move.cells, places, g.shape[-1]):
        outputs = as_rows(g[:, part], groups)
        # A product over one output, as in depthwise layers, is no sum: BLAS has nothing for it.
        columns = columns_of * outputs if outputs.shape[1] == 1 else columns_of @ outputs
        columns = columns.reshape(len(source), *move.kernel, *g[:, part].shape[1:])
        for cell in move.offsets():
            seen[(slice(None), *cell, part)] += columns[(slice(None), *cell)]
    return source


def weight_gradient(source, g, shape, move: Window, groups: int) -> np.ndarray:
    """The adjoint of `correlate` by its weight, which has this shape."""
    out = np.zeros((groups, shape[0] // groups, math.prod(shape[1:])), g.dtype)
    for part, columns in blocks_of_columns(source, move, g.shape[1:-1], groups):
        out += as_rows(g[:, part], groups) @ columns.swapaxes(1, 2)
    return out.reshape(shape)


def blocks_of_columns(source, move, places, groups) -> Iterator[tuple[slice, np.ndarray]]:
    """Parts of the first axis of places, and their windows: (groups, C / groups cells, places)."""
    seen = windows_of(source, move, places)
    before = (slice(None),) * (1 + len(places))
    for part in blocks(len(source) * move.cells, places, source.shape[-1]):
        windows = seen[(*before, part)]
        rows = len(source) // groups * move.cells
        yield part, windows.reshape(groups, rows, math.prod(windows.shape[1 + len(places) :]))


def blocks(rows: int, places, batch: int) -> Iterator[slice]:
    """Parts of the first axis of places, with about BLOCK numbers in their columns each."""
    step = max(BLOCK // max(rows * math.prod(places[1:]) * batch, 1), 1)
    return (slice(i, i + step) for i in range(0, places[0], step))


def as_rows(a, groups: int) -> np.ndarray:
    """(C, ..., B) as (groups, C / groups, all else)."""
    return a.reshape(groups, len(a) // groups, math.prod(a.shape[1:]))


def batch_last(x, padding=(), value: float = 0.0) -> np.ndarray:
    """(B, C, ...) to (C, ..., B), in this order in memory, with a border of one value."""
    moved = np.moveaxis(x, 0, -1)
    if not any(map(any, padding)):
        return np.ascontiguousarray(moved)
    sizes = [before + n + after for n, (before, after) in zip(moved.shape[1:-1], padding)]
    out = np.full((len(moved), *sizes, moved.shape[-1]), value, x.dtype)
    out[(slice(None), *inner(sizes, padding))] = moved
    return out


def batch_first(x) -> np.ndarray:
    """(C, ..., B) as (B, C, ...), not copied."""
    return np.moveaxis(x, -1, 0)


def without_padding(source, move: Window) -> tuple[slice, ...]:
    return (slice(None), *inner(source.shape[1:-1], move.padding))
