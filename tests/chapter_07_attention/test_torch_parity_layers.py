"""Whole layers beside PyTorch's, and Llama's parts and layer beside the same in a few lines."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from torch_twins import DTYPES, NO_TORCH, compare, same_parameters

from chapter_05_gradient_mastery import RMSNorm
from chapter_07_attention import (
    Rotary,
    SwiGLU,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    causal_mask,
    padding_mask,
    rotate,
    swiglu,
)

torch = pytest.importorskip("torch", reason=NO_TORCH)
F = torch.nn.functional

B, T, S, SIZES = 2, 5, 7, (8, 2, 12)  # width, heads, hidden
MASK = causal_mask(T) & padding_mask(np.array([T, 3]))
OPTIONS = [
    {"norm_first": first, "activation": activation}
    for first, activation in itertools.product([False, True], ["relu", "gelu"])
]


def normal(rng, dtype, *shapes):
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def excluded(mask, queries, keys):
    """PyTorch's layers mark what is not looked at, for each of B times heads."""
    wide = np.broadcast_to(~mask, (B, SIZES[1], queries, keys))
    return torch.tensor(wide.reshape(-1, queries, keys).copy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "causal and padded"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_encoder_layers(options, mask, dtype, rng):
    ours = TransformerEncoderLayer(*SIZES, 0.0, **options)
    theirs = torch.nn.TransformerEncoderLayer(*SIZES, 0.0, batch_first=True, **options)
    same_parameters(ours, theirs, dtype)
    their_mask = None if mask is None else excluded(mask, T, T)
    compare(
        lambda x: ours(x, mask),
        lambda x: theirs(x, src_mask=their_mask),
        normal(rng, dtype, (B, T, 8)),
        (ours, theirs),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padded", [False, True], ids=["whole memory", "padded memory"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_decoder_layers(options, padded, dtype, rng):
    ours = TransformerDecoderLayer(*SIZES, 0.0, **options)
    theirs = torch.nn.TransformerDecoderLayer(*SIZES, 0.0, batch_first=True, **options)
    same_parameters(ours, theirs, dtype)
    mask = padding_mask(np.array([4, S])) if padded else None
    kinds = {"tgt_mask": excluded(causal_mask(T), T, T)}
    kinds["memory_mask"] = None if mask is None else excluded(mask, T, S)
    compare(
        lambda x, memory: ours(x, memory, causal_mask(T), mask),
        lambda x, memory: theirs(x, memory, **kinds),
        normal(rng, dtype, (B, T, 8), (B, S, 8)),
        (ours, theirs),
    )


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_layers_without_biases(kind, rng):
    layer = {"Encoder": TransformerEncoderLayer, "Decoder": TransformerDecoderLayer}[kind]
    ours = layer(*SIZES, 0.0, bias=False)
    twin = getattr(torch.nn, f"Transformer{kind}Layer")
    theirs = twin(*SIZES, 0.0, bias=False, batch_first=True)
    same_parameters(ours, theirs, np.float64)
    shapes = [(B, T, 8)] if kind == "Encoder" else [(B, T, 8), (B, S, 8)]
    compare(ours, theirs, normal(rng, np.float64, *shapes), (ours, theirs))


def test_defaults_are_pytorchs():
    ours, theirs = TransformerEncoderLayer(8, 2), torch.nn.TransformerEncoderLayer(8, 2)
    found = {name: p.shape for name, p in ours.state_dict().items()}
    assert found == {name: tuple(p.shape) for name, p in theirs.state_dict().items()}
    assert ours.norm_first == theirs.norm_first and ours.dropout.p == theirs.dropout.p
    assert ours.norm1.eps == theirs.norm1.eps


# Llama's parts.


def turned(heads, theta):
    """Rotary positions on (B, H, T, D), as Llama's reference has them: halves, not neighbours."""
    size, time = heads.shape[-1], heads.shape[2]
    rates = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.outer(torch.arange(time, dtype=torch.float64), rates)
    cos, sin = (torch.cat([f(angles)] * 2, dim=-1).to(heads.dtype) for f in (torch.cos, torch.sin))
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat([-second, first], dim=-1) * sin


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("theta", [10_000.0, 100.0])
@pytest.mark.parametrize(("heads", "count", "size"), [(3, 2, 4), (4, 4, 2), (2, 1, 8)])
def test_rotary_positions(heads, count, size, theta, dtype, rng):
    def expected(x):
        by_head = x.view(B, 9, heads, size).transpose(1, 2)
        y = torch.cat([turned(by_head[:, :count], theta), by_head[:, count:]], dim=1)
        return y.transpose(1, 2).reshape(x.shape)

    compare(
        lambda x: rotate(x, size=size, count=count, theta=theta),
        expected,
        normal(rng, dtype, (B, 9, heads * size)),
    )


def test_rotary_positions_are_those_of_transformers(transformers, rng):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k = (torch.tensor(x) for x in normal(rng, np.float64, (1, 2, 6, 8), (1, 2, 6, 8)))
    rates = 10_000 ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    angles = torch.outer(torch.arange(6, dtype=torch.float64), rates).repeat(1, 2)[None]
    for theirs, heads in zip(apply_rotary_pos_emb(q, k, angles.cos(), angles.sin()), (q, k)):
        packed = heads.transpose(1, 2).reshape(1, 6, 16).numpy()
        found = rotate(packed, size=8, count=2).reshape(1, 6, 2, 8).swapaxes(1, 2)
        np.testing.assert_allclose(found, theirs.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 8)], ids=str)
