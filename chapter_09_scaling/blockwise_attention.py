"""Blockwise ("flash") attention: the same answers, without ever holding the scores of all pairs.

The softmax of a row can be had while the row passes by. Keep the largest score so far, the sum of
the exponentials below it, and the answer so far; where a new block brings a larger score, shrink
both by the exponential of the difference, and go on adding. So a block of queries meets the keys
block by block, and no more than one block of scores exists at a time, small enough to stay in the
processor's cache. Backward makes each block of scores again. All it needs besides the inputs is the
logarithm of each row's sum: exp(score - logarithm) is the share itself. Where nobody may look
ahead, the blocks that lie in the future are left out, which is nearly half of the work.
"""

from __future__ import annotations

import math
from typing import Any, Iterator

import numpy as np

from chapter_07_attention import attend, causal_mask
from chapter_07_attention.attention import queries_keys_values, split_heads
from chapter_07_attention.config import whole_number
from chapter_07_attention.masks import as_bias
from utils import Tensor, kernel
from utils.primitives import total

IN_CACHE = 1 << 19  # scores of all heads that exist at a time
SMALLEST, LARGEST = 64, 512  # blocks: below, the calls cost more than what they do


def blockwise_attend_composed(
    q, kv=None, kept=None, *, heads, kv_heads=None, mask=None, kept_scale=1.0, causal=False,
    block=None,
) -> Tensor:  # fmt: skip
    if causal:
        ahead = as_bias(causal_mask(q.shape[1], (q if kv is None else kv).shape[1]), q.dtype)
        mask = ahead if mask is None else ahead + as_bias(mask, q.dtype)
    options = {"heads": heads, "kv_heads": kv_heads, "mask": mask, "kept_scale": kept_scale}
    return attend.composed(q, kv, kept, **options)


@kernel(composed=blockwise_attend_composed)
def blockwise_attend(
    q, kv=None, kept=None, *, heads, kv_heads=None, mask=None, kept_scale=1.0, causal=False,
    block=None,
):  # fmt: skip
    """Chapter 7's `attend` in memory that grows with T, not with T^2: (B, T, heads D).

    It takes that kernel's arguments. `causal` lets each query look no further than its own place;
    where T queries meet S > T keys, they are the last T of the S places. `block` is how many
    queries and keys meet at a time, by default what the cache has room for. float16 is worked on in
    float32. Raises ValueError for more causal queries than keys, and for a mask that does not
    broadcast to (B, heads, T, S).
    Source: Milakov, Gimelshein, 2018, arXiv:1805.02867 (softmax in one pass); Rabe, Staats, 2021,
    arXiv:2112.05682 (attention by it); Dao et al., 2022, arXiv:2205.14135 (and its gradient).
    """
    kv_heads = heads if kv_heads is None else kv_heads
    dtype = np.result_type(q.dtype, np.float32)
    queries, keys, values = (
        by_group(x.astype(dtype, copy=False), kv_heads)
        for x in queries_keys_values(q, kv, heads, kv_heads)
    )
    grid = BlockGrid((*queries.shape[:4], keys.shape[3]), causal, block)
    mask, kept = grid.over(mask), grid.over(kept)
    root = queries.shape[-1] ** -0.5
    scaled = np.multiply(queries, root, order="C")

    def scores(rows, columns, room):
        s = grid.corner(room, rows, columns)
        np.matmul(scaled[..., rows, :], keys[..., columns, :].swapaxes(-1, -2), out=s)
        if mask is not None:
            s += as_bias(grid.cut(mask, rows, columns), dtype)
        if causal and columns.stop > grid.lead + rows.start + 1:  # some pairs are in the future
            np.copyto(s, -np.inf, where=grid.future(rows, columns))
        return s

    def dropped(shares, rows, columns):
        if kept is None:
            return shares
        return shares * (grid.cut(kept, rows, columns) * dtype.type(kept_scale))

    y = np.empty((*q.shape[:2], heads * queries.shape[-1]), dtype)
    answers = by_group(split_heads(y, heads), kv_heads)
    logarithms = np.empty((*queries.shape[:4], 1), dtype)
    room = grid.room(dtype)
    for rows, blocks in grid:
        top = np.full_like(logarithms[..., rows, :], -np.inf)
        norm, answer = np.zeros_like(top), np.zeros_like(scaled[..., rows, :])
        for columns in blocks:
            e = scores(rows, columns, room)
            before, top = top, np.maximum(top, e.max(axis=-1, keepdims=True))
            shift = np.where(np.isneginf(top), 0, top)  # a row may have seen nothing yet
            e -= shift
            np.exp(e, out=e)
            shrink = np.exp(before - shift)
            norm *= shrink
            norm += total(e, axis=-1, keepdims=True)
            answer *= shrink
            answer += dropped(e, rows, columns) @ values[..., columns, :]
        blind = norm == 0
        norm[blind], top[blind] = 1, 0
        np.divide(answer, norm, out=answers[..., rows, :])
        np.add(top, np.log(norm), out=logarithms[..., rows, :])

    def backward(g, wanted):
        g = g.astype(dtype, copy=False)
        common = total(by_group(split_heads(g * y, heads), kv_heads), axis=-1, keepdims=True)
        g = by_group(split_heads(g, heads), kv_heads)
        found = np.zeros(q.shape, dtype), None if kv is None else np.zeros(kv.shape, dtype)
        dq, dk, dv = (by_group(x, kv_heads) for x in queries_keys_values(*found, heads, kv_heads))
        rooms = grid.room(dtype), grid.room(dtype)
        for rows, blocks in grid:
            h = np.ascontiguousarray(g[..., rows, :])
            for columns in blocks:
                shares = scores(rows, columns, rooms[0])
                shares -= logarithms[..., rows, :]
                np.exp(shares, out=shares)
                dv[..., columns, :] += pulled(dropped(shares, rows, columns), h)
                ds = grid.corner(rooms[1], rows, columns)
                np.matmul(h, values[..., columns, :].swapaxes(-1, -2), out=ds)
                ds = dropped(ds, rows, columns)
                ds -= common[..., rows, :]
                ds *= shares
                dq[..., rows, :] += ds @ keys[..., columns, :]
                dk[..., columns, :] += pulled(ds, scaled[..., rows, :])
        dq *= root
        given = (x for x in found[: len(wanted)])
        return tuple(x if x is None else x.astype(q.dtype, copy=False) for x in given)

    return y.astype(q.dtype, copy=False), backward


