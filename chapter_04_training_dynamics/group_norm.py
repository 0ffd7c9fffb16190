"""Group normalisation: each example's channels in groups, every group with mean 0 and variance 1.

Between the two others: one group is layer normalisation of all channels and places, as many groups
as channels is instance normalisation. Like them it needs no batch, which suits large images.
"""

from __future__ import annotations

import numpy as np

from chapter_03_neural_nets import Module, Parameter
from chapter_03_neural_nets.optimizers import in_range
from chapter_04_training_dynamics.batch_norm import scale_and_shift, standardize
from utils import Tensor


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise each group of neighbouring channels of x (B, C, ...), then scale and shift.

    Source: Wu, He, 2018, arXiv:1803.08494.
    """
    batch, channels, *places = x.shape
    groups = np.reshape(x, (batch, num_groups, channels // num_groups, *places))
    y, _, _ = standardize(groups, tuple(range(2, groups.ndim)), eps)
    return scale_and_shift(np.reshape(y, x.shape), weight, bias)


class GroupNorm(Module):
    """Group normalisation of (B, num_channels, ...).

    Raises ValueError where the groups do not divide the channels, and for other shapes.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        if not (num_groups >= 1 and num_channels >= 1 and num_channels % num_groups == 0):
            raise ValueError(f"{num_channels} channels do not divide into {num_groups} groups")
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps = in_range("eps", eps)
        self.weight = Parameter(np.ones(num_channels, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, np.float32)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"{self!r} takes (B, {self.num_channels}, ...), not {x.shape}")
        return self.normalize(x)

    def normalize(self, x: Tensor) -> Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = self.weight is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={affine}"
