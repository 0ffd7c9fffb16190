"""Dropout as one node, from two random bytes an element."""

from __future__ import annotations

import numpy as np

import chapter_03_neural_nets as chapter_03
from utils import Tensor, kernel
from utils.promotion import plain
from utils.seeding import generator


def masked_composed(x: Tensor, kept, scale=1.0) -> Tensor:
    return x * (plain(kept) * x.dtype.type(scale))


@kernel(composed=masked_composed)
def masked(x, kept, scale=1.0):
    """scale * x where kept (booleans of x's shape), else 0."""
    weight = kept * x.dtype.type(scale)
    return x * weight, lambda g, wanted: (g * weight, None)


def draw_kept(shape: tuple, p: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """True with probability 1 - p, to a 65,536th, and one over exactly that probability."""
    dropped = round(p * 65536)
    numbers = rng.integers(65536, size=shape, dtype=np.uint16)
    return numbers >= dropped, 65536 / (65536 - dropped) if dropped < 65536 else 0.0


class Dropout(chapter_03.Dropout):
    """Chapter 3's layer, on the kernel; its random numbers are others."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept, scale = draw_kept(x.shape, self.p, generator(self.rng))
        return masked(x, kept, scale=scale)
