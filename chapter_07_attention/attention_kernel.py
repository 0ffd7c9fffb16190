"""Attention of all heads as one node, by chapter 5's method.

With e = exp(scores), n its row sums and h = g / n, all is written in terms of e, which is never
divided: y = (e v) / n, dv = e^T h, and the scores get e (h v^T - sum(h y)). The largest arrays, of
T x S numbers a head, are two: e, and its gradient.

Heads are views of the projection that made them, and gradients are written where it wants them, so
that (B, T, 3 C) becomes heads and back with few copies. Heads of queries that share one of keys and
values (grouped queries) are one longer matrix in the same products.
"""

from __future__ import annotations

import math

import numpy as np

from chapter_07_attention.attention import (
    attention_weights,
    join_heads,
    queries_keys_values,
    split_heads,
)
from chapter_07_attention.masks import as_bias
from utils import Tensor, kernel
from utils.primitives import total
from utils.promotion import plain

HIGHEST = 40.0  # a score whose exponential float32 has room around, as it has around -40's
LOWEST = math.exp(-HIGHEST)


def attend_composed(
    q, kv=None, kept=None, *, heads, kv_heads=None, mask=None, kept_scale=1.0
) -> Tensor:
    kv_heads = heads if kv_heads is None else kv_heads
    q, k, v = queries_keys_values(q, kv, heads, kv_heads)
    k, v = (np.repeat(x, heads // kv_heads, axis=1) for x in (k, v))
    shares = attention_weights(q, k, mask)
    if kept is not None:
        shares = shares * (plain(kept) * shares.dtype.type(kept_scale))
    return join_heads(shares @ v)


@kernel(composed=attend_composed)
def attend(q, kv=None, kept=None, *, heads, kv_heads=None, mask=None, kept_scale=1.0):
    """q (B, T, heads D) looks at kv (B, S, 2 kv_heads D), keys before values: (B, T, heads D).

    Without kv it looks at itself, with keys and values behind the queries, (B, T, (heads +
    2 kv_heads) D). The mask (`masks.py`) broadcasts to (B, heads, T, S). Dropout takes away the
    shares that are not `kept` (B, heads, T, S) and multiplies the others by `kept_scale`. Whatever
    takes this function's place takes the same arguments.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    queries, keys, values = queries_keys_values(q, kv, heads, kv_heads)
    batch, _, time, size = queries.shape
    root = size**-0.5
    together = (batch, kv_heads, heads // kv_heads * time)
    scaled = np.multiply(queries, root, order="C").reshape(*together, size)
    shape = (batch, heads, time, keys.shape[2])
    e, norm = exponentials(scaled, keys, as_bias(mask, q.dtype), shape)
    factor = None if kept is None else (kept * q.dtype.type(kept_scale)).reshape(e.shape)
    by_head = (e if factor is None else e * factor) @ values
    by_head /= norm
    y = join_heads(by_head.reshape(queries.shape))

    def backward(g, wanted):
        """From g, like y, the gradients of q and (if `wanted` has a second place) kv, or None."""
        h = np.divide(split_heads(g, heads), norm.reshape(*queries.shape[:3], 1), order="C")
        h = h.reshape(by_head.shape)
        d_e = h @ values.swapaxes(2, 3)
        if factor is not None:
            d_e *= factor
        d_e -= total(h * by_head, axis=-1, keepdims=True)
        d_e *= e
        found = np.empty(q.shape, q.dtype), None if kv is None else np.empty(kv.shape, q.dtype)
        dq, dk, dv = queries_keys_values(*found, heads, kv_heads)
        np.multiply((d_e @ keys).reshape(dq.shape), root, out=dq)
        np.matmul(d_e.swapaxes(2, 3), scaled, out=dk)
        np.matmul((e if factor is None else e * factor).swapaxes(2, 3), h, out=dv)
        return found[: len(wanted)]

    return y, backward


def exponentials(scaled, keys, bias, shape) -> tuple[np.ndarray, np.ndarray]:
    """exp(scores + bias), up to a factor a row, and its row sums; for a sum of 0, 1 to divide by.

    Scores are mostly small, and then their exponentials need no shift to stay in range. Rows that
    are not are shifted by their largest; float16 has room for none without.
    """
    e = scores(scaled, keys, bias, shape)
    roomy = e.dtype.itemsize >= 4
    with np.errstate(invalid="ignore", over="ignore"):
        if roomy and e.max(initial=-np.inf) <= HIGHEST:
            np.exp(e, out=e)
            norm = total(e, axis=-1, keepdims=True)
            if norm.min(initial=np.inf) >= LOWEST:
                return e, norm
            e = scores(scaled, keys, bias, shape)
        top = e.max(axis=-1, keepdims=True, initial=-np.inf)
        e -= np.where(np.isneginf(top) | (roomy & (np.abs(top) <= HIGHEST)), 0, top)
        np.exp(e, out=e)
        norm = total(e, axis=-1, keepdims=True)
    return e, np.where(norm == 0, 1, norm)


def scores(scaled, keys, bias, shape) -> np.ndarray:
    e = scaled @ keys.swapaxes(2, 3)
    if bias is not None:
        by_head = e.reshape(shape)  # the same memory
        by_head += bias
    return e
