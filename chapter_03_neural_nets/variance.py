"""What an initialisation does to a signal: its variance after every layer, forward and backward."""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from chapter_03_neural_nets.activations import Tanh
from chapter_03_neural_nets.containers import Sequential
from chapter_03_neural_nets.layers import Linear
from chapter_03_neural_nets.module import Module
from utils import Tensor
from utils.seeding import generator


class Variances(NamedTuple):
    """The variance of every layer's activations, and of the loss's gradient for them."""

    activations: list[float]
    gradients: list[float]


def variances_through_depth(
    initialize: Callable[..., object],
    activation: Callable[[], Module] = Tanh,
    depth: int = 50,
    width: int = 256,
    samples: int = 256,
    rng: np.random.Generator | None = None,
) -> Variances:
    """Send normal numbers through `depth` layers, and normal gradients back; float64.

    `initialize(weight, rng=rng)` fills a layer's weight, as `kaiming_normal_` does.
    """
    rng = generator(rng)
    layers: list[Module] = []
    for _ in range(depth):
        linear = Linear(width, width, bias=False, rng=rng).astype(np.float64)
        initialize(linear.weight, rng=rng)
        layers += [linear, activation()]
    outputs: list[float] = []
    gradients: list[float] = []
    for module in layers[1::2]:
        module.register_forward_hook(lambda m, args, y: outputs.append(float(np.var(y.data))))
        module.register_full_backward_pre_hook(lambda m, g: gradients.append(float(np.var(g[0]))))
    x = rng.normal(size=(samples, width))
    with np.errstate(over="ignore", invalid="ignore"):
        y = Sequential(*layers)(Tensor(x, requires_grad=True))
        y.backward(rng.normal(size=y.shape))
    return Variances(outputs, gradients[::-1])
