"""Pooling as modules, with PyTorch's arguments."""

from __future__ import annotations

from typing import Any

from chapter_03_neural_nets import Module
from chapter_06_hierarchical.pooling import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    max_pool,
)
from chapter_06_hierarchical.windows import per_axis
from utils import Tensor


class Pooling(Module):
    """What pooling modules share: a function of the input and the module's own options."""

    axes: int

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.axes + 2:
            raise ValueError(f"{self!r} takes {self.axes + 2} axes, not {x.shape}")
        return self.pool(x, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.options.items())


class _MaxPool(Pooling):
    pool = staticmethod(max_pool)

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1
    ) -> None:
        stride = kernel_size if stride is None else stride
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)


class _AvgPool(Pooling):
    pool = staticmethod(average_pool)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
            count_include_pad=count_include_pad,
        )


class _Adaptive(Pooling):
    def __init__(self, output_size: Any) -> None:
        super().__init__(output_size=per_axis("output_size", output_size, self.axes))


class MaxPool1d(_MaxPool):
    """The largest number of every window: (B, C, L) to (B, C, L')."""

    axes = 1


class MaxPool2d(_MaxPool):
    """The largest number of every window: (B, C, H, W) to (B, C, H', W')."""

    axes = 2


class AvgPool1d(_AvgPool):
    """The mean of every window: (B, C, L) to (B, C, L')."""

    axes = 1


class AvgPool2d(_AvgPool):
    """The mean of every window: (B, C, H, W) to (B, C, H', W')."""

    axes = 2


class AdaptiveAvgPool1d(_Adaptive):
    """Means over as many windows as asked for: (B, C, L) to (B, C, output_size)."""

    axes, pool = 1, staticmethod(adaptive_average_pool)


class AdaptiveAvgPool2d(_Adaptive):
    """Means over as many windows as asked for: (B, C, H, W) to (B, C, *output_size)."""

    axes, pool = 2, staticmethod(adaptive_average_pool)


class AdaptiveMaxPool1d(_Adaptive):
    """The largest of as many windows as asked for: (B, C, L) to (B, C, output_size)."""

    axes, pool = 1, staticmethod(adaptive_max_pool)


class AdaptiveMaxPool2d(_Adaptive):
    """The largest of as many windows as asked for: (B, C, H, W) to (B, C, *output_size)."""

    axes, pool = 2, staticmethod(adaptive_max_pool)
