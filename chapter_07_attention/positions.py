"""Where a token stands: attention sees a set, so order must be told.

A scheme may do so at three places, and does nothing at the others: add to the tokens' vectors
before the first layer (`embed`), turn queries and keys (`turn`), or add to the scores (`bias`).
Here are those that add to vectors: a learnt vector a place, or sines that need no learning.
"""

from __future__ import annotations

import functools

import numpy as np

from chapter_03_neural_nets import Module, Parameter, normal_
from chapter_07_attention.masks import rounded_up
from utils import Tensor


class Positions(Module):
    """No positions at all; the base of all schemes. A causal model still learns some order."""

    def embed(self, x: Tensor) -> Tensor:
        """The vectors (B, T, C) of tokens that know their places."""
        return x

    def turn(self, heads: Tensor, size: int, count: int) -> Tensor:
        """(B, T, n size), of whose n heads the first `count` are queries and keys, turned."""
        return heads

    def bias(self, queries: int, keys: int) -> np.ndarray | None:
        """What is added to the scores (heads, T, S), or None."""
        return None


class LearnedPositions(Positions):
    """A vector for each of the first `length` places, learnt like any other parameter.

    Raises ValueError for longer sequences. Source: Gehring et al., 2017, arXiv:1705.03122.
    """

    def __init__(self, length: int, size: int, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        self.weight = normal_(Parameter(np.empty((length, size), np.float32)), std=0.02, rng=rng)

    def embed(self, x: Tensor) -> Tensor:
        if x.shape[1] > len(self.weight):
            raise ValueError(f"{len(self.weight)} places are known, not {x.shape[1]}")
        return x + (self.weight if x.shape[1] == len(self.weight) else self.weight[: x.shape[1]])


class SinusoidalPositions(Positions):
    """Sines and cosines of the place, with periods from 2 pi to 10,000 times that.

    A shift by n places is then a rotation of each pair, whatever the place. `scale` multiplies
    them: 1 beside vectors of unit variance. Source: Vaswani et al., 2017, arXiv:1706.03762.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def embed(self, x: Tensor) -> Tensor:
        table = sinusoids(rounded_up(x.shape[1]), x.shape[2])[: x.shape[1]]
        return x + (self.scale * table).astype(x.dtype)


@functools.lru_cache(maxsize=8)
def sinusoids(length: int, size: int) -> np.ndarray:
    """Row t: sin and cos of t / 10000^(2 i / size), for i = 0, 1, ..., side by side: float64.

    An odd size lacks the last cosine: (length, size). The table is kept, so nobody may write to it.
    """
    angles = np.arange(length)[:, None] / 10_000 ** (np.arange(0, size, 2) / size)
    table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, -1)[:, :size]
    table.flags.writeable = False
    return table
