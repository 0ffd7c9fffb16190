"""Stochastic depth: leave out whole parts of a residual network, and it trains as many networks."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from chapter_03_neural_nets import Module
from chapter_05_gradient_mastery.dropout import draw_kept, masked
from chapter_07_attention import TransformerEncoderLayer
from utils import Tensor
from utils.seeding import generator


class StochasticDepth(Module):
    """Zero for each example with probability p, else x / (1 - p): x (B, ...) to the same.

    On a residual path, x + StochasticDepth(part(x)) skips the part; in evaluation it does nothing.
    Source: Huang et al., 2016, arXiv:1603.09382.
    """

    def __init__(self, p: float, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is a probability below 1, not {p}")
        self.p, self.rng = p, rng

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept, scale = draw_kept((len(x),) + (1,) * (x.ndim - 1), self.p, generator(self.rng))
        return masked(x, kept, scale=scale)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class StochasticDepthLayer(TransformerEncoderLayer):
    """Chapter 7's layer, either of whose parts may be left out; same parameters and names.

    GPT takes it: `GPT(config, layer=functools.partial(StochasticDepthLayer, skipped=0.1))`.
    """

    def __init__(self, *args: Any, skipped: float = 0.1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.skip = StochasticDepth(skipped, options.get("rng"))

    def add(self, x: Tensor, norm: Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        return super().add(x, norm, lambda x: self.skip(part(x)))
