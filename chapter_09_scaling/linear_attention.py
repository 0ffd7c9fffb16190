"""Linear attention: without the softmax, the past can be summed up once and for all.

Softmax compares by exp(q . k), which must be worked out for each pair. Compare by f(q) . f(k) with
a positive f of D numbers, and the sum over the past of (f(q) . f(k)) v is f(q) times the sum of all
f(k) v^T: a table of D x D numbers, whatever the length of the text. So time and memory grow with T,
and a model that writes carries one table a head along, like a recurrent net. What is lost is the
softmax's sharp eye: a table of D x D numbers can hold about D things apart.

Here f is elu(x) + 1. A column of ones beside the values sums up what the answers are divided by.
In causal order the text is cut into blocks: pairs within a block, tables for the blocks before.
All three gradients are sums of the same kind, two of them over the future.
"""

from __future__ import annotations

import numpy as np

from chapter_03_neural_nets.activations import elu
from chapter_07_attention.attention import join_heads, queries_keys_values, split_heads
from chapter_07_attention.config import whole_number
from chapter_09_scaling.blockwise_attention import by_group
from utils import Tensor, kernel
from utils.primitives import total

NO_PAIRS = (
    "linear attention sums up the past before it is asked, so it cannot leave out single pairs of "
    "query and key: no {}. For the order of a text say causal=True; where a mask is needed, "
    "blockwise_attend takes it"
)


