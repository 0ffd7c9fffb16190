"""Convolution as modules, with PyTorch's arguments and parameter names."""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_03_neural_nets import Module, Parameter, kaiming_uniform_, uniform_
from chapter_03_neural_nets.initialization import fans
from chapter_03_neural_nets.layers import check_sizes
from chapter_06_hierarchical.convolution_kernel import convolution, transposed_convolution
from chapter_06_hierarchical.windows import per_axis, window
from utils import Tensor


class Convolution(Module):
    """What convolutions of all dimensions share; `axes` is how many a subclass slides along.

    Weight and bias begin uniform within 1 / sqrt(inputs of one output) of 0, as PyTorch's do.
    """

    axes: int
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels, groups=groups)
        if groups == 0 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups={groups} does not divide {in_channels} channels in and {out_channels} out"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes)
        self.stride = per_axis("stride", stride, self.axes)
        self.padding, self.dilation = padding, per_axis("dilation", dilation, self.axes)
        window(self.axes, kernel_size, stride, padding, dilation)  # raises what it has to say
        first, second = (
            (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        )
        shape = (first, second // groups, *self.kernel_size)
        self.weight = Parameter(np.empty(shape, np.float32))
        self.bias = Parameter(np.empty(out_channels, np.float32)) if bias else None
        self.reset_parameters(rng)

    def reset_parameters(self, rng: np.random.Generator | None = None) -> None:
        kaiming_uniform_(self.weight, a=5**0.5, rng=rng)
        if self.bias is not None:
            bound = max(fans(self.weight)[0], 1) ** -0.5
            uniform_(self.bias, -bound, bound, rng)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.axes + 2 or x.shape[1] != self.in_channels:
            wanted = ", ".join(["B", str(self.in_channels), *"LHW"[self.axes > 1 :][: self.axes]])
            raise ValueError(f"{self!r} takes ({wanted}), not {x.shape}")
        return self.convolve(x)

    def convolve(self, x: Tensor) -> Tensor:
        return convolution(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def extra_repr(self) -> str:
        usual = {"stride": (1,) * self.axes, "padding": 0, "dilation": (1,) * self.axes,
                 "groups": 1, "output_padding": 0}  # fmt: skip
        unusual = [
            f", {k}={getattr(self, k)}" for k, v in usual.items() if getattr(self, k, v) != v
        ]
        bias = "" if self.bias is not None else ", bias=False"
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
            f"{''.join(unusual)}{bias}"
        )


class Conv1d(Convolution):
    """Convolution along sequences: (B, in_channels, L) to (B, out_channels, L')."""

    axes = 1


class Conv2d(Convolution):
    """Convolution over images: (B, in_channels, H, W) to (B, out_channels, H', W').

    Source: LeCun et al., 1989, doi:10.1162/neco.1989.1.4.541.
    """

    axes = 2


class TransposedConvolution(Convolution):
    """What transposed convolutions share: each number is spread over a window of the output."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, rng
        )
        self.output_padding = output_padding

    def convolve(self, x: Tensor) -> Tensor:
        return transposed_convolution(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class ConvTranspose1d(TransposedConvolution):
    """Transposed convolution along sequences: (B, in_channels, L) to (B, out_channels, L')."""

    axes = 1


class ConvTranspose2d(TransposedConvolution):
    """Transposed convolution of images: (B, in_channels, H, W) to (B, out_channels, H', W').

    Source: Zeiler et al., 2010, doi:10.1109/CVPR.2010.5539957.
    """

    axes = 2
