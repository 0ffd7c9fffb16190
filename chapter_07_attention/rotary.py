"""Rotary positions: a query and a key are turned by angles that grow with their places.

Two numbers of a head are a point of the plane. With the query turned by its place t and the key by
s, their product depends on t - s alone: order is told as distance, where it is asked for, and the
vectors themselves stay as they are.
"""

from __future__ import annotations

import functools

import numpy as np

from chapter_07_attention.masks import rounded_up
from chapter_07_attention.positions import Positions
from utils import Tensor, kernel


def rotate_composed(x, *, size, count, theta=10_000.0, places=None) -> Tensor:
    heads = by_head(x, size)
    cos, sin = angles(x.shape[1], size, theta, x.dtype.str, places)
    first, second = heads[:, :, :count, : size // 2], heads[:, :, :count, size // 2 :]
    turned = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return np.reshape(np.concatenate([turned, heads[:, :, count:]], axis=2), x.shape)


@kernel(composed=rotate_composed)
def rotate(x, *, size, count, theta=10_000.0, places=None):
    """x (B, T, n size) with the first `count` heads turned by their places (T,), or 0 to T - 1.

    Returns an array of its own, and `backward` as every kernel does (`utils.kernel`).
    """
    cos, sin = angles(x.shape[1], size, theta, x.dtype.str, places)

    def turn(x, sin):
        y = np.array(x, order="C")
        old, new = (by_head(a, size)[:, :, :count] for a in (x, y))
        first, second = old[..., : size // 2], old[..., size // 2 :]
        np.multiply(old, np.concatenate([cos, cos], axis=-1), out=new)
        new[..., : size // 2] -= second * sin
        new[..., size // 2 :] += first * sin
        return y

    return turn(x, sin), lambda g, wanted: (turn(g, -sin),)


class Rotary(Positions):
    """Pairs (i, i + size / 2) of a head turned by place / theta^(2 i / size).

    Source: Su et al., 2021, arXiv:2104.09864; the pairs are Llama's (halves, not neighbours).
    """

    def __init__(self, theta: float = 10_000.0) -> None:
        super().__init__()
        self.theta = theta

    def turn(self, heads: Tensor, size: int, count: int) -> Tensor:
        return rotate(heads, size=size, count=count, theta=self.theta)


def by_head(x: Tensor, size: int) -> Tensor:
    """(B, T, n size) as (B, T, n, size)."""
    if size % 2:
        raise ValueError(f"heads are turned pair by pair: their size must be even, not {size}")
    return np.reshape(x, (*x.shape[:2], x.shape[2] // size, size))


def angles(
    length: int, size: int, theta: float, dtype: str, places: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """cos and sin for every place and pair: (T, 1, size / 2) each."""
    if places is None:
        return tuple(a[:length] for a in tables(rounded_up(length), size, theta, dtype))
    known = rounded_up(int(places.max(initial=0)) + 1)
    return tuple(a[places] for a in tables(known, size, theta, dtype))


@functools.lru_cache(maxsize=8)
def tables(length: int, size: int, theta: float, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    turns = np.arange(length)[:, None, None] / theta ** (np.arange(0, size, 2) / size)
    found = np.cos(turns).astype(dtype), np.sin(turns).astype(dtype)
    for table in found:
        table.flags.writeable = False
    return found