def linear_attend_composed(
    q, kv=None, kept=None, *, heads, kv_heads=None, mask=None, kept_scale=1.0, causal=False,
    block=64,
) -> Tensor:  # fmt: skip
    kv_heads = heads if kv_heads is None else kv_heads
    q, k, v = queries_keys_values(q, kv, heads, kv_heads)
    k, v = (np.repeat(x, heads // kv_heads, axis=1) for x in (k, v))
    products = (elu(q) + 1) @ np.swapaxes(elu(k) + 1, -1, -2)
    if causal:
        products = products * np.tri(q.shape[2], dtype=products.dtype)
    norm = np.sum(products, axis=-1, keepdims=True)
    return join_heads((products @ v) / np.where(norm.data == 0, 1, norm))


@kernel(composed=linear_attend_composed)
def linear_attend(
    q, kv=None, kept=None, *, heads, kv_heads=None, mask=None, kept_scale=1.0, causal=False,
    block=64,
):  # fmt: skip
    """f(q) (sum f(k) v^T) / f(q) (sum f(k)) for f(x) = elu(x) + 1: (B, T, heads D).

    The arguments are those of chapter 7's `attend`; `causal` sums up to each query's own place, in
    blocks of so many places. Raises ValueError for a mask, for dropout of shares (`kept`), and for
    causal queries that are not as many as the keys.
    Source: Katharopoulos et al., 2020, arXiv:2006.16236.
    """
    for what, given in (("mask", mask), ("dropout of shares", kept)):
        if given is not None:
            raise ValueError(NO_PAIRS.format(what))
    whole_number("block", block)
    kv_heads = heads if kv_heads is None else kv_heads
    dtype = np.result_type(q.dtype, np.float32)
    queries, keys, values = (
        by_group(x.astype(dtype, copy=False), kv_heads)
        for x in queries_keys_values(q, kv, heads, kv_heads)
    )
    if causal and queries.shape[3] != keys.shape[3]:
        raise ValueError(f"causal linear attention is a text's to itself: {queries.shape[3]} "
                         f"queries meet {keys.shape[3]} keys")  # fmt: skip
    fq, fk, v1 = features(queries), features(keys), with_ones(values)
    order = "past" if causal else "all"
    sums = pair_sums(fq, fk, v1, order, block)
    norm = np.where(sums[..., -1:] == 0, 1, sums[..., -1:])
    by_head = sums[..., :-1] / norm
    y = np.empty((*q.shape[:2], heads * queries.shape[-1]), q.dtype)
    by_group(split_heads(y, heads), kv_heads)[...] = by_head

    def backward(g, wanted):
        d = np.empty_like(sums)  # of the sums
        np.divide(by_group(split_heads(g, heads), kv_heads), norm, out=d[..., :-1])
        d[..., -1:] = -total(d[..., :-1] * by_head, axis=-1, keepdims=True)
        back = "future" if causal else "all"
        found = np.empty(q.shape, q.dtype), None if kv is None else np.empty(kv.shape, q.dtype)
        dq, dk, dv = (by_group(x, kv_heads) for x in queries_keys_values(*found, heads, kv_heads))
        dq[...] = pair_sums(d, v1, fk, order, block) * np.minimum(fq, 1)
        dk[...] = of_group(pair_sums(v1, d, fq, back, block)) * np.minimum(fk, 1)
        dv[...] = of_group(pair_sums(fk, fq, d, back, block))[..., :-1]
        return found[: len(wanted)]

    return y, backward


def linear_attend_step(state, q, k, v):
    """One place more: its answer (B, heads, D), and the state for the next place.

    q (B, heads, D), k and v (B, kv_heads, D). The state (B, kv_heads, D, D + 1) stands for all
    places before, and is None at the first. The answers are those of `linear_attend`, causal.
    """
    batch, kv_heads, size = k.shape
    now = features(k)[..., None] * with_ones(v)[:, :, None]
    state = now if state is None else state + now
    sums = features(q).reshape(batch, kv_heads, q.shape[1] // kv_heads, size) @ state
    norm = np.where(sums[..., -1:] == 0, 1, sums[..., -1:])
    return (sums[..., :-1] / norm).reshape(q.shape), state


def features(x: np.ndarray) -> np.ndarray:
    """elu(x) + 1, above 0 everywhere; its slope is the smaller of itself and 1."""
    return np.maximum(x, 0) + np.exp(np.minimum(x, 0))


def with_ones(values: np.ndarray) -> np.ndarray:
    """The values with a 1 behind each: (..., D) to (..., D + 1)."""
    return np.concatenate([values, np.ones_like(values[..., :1])], axis=-1)


def pair_sums(a, b, c, order: str, block: int) -> np.ndarray:
    """For each place t of a the sum of (a_t . b_s) c_s over all places s, its past, or its future.

    a (..., T, D), b (..., S, D) and c (..., S, E) to (..., T, E); a place is in its own past, and
    in its own future. Past and future need S = T.
    """
    if order == "all":
        return a @ (b.swapaxes(-1, -2) @ c)
    time = a.shape[-2]
    a, b, c = (in_blocks(x, block) for x in (a, b, c))  # (..., blocks, block, size)
    near = np.tri(block, dtype=a.dtype)
    products = a @ b.swapaxes(-1, -2)
    products *= near if order == "past" else near.T
    tables = b.swapaxes(-1, -2) @ c
    before = np.zeros_like(tables)
    if order == "past":
        np.cumsum(tables[..., :-1, :, :], axis=-3, out=before[..., 1:, :, :])
    else:
        np.cumsum(tables[..., :0:-1, :, :], axis=-3, out=before[..., -2::-1, :, :])
    found = products @ c
    found += a @ before
    *outer, blocks, _, size = found.shape
    return found.reshape(*outer, blocks * block, size)[..., :time, :]


def in_blocks(x: np.ndarray, block: int) -> np.ndarray:
    """(..., T, D) to (..., blocks, block, D), with zeros behind the end."""
    *outer, time, size = x.shape
    blocks = -(-time // block)
    if time % block:
        padded = np.zeros((*outer, blocks * block, size), x.dtype)
        padded[..., :time, :] = x
        x = padded
    return x.reshape(*outer, blocks, block, size)


def of_group(x: np.ndarray) -> np.ndarray:
    """Summed over the heads of queries that share: (B, kv_heads, n, S, D) to (..., 1, S, D)."""
    return x if x.shape[2] == 1 else x.sum(axis=2, keepdims=True)
