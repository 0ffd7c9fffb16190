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
from chapter_10_production.paged_cache import PagedCache


class Piece(NamedTuple):
    """The tokens `start` to `stop` of a text of tokens `ids`, with its pages (most pages,)."""

    ids: Sequence[int]
    table: np.ndarray
    start: int
    stop: int


class Group(NamedTuple):
    """Texts with n new tokens each: their rows, their pages (B, P), keys S, mask (B, H, n, S)."""

    rows: slice
    table: np.ndarray
    keys: int
    mask: np.ndarray | None


class PagedBatch:
    """New tokens of several texts, one below the other, and how they look back.

    `ids` and `places` are what `Decoder` asks for, and so is the batch itself, as `attention`.
    `last[i]` is the row of the last token of piece i, in the order given.
    """

    def __init__(self, config: GPTConfig, cache: PagedCache, pieces: Sequence[Piece]) -> None:
        self.config, self.cache = config, cache
        self.groups: list[Group] = []
        self.last = [0] * len(pieces)
        by_count: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            by_count.setdefault(piece.stop - piece.start, []).append(i)
        ids, places, slots, row = [], [], [], 0
        for count, chosen in sorted(by_count.items()):
            group = [pieces[i] for i in chosen]
            own = np.array([[piece.start] for piece in group]) + np.arange(count)  # (B, n)
            keys = max(piece.stop for piece in group)
            table = np.array([piece.table[: -(-keys // cache.page_size)] for piece in group])
            page, place = np.divmod(own, cache.page_size)
            slot = table[np.arange(len(group))[:, None], page] * cache.page_size + place
            ids += [token for piece in group for token in piece.ids[piece.start : piece.stop]]
            places.append(own.ravel())
            slots.append(slot.ravel())
            rows = slice(row, row + own.size)
            self.groups.append(Group(rows, table, keys, mask_of(config, own, keys)))
            for i in chosen:
                row += count
                self.last[i] = row - 1
        self.ids = np.array(ids)
        one = len(self.groups) == 1
        self.places = places[0] if one else np.concatenate(places)
        self.slots = slots[0] if one else np.concatenate(slots)

    def __call__(self, layer: int, packed: np.ndarray) -> np.ndarray:
        """Queries, keys and values side by side, (N, ...), to answers (N, n_head head_dim)."""
        queries = self.config.n_head * self.config.head_dim
        self.cache.write(layer, self.slots, packed[:, queries:])
        found = [self.answer(layer, packed[group.rows, :queries], group) for group in self.groups]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def answer(self, layer: int, q: np.ndarray, group: Group) -> np.ndarray:
        """softmax(q k^T / sqrt(D) + mask) v of one group: (B n, n_head head_dim) to the same."""
        batch, kv_heads, size = len(group.table), self.config.n_kv_head, self.config.head_dim
        kv = self.cache.read(layer, group.table)[:, : group.keys]
        kv = kv.reshape(batch, group.keys, 2, kv_heads, size)
        k = kv[:, :, 0].transpose(0, 2, 3, 1)  # (B, n_kv_head, D, S)
        v = kv[:, :, 1].swapaxes(1, 2)  # (B, n_kv_head, S, D)
        shape = batch, -1, self.config.n_head, size
        # Queries that share keys and values are one longer matrix: (B, n_kv_head, heads n, D).
        scaled = np.multiply(q.reshape(shape).swapaxes(1, 2), size**-0.5, order="C")
        e = scaled.reshape(batch, kv_heads, -1, size) @ k
        if group.mask is not None:
            by_head = e.reshape(*scaled.shape[:3], group.keys)  # the same memory
            by_head += group.mask
        e -= e.max(axis=-1, keepdims=True)
        np.exp(e, out=e)
        y = e @ v
        y /= e.sum(axis=-1, keepdims=True)
        return y.reshape(scaled.shape).swapaxes(1, 2).reshape(len(q), -1)


def mask_of(config: GPTConfig, places: np.ndarray, keys: int) -> np.ndarray | None:
    """What is added to the scores of queries at these places (B, n): (B, 1 or H, n, keys).

    None where every query may look at every key, and all keys count alike.
    """
    alike = config.window is None and config.positions != "alibi"
    if alike and places.min() == keys - 1:
        return None
    behind = places[:, None, :, None] - np.arange(keys)
    hidden = behind < 0
    if config.window is not None:
        hidden |= behind >= config.window
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
    if config.positions == "alibi":
        mask = mask - slopes(config.n_head).astype(np.float32)[:, None, None] * behind
    return mask
