"""A residual network: convolutions that add to what they were given, in stages of halved pictures.

Chapter 4's path past a layer, with two convolutions of 3 x 3 as the layer. Two of them see 5 x 5
with 18 weights a pair of channels where one such window has 25, and bend the result once more.
Where a stage begins, the picture is halved and the channels are doubled, so that every layer costs
the same; there, the path past them is a convolution of 1 x 1.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from chapter_03_neural_nets import (
    Flatten,
    Identity,
    Module,
    ReLU,
    Sequential,
    kaiming_normal_,
    relu,
    zeros_,
)
from chapter_04_training_dynamics import Residual
from chapter_05_gradient_mastery import BatchNorm2d, Linear
from chapter_06_hierarchical.convolution_layers import Conv2d, Convolution
from chapter_06_hierarchical.lenet import with_channel
from chapter_06_hierarchical.pooling_layers import AdaptiveAvgPool2d
from utils import Tensor


class ResidualBlock(Residual):
    """relu(shortcut(x) + two convolutions of x): (B, C, H, W) to (B, channels, H', W')."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            Sequential(
                *convolved(in_channels, channels, 3, stride=stride, padding=1, rng=rng),
                ReLU(),
                *convolved(channels, channels, 3, padding=1, rng=rng),
            )
        )
        same = stride == 1 and in_channels == channels
        self.shortcut = (
            Identity()
            if same
            else Sequential(*convolved(in_channels, channels, 1, stride=stride, rng=rng))
        )
        zeros_(self.module[-1].weight)  # each block begins as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.shortcut(x) + self.module(x))


class ResNet(Module):
    """Logits (B, classes) of pictures (B, H, W) or (B, in_channels, H, W).

    A stage for each of `channels`, of so many `blocks`; every stage but the first halves the
    picture. The defaults have 175,000 parameters. Source: He et al., 2015, arXiv:1512.03385.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        in_channels: int = 1,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(channels) == 0 or blocks < 1:
            raise ValueError(
                f"a ResNet has stages and blocks: channels={channels}, blocks={blocks}"
            )
        self.stem = Sequential(
            *convolved(in_channels, channels[0], 3, padding=1, rng=rng),
            ReLU(),
        )
        self.stages = Sequential()
        for stage, (before, after) in enumerate(zip([channels[0], *channels], channels)):
            first = ResidualBlock(before, after, stride=2 if stage else 1, rng=rng)
            others = [ResidualBlock(after, after, rng=rng) for _ in range(blocks - 1)]
            self.stages.append(Sequential(first, *others))
        self.head = Sequential(
            AdaptiveAvgPool2d(1), Flatten(), Linear(channels[-1], classes, rng=rng)
        )

    def forward(self, x: Any) -> Tensor:
        return self.head(self.stages(self.stem(with_channel(x))))


def convolved(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    rng: np.random.Generator | None = None,
    convolution: type[Convolution] = Conv2d,
    **options: Any,
) -> tuple[Module, Module]:
    """A convolution and its batch norm, whose shift makes a bias needless."""
    layer = convolution(in_channels, out_channels, kernel_size, bias=False, rng=rng, **options)
    kaiming_normal_(layer.weight, rng=rng)
    return layer, BatchNorm2d(out_channels)
