"""One deep network with every remedy as a switch, so that what differs is the remedy alone.

Each of its many layers is chapter 3's: a linear map, perhaps a normalisation, an activation;
perhaps with a residual path around the three. As it stands, with nothing switched on, a signal
that goes through twenty of them has faded before it arrives, and so has the gradient.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from chapter_03_neural_nets import Flatten, Linear, Module, Sequential, Tanh
from chapter_04_training_dynamics.residual import Residual


class DeepMLP(Sequential):
    """`depth` layers of `width` units between inputs (B, ...) and logits (B, classes).

    `initialize(weight, rng=...)` fills the hidden layers' weights, as `orthogonal_` does;
    `normalization(width)` makes a module that goes before each activation; with `residual` each
    layer but the first, which changes the size, adds to its input. `linear` makes the layers.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        width: int = 64,
        depth: int = 20,
        activation: Callable[[], Module] = Tanh,
        initialize: Callable[..., Any] | None = None,
        normalization: Callable[[int], Module] | None = None,
        residual: bool = False,
        linear: Callable[..., Module] = Linear,
        rng: np.random.Generator | None = None,
    ) -> None:
        if not (depth >= 1 and width >= 1):
            raise ValueError(f"a deep network has layers and units, not {depth} of {width}")
        blocks: list[Module] = []
        for features in [inputs] + [width] * (depth - 1):
            layer = linear(features, width, rng=rng)
            if initialize is not None:
                initialize(layer.weight, rng=rng)
            normalized = [] if normalization is None else [normalization(width)]
            block = Sequential(layer, *normalized, activation())
            blocks.append(Residual(block) if residual and blocks else block)
        super().__init__(Flatten(), *blocks, linear(width, classes, rng=rng))
