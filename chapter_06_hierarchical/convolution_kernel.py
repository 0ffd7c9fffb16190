"""Convolution as it is used: a matrix product for each row of the picture, and few copies.

A convolution is linear in the input and in the weight, so its gradients are the two adjoints:
`spread` sends each output back over its window, `weight_gradient` correlates the input with the
gradient. `spread` alone is the transposed convolution, whose gradients are then the other two.

In memory a picture is (H, C, W, B) in here, rows first and the batch last. Rows that follow each
other are then one run with their channels, so that a window of k rows needs no copy: only what the
cells of one row see is laid side by side, k copies where im2col makes k k. Shapes outside stay
(B, C, H, W); the order in memory is kept from one layer to the next. A line is a picture of a row.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from chapter_04_training_dynamics.batch_norm import along_channels
from chapter_05_gradient_mastery.normalization import channel_sums
from chapter_06_hierarchical.convolution import (
    convolve,
    convolve_transposed,
    sizes_before,
    transposed_window_of,
    window_of,
)
from chapter_06_hierarchical.windows import Window, without_border
from utils import kernel
from utils.primitives import total


@kernel(composed=convolve)
def convolution(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """x (B, C, ...), weight (O, C / groups, ...), bias (O): (B, O, ...)."""
    move = window_of(x, weight, groups, stride, padding, dilation)
    source, slide = rows_first(x, move.padding), over_rows(move)
    sizes = (len(source), *source.shape[2:-1])
    y = correlate(source, weight, slide, slide.places(sizes), groups)
    if bias is not None:
        y += along_channels(bias, y.ndim)

    def backward(g, wanted):
        g, found = rows_first(g), [None] * len(wanted)
        if wanted[0]:
            dx = batch_first(spread(g, weight, slide, sizes, groups), x.ndim)
            found[0] = without_border(dx, move.padding)
        if wanted[1]:
            found[1] = weight_gradient(source, g, weight.shape, slide, groups)
        if any(wanted[2:]):
            found[2] = channel_sums(g)
        return tuple(found)

    return batch_first(y, x.ndim), backward


@kernel(composed=convolve_transposed)
def transposed_convolution(
    x, weight, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1
):
    """x (B, C, ...), weight (C, O / groups, ...), bias (O): (B, O, ...)."""
    move = transposed_window_of(x, weight, groups, stride, padding, dilation)
    source, slide = rows_first(x), over_rows(move)
    places = (len(source), *source.shape[2:-1])
    sizes = sizes_before(move, x.shape[2:], output_padding)
    sizes_of_rows = (1, *sizes)[-len(places) :]
    y = batch_first(spread(source, weight, slide, sizes_of_rows, groups), x.ndim)
    y = without_border(y, move.padding)
    if bias is not None:
        y += along_channels(bias, y.ndim)

    def backward(g, wanted):
        g, found = rows_first(g, move.padding), [None] * len(wanted)
        if wanted[0]:
            found[0] = batch_first(correlate(g, weight, slide, places, groups), x.ndim)
        if wanted[1]:
            found[1] = weight_gradient(g, source, weight.shape, slide, groups)
        if any(wanted[2:]):
            found[2] = channel_sums(g)
        return tuple(found)

    return y, backward


def correlate(source, weight, slide: Window, places, groups: int) -> np.ndarray:
    """The products of (O, C / groups, ...) with all windows of (H, C, W, B): (H', O, W', B)."""
    y = kernel_rows(weight, groups) @ windows_by_row(source, slide, places, groups)
    return y.reshape(places[0], len(weight), *places[1:], source.shape[-1])


def spread(g, weight, slide: Window, sizes, groups: int) -> np.ndarray:
    """The adjoint of `correlate` by its source: (H', O, W', B) to (H, C, W, B)."""
    (step, *_), (apart, *_), (reach, *_) = slide.stride, slide.dilation, slide.reach
    outputs, upward = grouped(g, groups), kernel_rows(weight, groups).swapaxes(1, 2)
    cells, channels = cells_of_row(slide, g.shape[2:-1]), weight.shape[1]
    beside = np.zeros((sizes[0], len(cells), groups, channels, outputs.shape[-1]), g.dtype)
    for i, output in enumerate(outputs):
        # A product over one output, as in depthwise layers, is no sum: BLAS has nothing for it.
        columns = upward * output if output.shape[1] == 1 else upward @ output
        columns = columns.reshape(groups, slide.kernel[0], len(cells), *beside.shape[3:])
        beside[i * step : i * step + reach : apart] += np.moveaxis(columns, 0, 2)
    beside = beside.reshape(sizes[0], len(cells), groups * channels, *g.shape[2:])
    source = np.zeros((sizes[0], groups * channels, *sizes[1:], g.shape[-1]), g.dtype)
    for i, seen in enumerate(cells):
        source[seen] += beside[:, i]
    return source


def weight_gradient(source, g, shape, slide: Window, groups: int) -> np.ndarray:
    """The adjoint of `correlate` by its weight, which has this shape (O, C / groups, ...)."""
    windows = windows_by_row(source, slide, (len(g), *g.shape[2:-1]), groups)
    rows = total(grouped(g, groups) @ windows.swapaxes(2, 3), axis=0)
    return rows.reshape(shape[0], slide.cells, shape[1]).swapaxes(1, 2).reshape(shape)


def windows_by_row(source, slide: Window, places, groups: int) -> np.ndarray:
    """What a window sees at every row of places: (H', groups, cells C / groups, W' B)."""
    beside = side_by_side(source, cells_of_row(slide, places[1:]))
    windows = sliding_window_view(beside, slide.reach[0], axis=0)
    windows = windows[: slide.stride[0] * places[0] : slide.stride[0], ..., :: slide.dilation[0]]
    channels, columns = source.shape[1] // groups, math.prod(beside.shape[3:])
    windows = np.moveaxis(windows, -1, 1).reshape(
        len(windows), slide.cells, groups, channels, columns
    )
    return windows.swapaxes(1, 2).reshape(len(windows), groups, slide.cells * channels, columns)


def side_by_side(source, cells: list[tuple]) -> np.ndarray:
    """What the cells of a window's row see of (H, C, W, B): (H, cells, C, W', B)."""
    if len(cells) == 1:
        return source[cells[0]][:, None]
    beside = np.empty((len(source), len(cells), *source[cells[0]].shape[1:]), source.dtype)
    for i, seen in enumerate(cells):
        beside[:, i] = source[seen]
    return beside


def cells_of_row(slide: Window, places) -> list[tuple]:
    """What each cell of a window's row sees of (H, C, W, B), as its index."""
    row = Window(*(field[1:] for field in slide))
    return [(*index, slice(None)) for index in row.seen(places)]


