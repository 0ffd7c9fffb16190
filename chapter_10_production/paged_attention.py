"""Attention of new tokens to all tokens of their texts, which lie in pages.

Texts that bring equally many new tokens are answered together: their pages are laid side by side,
and a mask hides what comes after each query, the rest of the last page, and the pages that shorter
texts do not have. It is made once, and used by all layers.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from chapter_07_attention import GPTConfig
from chapter_07_attention.alibi import slopes
from chapter_07_attention.attention import queries_keys_values
from chapter_10_production.paged_cache import PagedCache


class Piece(NamedTuple):
    """The tokens `start` to `stop` of a text whose pages are in a table (most pages,)."""

    ids: Sequence[int]
    table: np.ndarray
    start: int
    stop: int


class Group(NamedTuple):
    """Texts with n new tokens each: their rows, their pages (B, P), and the mask (B, H, n, S)."""

    rows: slice
    texts: int
    table: np.ndarray
    mask: np.ndarray


class PagedBatch:
    """New tokens of several texts, one below the other, and how they look back.

    `ids` and `places` are what `Decoder` asks for, and so is the batch itself, as `attention`.
    `last[i]` is the row of the last token of piece i, in the order given.
    """

    def __init__(self, config: GPTConfig, cache: PagedCache, pieces: Sequence[Piece]) -> None:
        self.config, self.cache = config, cache
        self.queries = config.n_head * config.head_dim
        counts = [piece.stop - piece.start for piece in pieces]
        self.groups: list[Group] = []
        self.last = [0] * len(pieces)
        ids, places, slots, row = [], [], [], 0
        for count in sorted(set(counts)):
            chosen = [i for i, n in enumerate(counts) if n == count]
            group = [pieces[i] for i in chosen]
            starts = np.array([piece.start for piece in group])
            own = starts[:, None] + np.arange(count)  # (B, n)
            used = -(-max(piece.stop for piece in group) // cache.page_size)
            table = np.stack([piece.table[:used] for piece in group])
            pages = np.take_along_axis(table, own // cache.page_size, axis=1)
            slots.append((pages * cache.page_size + own % cache.page_size).reshape(-1))
            places.append(own.reshape(-1))
            ids += [token for piece in group for token in piece.ids[piece.start : piece.stop]]
            mask = mask_of(config, own, used * cache.page_size)
            self.groups.append(Group(slice(row, row + own.size), len(group), table, mask))
            for i in chosen:
                row += count
                self.last[i] = row - 1
        self.ids = np.array(ids)
        self.places, self.slots = np.concatenate(places), np.concatenate(slots)

    def __call__(self, layer: int, packed: np.ndarray) -> np.ndarray:
        """Queries, keys and values side by side, (N, ...), to answers (N, n_head head_dim)."""
        self.cache.write(layer, self.slots, packed[:, self.queries :])
        found = [self.answer(layer, packed[group.rows], group) for group in self.groups]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def answer(self, layer: int, packed: np.ndarray, group: Group) -> np.ndarray:
        """softmax(q k^T / sqrt(D) + mask) v."""
        heads, kv_heads = self.config.n_head, self.config.n_kv_head
        new = packed[:, : self.queries].reshape(group.texts, -1, self.queries)
        q, k, v = queries_keys_values(new, self.cache.read(layer, group.table), heads, kv_heads)
        batch, _, count, size = q.shape
        # Queries that share keys and values are one longer matrix: (B, n_kv_head, heads n, D).
        scaled = np.multiply(q, size**-0.5, order="C").reshape(batch, kv_heads, -1, size)
        e = scaled @ k.swapaxes(2, 3)
        by_head = e.reshape(batch, heads, count, -1)  # the same memory
        by_head += group.mask
        e -= e.max(axis=-1, keepdims=True)
        np.exp(e, out=e)
        y = e @ v
        y /= e.sum(axis=-1, keepdims=True)
        return y.reshape(q.shape).swapaxes(1, 2).reshape(len(packed), -1)


def mask_of(config: GPTConfig, places: np.ndarray, keys: int) -> np.ndarray:
    """What is added to the scores of queries at these places (B, n): (B, 1 or H, n, keys)."""
    behind = places[:, None, :, None] - np.arange(keys)
    hidden = behind < 0
    if config.window is not None:
        hidden |= behind >= config.window
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
    if config.positions == "alibi":
        mask = mask - slopes(config.n_head).astype(np.float32)[:, None, None] * behind
    return mask
