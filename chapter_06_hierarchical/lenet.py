"""LeNet-5: twice a convolution and a pool, then a multilayer perceptron on what they found.

From layer to layer pictures get smaller and channels more: from 28 x 28 numbers that say how dark
a pixel is to 5 x 5 that say, sixteen ways, what is near that place.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from chapter_03_neural_nets import Module, ReLU, Sequential
from chapter_05_gradient_mastery import MLP
from chapter_06_hierarchical.convolution_layers import Conv2d
from chapter_06_hierarchical.pooling_layers import MaxPool2d
from utils import Tensor


class LeNet5(Module):
    """Logits (B, classes) of pictures (B, 28, 28) or (B, 1, 28, 28); 61,706 parameters for ten.

    With the largest number of each window and ReLU, where the paper has means and a scaled tanh.
    Source: LeCun et al., 1998, doi:10.1109/5.726791.
    """

    def __init__(
        self,
        classes: int = 10,
        activation: Callable[[], Module] = ReLU,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.features = Sequential(
            Conv2d(1, 6, 5, padding=2, rng=rng),
            activation(),
            MaxPool2d(2),
            Conv2d(6, 16, 5, rng=rng),
            activation(),
            MaxPool2d(2),
        )
        self.classifier = MLP([16 * 5 * 5, 120, 84, classes], activation, rng=rng)

    def forward(self, x: Any) -> Tensor:
        return self.classifier(self.features(with_channel(x)))


def with_channel(x: Any) -> Any:
    """Grey pictures (B, H, W) as (B, 1, H, W); pictures with channels as they are."""
    return x if x.ndim == 4 else np.expand_dims(x, 1)
