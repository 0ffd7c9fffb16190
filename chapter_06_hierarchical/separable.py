"""Depthwise-separable convolution: first where, then what.

A convolution from C channels to O looks at places and mixes channels at once, with k k C O weights.
Taken apart, a kernel for each channel looks at places (k k C) and a 1 x 1 convolution mixes (C O):
for k = 3 and many channels about a ninth of the weights and of the arithmetic.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from chapter_03_neural_nets import Flatten, Module, ReLU, Sequential
from chapter_05_gradient_mastery import Linear
from chapter_06_hierarchical.lenet import with_channel
from chapter_06_hierarchical.pooling_layers import AdaptiveAvgPool2d
from chapter_06_hierarchical.residual_network import convolved
from utils import Tensor


class DepthwiseSeparable(Sequential):
    """A kernel a channel, then a mix of the channels: (B, C, H, W) to (B, out_channels, H', W').

    Source: Howard et al., 2017 (MobileNet), arXiv:1704.04861.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        rng: np.random.Generator | None = None,
    ) -> None:
        depthwise = {"stride": stride, "padding": 1, "groups": in_channels}
        super().__init__(
            *convolved(in_channels, in_channels, 3, rng=rng, **depthwise),
            ReLU(),
            *convolved(in_channels, out_channels, 1, rng=rng),
            ReLU(),
        )


class SeparableNet(Module):
    """Logits (B, classes) of pictures (B, H, W) or (B, in_channels, H, W).

    A whole convolution, then a separable one for each further entry of `channels`, which halves the
    picture wherever the channels grow.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: Sequence[int] = (16, 32, 32, 64, 64),
        in_channels: int = 1,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.features = Sequential(
            *convolved(in_channels, channels[0], 3, padding=1, rng=rng), ReLU()
        )
        for before, after in zip(channels, channels[1:]):
            self.features.append(
                DepthwiseSeparable(before, after, stride=2 if after > before else 1, rng=rng)
            )
        self.head = Sequential(
            AdaptiveAvgPool2d(1), Flatten(), Linear(channels[-1], classes, rng=rng)
        )

    def forward(self, x: Any) -> Tensor:
        return self.head(self.features(with_channel(x)))
