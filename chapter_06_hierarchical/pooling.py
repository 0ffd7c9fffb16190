"""Pooling: a window says one number, its largest or its mean, and the picture gets smaller.

What is lost is where exactly a feature was; what is won is that the next layer's window reaches
twice as far. The gradient of a mean is shared by the window, that of a maximum goes to the winner,
the first of equals.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_06_hierarchical.windows import (
    Window,
    padded,
    per_axis,
    window,
    without_border,
)
from utils import Tensor, kernel


def max_pool_composed(x, *, kernel_size, stride=None, padding=0, dilation=1) -> Tensor:
    move = pooling_window(x, kernel_size, stride, padding, dilation)
    seen = _stacked(padded(x, move.padding, -np.inf), move)
    return _first_largest(seen)


@kernel(composed=max_pool_composed)
def max_pool(x, *, kernel_size, stride=None, padding=0, dilation=1):
    """The largest number of every window of x (B, C, ...), which moves by its size by default."""
    move = pooling_window(x, kernel_size, stride, padding, dilation)
    source = padded(x, move.padding, -np.inf)
    first, *others = cells = move.seen(move.places(source.shape[2:]))
    y = source[first].copy(order="K")
    for seen in others:
        np.maximum(y, source[seen], out=y)

    def backward(g, wanted):
        dx, open_ = np.zeros_like(source), np.ones_like(y, bool)
        for seen in cells:
            won = source[seen] == y
            won &= open_
            open_ ^= won
            dx[seen] += g * won
        return (without_border(dx, move.padding),)

    return y, backward


def average_pool_composed(
    x, *, kernel_size, stride=None, padding=0, count_include_pad=True
) -> Tensor:
    move = pooling_window(x, kernel_size, stride, padding, 1)
    seen = np.sum(_stacked(padded(x, move.padding), move), axis=0)
    return seen / divisor(x, move, count_include_pad)


@kernel(composed=average_pool_composed)
def average_pool(x, *, kernel_size, stride=None, padding=0, count_include_pad=True):
    """The mean of every window of x (B, C, ...), with the zeros around it or without."""
    move = pooling_window(x, kernel_size, stride, padding, 1)
    source = padded(x, move.padding)
    first, *others = cells = move.seen(move.places(source.shape[2:]))
    y, count = source[first].copy(order="K"), divisor(x, move, count_include_pad)
    for seen in others:
        y += source[seen]
    y /= count

    def backward(g, wanted):
        share, dx = g / count, np.zeros_like(source)
        for seen in cells:
            dx[seen] += share
        return (without_border(dx, move.padding),)

    return y, backward


def adaptive_average_pool(x: Tensor, output_size: Any) -> Tensor:
    """Means over as many windows as asked for, as equal as they can be: (B, C, *output_size).

    Each axis is a product with a matrix of means, one row a window.
    """
    for axis, (starts, ends) in enumerate(adaptive_windows(x, output_size), start=2):
        index = np.arange(x.shape[axis])
        inside = (starts[:, None] <= index) & (index < ends[:, None])
        means = (inside / inside.sum(axis=1, keepdims=True)).astype(x.dtype)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ means.T, -1, axis)
    return x


def adaptive_max_pool(x: Tensor, output_size: Any) -> Tensor:
    """The largest numbers of as many windows as asked for: (B, C, *output_size)."""
    # From the last axis, as the first of equals is the first in reading order.
    for axis, (starts, ends) in reversed([*enumerate(adaptive_windows(x, output_size), start=2)]):
        # Windows of equal length, the last number of the shorter ones said twice.
        reach = np.arange((ends - starts).max())
        index = np.minimum(starts + reach[:, None], ends - 1)
        x = _first_largest(np.moveaxis(np.take(x, index, axis=axis), axis, 0))
    return x


def adaptive_windows(x: Tensor, output_size: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where the windows of each axis behind the channels start and end."""
    counts = per_axis("output_size", output_size, x.ndim - 2)
    found = []
    for size, count in zip(x.shape[2:], counts):
        i = np.arange(count)
        found.append((i * size // count, -(-(i + 1) * size // count)))
    return found


def pooling_window(x, kernel_size, stride, padding, dilation) -> Window:
    if x.ndim < 3:
        raise ValueError(f"pooling takes x (B, C, ...), not {x.shape}")
    stride = kernel_size if stride is None else stride
    move = window(x.ndim - 2, kernel_size, stride, padding, dilation)
    if any(2 * max(p) > k for p, k in zip(move.padding, move.kernel)):
        raise ValueError(
            f"padding={padding} is more than half of kernel_size={kernel_size}: some windows "
            "would see nothing"
        )
    return move


def divisor(x, move: Window, count_include_pad: bool) -> Any:
    """How many numbers each mean is of: one number, or (*places)."""
    if count_include_pad:
        return move.cells
    ones = padded(np.ones((1, 1, *x.shape[2:]), x.dtype), move.padding)
    return _stacked(ones, move).sum(axis=0)[0, 0]


def _stacked(x, move: Window) -> Tensor:
    """What each cell sees of padded x (B, C, ...): (cells, B, C, *places)."""
    return np.stack([x[seen] for seen in move.seen(move.places(x.shape[2:]))])


def _first_largest(a: Tensor) -> Tensor:
    """The largest along axis 0; of equals the first, which alone gets the gradient."""
    return np.take_along_axis(a, np.argmax(a, axis=0)[None], axis=0)[0]
