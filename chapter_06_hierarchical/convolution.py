"""Convolution: the same small pattern looked for everywhere.

y[o, i, j] = sum over c, u, v of w[o, c, u, v] x[c, i + u, j + v]: each output is a dot product of
the kernel with the window at its place. A picture that moves moves its features along, and a
kernel of 5 x 5 has 25 weights a channel, where a full matrix from 784 pixels to 784 has 614,656.
Written here by its definition and as one matrix product; `convolution_kernel` is what is used.
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
from utils import Tensor
from utils.primitives import scatter_add


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """By definition, cell by cell: x (B, C, ...), weight (O, C / groups, ...) to (B, O, ...).

    Each of the groups of channels has its own share of the kernels. Deep learning's convolution is
    what signal processing calls correlation: the kernel is not mirrored.
    """
    move = window_of(x, weight, groups, stride, padding, dilation)
    x = padded(x, move.padding)
    batch, channels, *sizes = x.shape
    places = move.places(sizes)
    x = np.reshape(x, (batch, groups, channels // groups, *sizes))
    kernels = np.reshape(weight, (groups, len(weight) // groups, *weight.shape[1:]))
    y = sum(
        np.einsum("bgc...,goc->bgo...", x[seen], kernels[(..., *cell)])
        for cell, seen in zip(move.offsets(), move.seen(places))
    )
    return with_bias(np.reshape(y, (batch, len(weight), *places)), bias)


def unfold(x: Tensor, move: Window) -> Tensor:
    """Every window of x (B, C, ...) as a column: (B, C, cells, places)."""
    x = padded(x, move.padding)
    places = move.places(x.shape[2:])
    columns = np.stack([x[seen] for seen in move.seen(places)], axis=2)
    return np.reshape(columns, (*x.shape[:2], move.cells, int(np.prod(places))))


def convolve_by_columns(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The same as one matrix product: kernels are rows, windows are columns ("im2col")."""
    move = window_of(x, weight, groups, stride, padding, dilation)
    columns = unfold(x, move)
    batch, channels, cells, count = columns.shape
    columns = np.reshape(columns, (batch, groups, channels // groups * cells, count))
    rows = np.reshape(weight, (groups, len(weight) // groups, columns.shape[2]))
    places = move.places([n + sum(p) for n, p in zip(x.shape[2:], move.padding)])
    return with_bias(np.reshape(rows @ columns, (batch, len(weight), *places)), bias)


def convolve_transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The adjoint of `convolve`: every number of x is spread over a window of the output.

    x (B, C, ...) with weight (C, O / groups, ...) to (B, O, ...), where a convolution with the
    same weight, stride and padding would have come from.
    """
    move = transposed_window_of(x, weight, groups, stride, padding, dilation)
    batch, channels, *places = x.shape
    sizes = sizes_before(move, places, output_padding)
    x = np.reshape(x, (batch, groups, channels // groups, *places))
    kernels = np.reshape(weight, (groups, channels // groups, *weight.shape[1:]))
    y = sum(
        scatter_add(
            np.einsum("bgc...,gco->bgo...", x, kernels[(..., *cell)]),
            seen,
            (batch, groups, weight.shape[1], *sizes),
        )
        for cell, seen in zip(move.offsets(), move.seen(places))
    )
    y = np.reshape(y, (batch, groups * weight.shape[1], *sizes))
    return with_bias(without_border(y, move.padding), bias)


def with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """A number a channel added to y (B, C, ...)."""
    return y if bias is None else y + np.reshape(bias, (-1,) + (1,) * (y.ndim - 2))


def window_of(x, weight, groups, stride, padding, dilation) -> Window:
    """How a convolution's window moves; ValueError where x, weight and groups do not fit."""
    _check_groups(x, weight, groups, per_group=weight.shape[1], divided=len(weight))
    return window(x.ndim - 2, weight.shape[2:], stride, padding, dilation)


def transposed_window_of(x, weight, groups, stride, padding, dilation) -> Window:
    per_group = len(weight) // groups if groups >= 1 else 0
    _check_groups(x, weight, groups, per_group, divided=len(weight))
    return window(x.ndim - 2, weight.shape[2:], stride, padding, dilation)


def sizes_before(move: Window, places, output_padding) -> tuple[int, ...]:
    """How large the padded input of a convolution with so many places was.

    A stride of s leaves s sizes to choose from: `output_padding` is added to the smallest.
    """
    extra = per_axis("output_padding", output_padding, len(places), least=0)
    if any(e >= max(s, d) for e, s, d in zip(extra, move.stride, move.dilation)):
        raise ValueError(
            f"output_padding={output_padding} is below the stride {move.stride} or the dilation "
            f"{move.dilation}: more would be places of their own"
        )
    steps = zip(places, move.stride, move.reach, extra)
    sizes = tuple((n - 1) * s + r + e for n, s, r, e in steps)
    if any(n <= before + after for n, (before, after) in zip(sizes, move.padding)):
        raise ValueError(f"padding {move.padding} takes away all of {sizes}")
    return sizes


def _check_groups(x, weight, groups, per_group, divided) -> None:
    if x.ndim != weight.ndim or x.ndim < 3:
        raise ValueError(
            f"a convolution takes x (B, C, ...) and a weight with as many axes, not {x.shape} and "
            f"{weight.shape}"
        )
    if not (groups >= 1 and divided % groups == 0 and x.shape[1] == per_group * groups):
        raise ValueError(
            f"x {x.shape} has {x.shape[1]} channels, which a weight {weight.shape} in "
            f"groups={groups} does not take"
        )
