"""Attention beside PyTorch's: multi-head, masked every way, and grouped queries."""

from __future__ import annotations

import numpy as np
import pytest
from torch_twins import DTYPES, NO_TORCH, compare, near, same_parameters

from chapter_07_attention import (
    ALiBi,
    MultiheadAttention,
    attend,
    attention,
    attention_maps,
    causal_mask,
    padding_mask,
    sliding_window_mask,
)
from chapter_07_attention.alibi import slopes

torch = pytest.importorskip("torch", reason=NO_TORCH)
F = torch.nn.functional

B, T, S, H, D = 2, 5, 7, 4, 3
RNG = np.random.default_rng(3)
SOME = RNG.random((B, H, T, S)) < 0.6
SOME[..., 0] = True
MASKS = {  # ours are True where a query may look, as in scaled_dot_product_attention
    "none": None,
    "causal": causal_mask(T, S),
    "window": sliding_window_mask(3, T, S),
    "padding": padding_mask(np.array([4, 7])),
    "causal and padding": causal_mask(T, S) & padding_mask(np.array([4, 7])),
    "each its own": SOME,
    "added": RNG.normal(size=(T, S)),
    "added by head": RNG.normal(size=(H, T, S)),
    "forbidden by -inf": np.where(SOME, 0.3, -np.inf),
    "forbidden by a large number": np.where(SOME, 0.0, -1e9),
}


def torch_mask(mask, dtype):
    if mask is None:
        return None
    return torch.tensor(mask if mask.dtype == bool else mask.astype(dtype))


def normal(rng, dtype, *shapes):
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", MASKS)
def test_scaled_dot_products(mask, dtype, rng):
    theirs = torch_mask(MASKS[mask], dtype)
    compare(
        lambda q, k, v: attention(q, k, v, MASKS[mask]),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, theirs),
        normal(rng, dtype, (B, H, T, D), (B, H, S, D), (B, H, S, D + 1)),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_the_kernel_with_grouped_queries(mask, kv_heads, dtype, rng):
    theirs = torch_mask(MASKS[mask], dtype)

    def expected(q, kv):
        q = q.view(B, T, H, D).transpose(1, 2)
        k, v = (part.reshape(B, S, kv_heads, D).transpose(1, 2) for part in kv.chunk(2, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, theirs, enable_gqa=True)
        return y.transpose(1, 2).reshape(B, T, H * D)

    compare(
        lambda q, kv: attend(q, kv, heads=H, kv_heads=kv_heads, mask=MASKS[mask]),
        expected,
        normal(rng, dtype, (B, T, H * D), (B, S, 2 * kv_heads * D)),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_who_may_look_at_nothing_takes_nothing(dtype, rng):
    mask = np.ones((T, S), bool)
    mask[2] = False
    q, kv = normal(rng, dtype, (B, T, H * D), (B, S, 2 * H * D))
    assert (attend(q, kv, heads=H, mask=mask)[:, 2] == 0).all()
    compare(
        lambda q, k, v: attention(q, k, v, mask),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.tensor(mask)),
        normal(rng, dtype, (B, H, T, D), (B, H, S, D), (B, H, S, D)),
    )


# PyTorch's layer wants (T, S) or (B H, T, S), and True where a query may not look.
LAYER_MASKS = ["none", "causal", "window", "padding", "causal and padding", "added", "each its own"]


def their_layer_mask(mask, dtype, queries, keys):
    if mask is None:
        return None
    mask = ~mask if mask.dtype == bool else mask.astype(dtype)
    return torch.tensor(
        np.broadcast_to(mask, (B, H, queries, keys)).reshape(B * H, queries, keys).copy()
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("mask", LAYER_MASKS)
def test_multi_head_attention_to_a_memory(mask, bias, dtype, rng):
    ours = MultiheadAttention(H * D, H, bias=bias)
    theirs = torch.nn.MultiheadAttention(H * D, H, bias=bias, batch_first=True)
    same_parameters(ours, theirs, dtype)
    their_mask = their_layer_mask(MASKS[mask], dtype, T, S)
    compare(
        lambda x, memory: ours(x, memory, MASKS[mask]),
        lambda x, memory: theirs(
            x, memory, memory, attn_mask=their_mask, need_weights=False
        )[0],
        normal(rng, dtype, (B, T, H * D), (B, S, H * D)),
        (ours, theirs),
    )  # fmt: skip


OWN_MASKS = {
    "none": None,
    "causal": causal_mask(T),
    "padding": padding_mask(np.array([T, 2])),
    "alibi": ALiBi(H).bias(T, T) + np.where(causal_mask(T), 0, -np.inf),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("mask", OWN_MASKS)
@pytest.mark.parametrize("heads", [1, 4])
def test_multi_head_attention_to_itself(heads, mask, bias, dtype, rng):
    if mask == "alibi" and heads != H:
        return
    ours = MultiheadAttention(H * D, heads, bias=bias)
    theirs = torch.nn.MultiheadAttention(H * D, heads, bias=bias, batch_first=True)
    same_parameters(ours, theirs, dtype)
    own = OWN_MASKS[mask]
    theirs_mask = None
    if own is not None:
        wide = np.broadcast_to(~own if own.dtype == bool else own.astype(dtype), (B, heads, T, T))
        theirs_mask = torch.tensor(wide.reshape(B * heads, T, T).copy())
    compare(
        lambda x: ours(x, mask=own),
        lambda x: theirs(x, x, x, attn_mask=theirs_mask, need_weights=False)[0],
        normal(rng, dtype, (B, T, H * D)),
        (ours, theirs),
    )


def test_padding_is_pytorchs_key_padding_mask(rng):
    ours, lengths = MultiheadAttention(H * D, H), np.array([3, 7])
    theirs = torch.nn.MultiheadAttention(H * D, H, batch_first=True)
    same_parameters(ours, theirs, np.float64)
    behind = torch.tensor(np.arange(S) >= lengths[:, None])
    compare(
        lambda x, m: ours(x, m, padding_mask(lengths)),
        lambda x, m: theirs(x, m, m, key_padding_mask=behind, need_weights=False)[0],
        normal(rng, np.float64, (B, T, H * D), (B, S, H * D)),
        (ours, theirs),
    )


def test_the_shares_drawn_are_pytorchs_weights(rng):
    ours = MultiheadAttention(H * D, H)
    theirs = torch.nn.MultiheadAttention(H * D, H, batch_first=True)
    same_parameters(ours, theirs, np.float64)
    x, memory = normal(rng, np.float64, (B, T, H * D), (B, S, H * D))
    twins = torch.tensor(x), torch.tensor(memory), torch.tensor(memory)
    _, weights = theirs(*twins, average_attn_weights=False)
    (shares,) = attention_maps(ours, x, memory).values()
    near(shares, weights, "the shares of every head")


def test_pytorchs_weights_pass_into_ours():
    theirs = torch.nn.MultiheadAttention(8, 2)
    ours = MultiheadAttention(8, 2)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    for name, p in theirs.named_parameters():
        assert np.array_equal(ours.state_dict()[name], p.detach().numpy()), name


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 20, 32])
def test_slopes_are_those_of_bloom(heads, transformers):
    from transformers.models.bloom import modeling_bloom as bloom

    ones = torch.ones((1, 2))  # keys at the places 0 and 1: the slope is the second's bias
    expected = bloom.build_alibi_tensor(ones, heads, torch.float32)[:, 0, 1].numpy()
    np.testing.assert_allclose(slopes(heads), expected, rtol=1e-5)
