"""Where a kernel looks: the places of a window that slides over one axis or more.

A window has `kernel` cells along each axis, `dilation` apart; from one place to the next it moves
by `stride`, over an input with `padding` around it. Convolution, its transpose and pooling differ
in what they do with the numbers in the window, not in where it goes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Sequence, Tuple

import numpy as np

from utils import Tensor

Sizes = Tuple[int, ...]


class Window(NamedTuple):
    """How a window moves; each field holds one entry an axis, `padding` (before, after)."""

    kernel: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    dilation: Sizes

    @property
    def cells(self) -> int:
        return math.prod(self.kernel)

    @property
    def reach(self) -> Sizes:
        """From the first cell to the last, both counted."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))

    def places(self, sizes: Sequence[int]) -> Sizes:
        """How many places it has along axes of these sizes, padding included.

        Raises ValueError where it is larger than an axis: it "does not fit in" that tuple of sizes.
        """
        found = tuple((n - r) // s + 1 for n, r, s in zip(sizes, self.reach, self.stride))
        if min(found) < 1:
            raise ValueError(
                f"a window that reaches over {self.reach} does not fit in {tuple(sizes)} "
                f"(of which padding {self.padding})"
            )
        return found

    def offsets(self) -> list[Sizes]:
        """Every cell, as its index along each axis."""
        return list(np.ndindex(*self.kernel))

    def seen(self, places: Sequence[int]) -> list[tuple]:
        """What each cell sees at all places, as an index of the padded input (B, C, ...)."""
        return [
            (..., *(slice(i * d, i * d + s * (n - 1) + 1, s) for i, d, s, n in steps))
            for steps in (
                zip(cell, self.dilation, self.stride, places) for cell in np.ndindex(*self.kernel)
            )
        ]


def window(
    axes: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Window:
    """A window over so many axes; a single number is meant for each of them.

    `padding` may be "valid" (none), "same" (as many places as numbers, which needs stride 1), or
    give (before, after) for each axis.
    """
    kernel = per_axis("kernel_size", kernel_size, axes)
    stride = per_axis("stride", stride, axes)
    dilation = per_axis("dilation", dilation, axes)
    return Window(kernel, stride, _paddings(padding, kernel, stride, dilation), dilation)


def per_axis(name: str, value: Any, axes: int, least: int = 1) -> Sizes:
    """One whole number for each axis; ValueError for others than `least` or more."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    whole = all(isinstance(n, (int, np.integer)) and n >= least for n in values)
    if not whole or len(values) != axes:
        raise ValueError(
            f"{name} is a whole number from {least} up, or {axes} of them, not {value!r}"
        )
    return values


def _paddings(padding, kernel, stride, dilation) -> tuple[tuple[int, int], ...]:
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        if set(stride) != {1}:
            raise ValueError(f"padding 'same' keeps the size only with stride 1, not {stride}")
        missing = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return tuple((n // 2, n - n // 2) for n in missing)
    if isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding):
        if len(padding) != len(kernel):
            raise ValueError(f"padding gives a pair for each of {len(kernel)} axes, not {padding}")
        return tuple(per_axis("padding", pair, 2, least=0) for pair in padding)
    return tuple((p, p) for p in per_axis("padding", padding, len(kernel), least=0))


def padded(x: Tensor, padding: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """x (B, C, ...) with a border along the axes behind the channels."""
    if not any(map(any, padding)):
        return x
    return np.pad(x, [(0, 0), (0, 0), *padding], constant_values=value)


def without_border(x: Any, padding: Sequence[tuple[int, int]]) -> Any:
    """What is left of x (B, C, ...) without its border."""
    sizes = x.shape[x.ndim - len(padding) :]
    return x[(..., *(slice(before, n - after) for n, (before, after) in zip(sizes, padding)))]