def kernel_rows(weight, groups: int) -> np.ndarray:
    """(O, C / groups, ...) as (groups, O / groups, cells C / groups), as windows are in memory."""
    by_cell = weight.reshape(*weight.shape[:2], math.prod(weight.shape[2:])).swapaxes(1, 2)
    return by_cell.reshape(groups, len(weight) // groups, math.prod(weight.shape[1:]))


def grouped(g, groups: int) -> np.ndarray:
    """(H', O, W', B) as (H', groups, O / groups, W' B)."""
    return g.reshape(len(g), groups, g.shape[1] // groups, math.prod(g.shape[2:]))


def over_rows(move: Window) -> Window:
    """The same movement over pictures; a line is a picture of one row."""
    if len(move.kernel) > 1:
        return move
    return Window(
        (1, *move.kernel), (1, *move.stride), ((0, 0), *move.padding), (1, *move.dilation)
    )


def rows_first(x, padding=()) -> np.ndarray:
    """(B, C, H, W) to (H, C, W, B), in this order in memory, with a border of zeros."""
    x = x[:, :, None] if x.ndim == 3 else x
    moved = x.transpose(2, 1, *range(3, x.ndim), 0)
    if not any(map(any, padding)):
        return np.ascontiguousarray(moved)
    rows, *others = ((0, 0), *padding)[-(x.ndim - 2) :]
    borders = (rows, (0, 0), *others, (0, 0))
    out = np.zeros([n + sum(border) for n, border in zip(moved.shape, borders)], x.dtype)
    without_border(out, borders)[...] = moved
    return out


def batch_first(rows, ndim: int) -> np.ndarray:
    """(H, C, W, B) as (B, C, H, W), or (B, C, W) of one row; not copied."""
    x = rows.transpose(-1, 1, 0, *range(2, rows.ndim - 1))
    return x[:, :, 0] if ndim == 3 else x