def test_swiglu(shape, dtype, rng):
    def expected(x):
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up

    compare(swiglu, expected, normal(rng, dtype, shape))
    compare(SwiGLU(), expected, [np.array([[-1000, -20, 0, 1000, 1, 1, 1, 1]], dtype)])


class LlamaLayer(torch.nn.Module):
    """Llama's layer on PyTorch's functions, under our names."""

    def __init__(self, width, heads, kv_heads, size, hidden):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, size
        self.self_attn = torch.nn.Module()
        rows = (heads + 2 * kv_heads) * size
        self.self_attn.in_proj_weight = torch.nn.Parameter(torch.empty(rows, width))
        self.self_attn.out_proj = torch.nn.Linear(heads * size, width, bias=False)
        self.linear1 = torch.nn.Linear(width, 2 * hidden, bias=False)
        self.linear2 = torch.nn.Linear(hidden, width, bias=False)
        self.norm1, self.norm2 = (torch.nn.RMSNorm(width, eps=1e-6) for _ in range(2))

    def forward(self, x):
        parts = F.linear(self.norm1(x), self.self_attn.in_proj_weight)
        parts = parts.view(*x.shape[:2], -1, self.size).transpose(1, 2)
        q, k, v = parts.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        y = F.scaled_dot_product_attention(
            turned(q, 10_000.0), turned(k, 10_000.0), v, is_causal=True, enable_gqa=True
        )
        x = x + self.self_attn.out_proj(y.transpose(1, 2).flatten(2))
        gate, up = self.linear1(self.norm2(x)).chunk(2, dim=-1)
        return x + self.linear2(F.silu(gate) * up)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 4, 2), (4, 2, 4), (3, 1, 6)])
def test_llamas_layer_is_the_same_layer_with_other_parts(heads, kv_heads, size, dtype, rng):
    ours = TransformerEncoderLayer(
        8, heads, 10, 0.0, "swiglu", norm_first=True, bias=False, positions=Rotary(),
        norm=functools.partial(RMSNorm, eps=1e-6), num_kv_heads=kv_heads, head_dim=size,
    )  # fmt: skip
    theirs = LlamaLayer(8, heads, kv_heads, size, 10)
    same_parameters(ours, theirs, dtype)
    arrays = normal(rng, dtype, (B, T, 8))
    compare(lambda x: ours(x, causal_mask(T)), theirs, arrays, (ours, theirs))