class BlockGrid:
    """Which blocks of queries meet which of keys: scores of shape (B, kv_heads, n, T, S)."""

    def __init__(self, shape: tuple[int, ...], causal: bool, block: int | None) -> None:
        self.shape, self.time, self.keys = shape, shape[3], shape[4]
        self.lead = self.keys - self.time  # the first query's place among the keys
        if causal and self.lead < 0:
            raise ValueError(f"{self.time} causal queries are the last of the keys, which are only "
                             f"{self.keys}")  # fmt: skip
        self.causal = causal
        self.block = whole_number("block", self.usual() if block is None else block)

    def usual(self) -> int:
        """A power of 2: what the cache has room for, and not much of what need not be done."""
        fits = int((IN_CACHE / max(math.prod(self.shape[:3]), 1)) ** 0.5)
        longest = max(fits, 1), max(self.time // 4, 1)
        return min(max(1 << min(longest).bit_length() - 1, SMALLEST), LARGEST)

    def __iter__(self) -> Iterator[tuple[slice, list[slice]]]:
        """Each block of queries, and the blocks of keys that any of them may look at."""
        for rows in cuts(self.time, self.block):
            yield rows, cuts(self.lead + rows.stop if self.causal else self.keys, self.block)

    def room(self, dtype: Any) -> np.ndarray:
        """Memory for the scores of the largest block."""
        outer, inner = self.shape[:3], self.shape[3:]
        return np.empty((*outer, *(min(n, self.block) for n in inner)), dtype)

    def corner(self, room: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        return room[..., : rows.stop - rows.start, : columns.stop - columns.start]

    def over(self, mask: np.ndarray | None) -> np.ndarray | None:
        """A mask, or what is kept, for all scores: nothing is copied."""
        if mask is None:
            return None
        batch, kv_heads, n, *inner = self.shape
        return np.broadcast_to(mask, (batch, kv_heads * n, *inner)).reshape(self.shape)

    def cut(self, mask: np.ndarray | None, rows: slice, columns: slice) -> np.ndarray | None:
        """The part of a block, where the mask is the same along an axis with length 1 there."""
        if mask is None:
            return None
        part = mask[..., rows, columns]
        return part[tuple(slice(None, None if step else 1) for step in part.strides)]

    def future(self, rows: slice, columns: slice) -> np.ndarray:
        """True where a key of a block comes after the query: (rows, columns)."""
        places = np.arange(self.lead + rows.start, self.lead + rows.stop)
        return np.arange(columns.start, columns.stop) > places[:, None]


def cuts(length: int, block: int) -> list[slice]:
    return [slice(i, min(i + block, length)) for i in range(0, length, block)]


def by_group(x: np.ndarray, kv_heads: int) -> np.ndarray:
    """(B, heads, T, D) to (B, kv_heads, n, T, D): n heads that share one of keys and values."""
    batch, heads, *rest = x.shape
    return x.reshape(batch, kv_heads, heads // kv_heads, *rest)


def pulled(shares: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What queries send back to the keys they share: (..., n, S, D) summed to (..., 1, S, D)."""
    found = shares.swapaxes(-1, -2) @ rows
    return found if found.shape[2] == 1 else found.sum(axis=2, keepdims=True)
