"""Llama as Hugging Face writes it."""

from __future__ import annotations

from typing import Any, Mapping

from chapter_07_attention.config import GPTConfig, LlamaConfig
from chapter_07_attention.family import Family, expressible, only, setting, size

BIASES = {
    "attention_bias": ("self_attn.in_proj", "self_attn.out_proj"),
    "mlp_bias": ("linear1", "linear2"),
}


def read_llama(theirs: Mapping[str, Any]) -> LlamaConfig:
    only(theirs, hidden_act="silu")
    return LlamaConfig(
        vocab_size=size(theirs, "vocab_size"),
        block_size=size(theirs, "max_position_embeddings"),
        n_layer=size(theirs, "num_hidden_layers"),
        n_head=size(theirs, "num_attention_heads"),
        n_embd=size(theirs, "hidden_size"),
        n_kv_head=size(theirs, "num_key_value_heads", optional=True),
        head_dim=size(theirs, "head_dim", optional=True),
        hidden=size(theirs, "intermediate_size"),
        norm_eps=theirs.get("rms_norm_eps", 1e-6),
        dropout=theirs.get("dropout", 0.0),
        rope_theta=rope_theta(theirs),
        # Not `or`, which would not look at the second.
        bias=setting(theirs, "attention_bias", False) | setting(theirs, "mlp_bias", False),
        tied=setting(theirs, "tie_word_embeddings", False),
    )


def rope_theta(theirs: Mapping[str, Any]) -> Any:
    """The base of rotary positions, which has moved: newer files hold it in an object."""
    found = theirs.get("rope_theta", 10_000.0)
    for place in ("rope_scaling", "rope_parameters"):
        rope = {} if theirs.get(place) is None else theirs[place]
        if not isinstance(rope, dict):
            raise ValueError(f"{place} is an object, not {rope!r}")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise ValueError(f"rotary positions of type {kind!r} are not known, only 'default'")
        found = rope.get("rope_theta", found)
    return found


def biasless(theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts whose switch is off; ours is one for all."""
    return sum((parts for name, parts in BIASES.items() if not theirs.get(name, False)), ())


def write_llama(ours: GPTConfig) -> dict[str, Any]:
    expressible(ours, norm="rms", positions="rotary", activation="swiglu", window=None)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": ours.vocab_size,
        "max_position_embeddings": ours.block_size,
        "num_hidden_layers": ours.n_layer,
        "num_attention_heads": ours.n_head,
        "num_key_value_heads": ours.n_kv_head,
        "head_dim": ours.head_dim,
        "hidden_size": ours.n_embd,
        "intermediate_size": ours.hidden,
        "hidden_act": "silu",
        "rms_norm_eps": ours.norm_eps,
        "rope_theta": ours.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": ours.rope_theta},
        "attention_bias": ours.bias,
        "mlp_bias": ours.bias,
        "tie_word_embeddings": ours.tied,
        "dropout": ours.dropout,  # our own addition: Llama knows dropout of attention only
    }


LLAMA = Family(
    prefix="model.",
    layers="layers",
    parts={
        "embedding": ("embed_tokens",),
        "norm1": ("input_layernorm",),
        "self_attn.in_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attn.out_proj": ("self_attn.o_proj",),
        "norm2": ("post_attention_layernorm",),
        "linear1": ("mlp.gate_proj", "mlp.up_proj"),
        "linear2": ("mlp.down_proj",),
        "norm": ("norm",),
        "head": ("lm_head",),
    },
    transposed=(),
    unused=r".*\.rotary_emb\.inv_freq$",
    read=read_llama,
    write=write_llama,
    biasless=biasless,
)
