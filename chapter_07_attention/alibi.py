"""Attention with linear biases: the further back, the less it counts; no positions besides.

Each head has its own slope, from one that hardly looks beyond its neighbours to one that looks far.
Nothing is learnt about places, so that longer texts than were trained on bring nothing new.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from chapter_07_attention.masks import distances, rounded_up
from chapter_07_attention.positions import Positions


class ALiBi(Positions):
    """-slope (t - s) added to the scores, a slope a head. Source: Press et al., 2021,
    arXiv:2108.12409."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.slopes = slopes(heads)

    def bias(self, queries: int, keys: int) -> np.ndarray:
        return biases(len(self.slopes), queries, keys)


def slopes(heads: int) -> np.ndarray:
    """2^(-8/n), 2^(-16/n), ... for n heads; for others than powers of 2, every second of 2 n's
    fill up those of the power below."""
    power = 2 ** math.floor(math.log2(heads))
    own = 2.0 ** (-8 / power * np.arange(1, power + 1))
    between = 2.0 ** (-4 / power * np.arange(1, 2 * power + 1, 2))
    return np.concatenate([own, between[: heads - power]])


def biases(heads: int, queries: int, keys: int) -> np.ndarray:
    """-slope times the distance, the queries being the last of the keys: (heads, T, S)."""
    return table(heads, rounded_up(keys))[:, keys - queries : keys, :keys]


@functools.lru_cache(maxsize=4)
def table(heads: int, length: int) -> np.ndarray:
    found = (-slopes(heads)[:, None, None] * distances(length)).astype(np.float32)
    found.flags.writeable = False
    return found
