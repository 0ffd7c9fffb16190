"""Attention: a dictionary that is looked up softly, so that the lookup can be learnt.

A query q is compared with every key k; softmax(q k^T / sqrt(D)) turns the D-number products into
shares, and the answer is the values v in these shares. Products of two vectors of D independent
numbers of variance 1 have variance D: the root keeps the softmax from saturating as heads grow.
"""

from __future__ import annotations

import numpy as np

from chapter_02_text_generation import softmax
from chapter_07_attention.masks import as_bias
from utils import Tensor


def attention_weights(q: Tensor, k: Tensor, mask: np.ndarray | None = None) -> Tensor:
    """The share of each key in each answer: q (..., T, D), k (..., S, D) to (..., T, S).

    The mask (`masks.py`) broadcasts to the shares; `as_bias` makes it what is added to the scores.
    A query that may look at nothing takes nothing: its shares are all 0, as in PyTorch. Where there
    are no keys at all, S = 0, there are no shares.
    Source: Vaswani et al., 2017, arXiv:1706.03762, equation 1.
    """
    scores = (q * q.shape[-1] ** -0.5) @ np.swapaxes(k, -1, -2)
    if scores.shape[-1] == 0:
        return scores  # no keys, no shares
    if mask is None:
        return softmax(scores)
    bias = np.broadcast_to(as_bias(mask, scores.dtype), scores.shape)
    blind = np.isneginf(bias).all(axis=-1, keepdims=True)
    shares = softmax(scores + np.where(blind, 0, bias))
    return np.where(blind, 0, shares) if blind.any() else shares


def attention(q: Tensor, k: Tensor, v: Tensor, mask: np.ndarray | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v: (..., T, D), (..., S, D), (..., S, E) to (..., T, E)."""
    return attention_weights(q, k, mask) @ v


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads D) to (B, heads, T, D)."""
    batch, time, size = x.shape
    return x.reshape(batch, time, heads, size // heads).swapaxes(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, T, D) to (B, T, heads D)."""
    batch, heads, time, size = x.shape
    return x.swapaxes(1, 2).reshape(batch, time, heads * size)


def queries_keys_values(q, kv, heads: int, kv_heads: int) -> tuple:
    """The three, by head: (B, heads, T, D), (B, kv_heads, S, D) twice.

    q (B, T, heads D) and kv (B, S, 2 kv_heads D), keys before values; where kv is None, q holds
    its own behind it, (B, T, (heads + 2 kv_heads) D). On arrays nothing is copied.
    """
    if kv is None:
        size = heads * check_heads(q.shape[-1], heads, kv_heads)
        q, kv = q[..., :size], q[..., size:]
    half = kv.shape[-1] // 2
    if q.shape[-1] % heads or half * heads != q.shape[-1] * kv_heads:
        raise ValueError(f"{heads} heads of queries and {kv_heads} of keys and values do not come "
                         f"from {q.shape} and {kv.shape}")  # fmt: skip
    return (
        split_heads(q, heads),
        split_heads(kv[..., :half], kv_heads),
        split_heads(kv[..., half:], kv_heads),
    )


def check_heads(size: int, heads: int, kv_heads: int) -> int:
    """The size of a head; ValueError where queries do not share keys and values evenly."""
    if heads < 1 or kv_heads < 1 or heads % kv_heads or size % (heads + 2 * kv_heads):
        raise ValueError(f"{heads} heads that share {kv_heads} keys and values are not {size} wide")
    return size // (heads + 2 * kv_heads)
