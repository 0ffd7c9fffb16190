"""Dialects: what Hugging Face's GPT-2 and Llama call the settings and arrays that we have.

A family is a table from our parts to theirs, and from our settings to theirs. GPT-2's matrices are
stored (in, out); Llama stores queries, keys and values, and the two halves of SwiGLU, apart. What
neither can say, such as a GPT with other positions, is stored in our own words.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict
from typing import Any, Callable, Mapping, NamedTuple

import numpy as np

from chapter_07_attention.config import GPTConfig, LlamaConfig


class Family(NamedTuple):
    """How a family names things.

    `parts` maps ours to theirs, one or several that lie below one another (empty where all names
    are ours); `prefix` is before all
    names but the head's and may be missing; `transposed` are parts stored (in, out); `unused` what
    old files hold besides. `read` and `write` turn their settings into ours and back.
    """

    prefix: str
    layers: str
    parts: dict[str, tuple[str, ...]]
    transposed: tuple[str, ...]
    unused: str
    read: Callable[[Mapping[str, Any]], GPTConfig]
    write: Callable[[GPTConfig], dict]

    def names(self, ours: str, prefix: str | None = None) -> list[str]:
        """Their names of one of our arrays."""
        prefix = self.prefix if prefix is None else prefix
        layer, part, kind = NAME.match(ours).groups()
        if not self.parts:
            return [ours]
        place = f"{prefix}{self.layers}.{layer}." if layer else prefix if part != "head" else ""
        return [f"{place}{theirs}.{kind}" for theirs in self.parts[part]]


NAME = re.compile(r"(?:layers\.(\d+)\.)?(.*?)[._](weight|bias)$")
GPT2_ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
}


def read_gpt2(theirs: Mapping[str, Any]) -> GPTConfig:
    only(theirs, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False,
         add_cross_attention=False)  # fmt: skip
    activation = theirs.get("activation_function", "gelu_new")
    if activation not in GPT2_ACTIVATIONS:
        raise ValueError(f"activation_function is one of {', '.join(GPT2_ACTIVATIONS)}, "
                         f"not {activation!r}")  # fmt: skip
    return GPTConfig(
        vocab_size=needed(theirs, "vocab_size"),
        block_size=needed(theirs, "n_positions"),
        n_layer=needed(theirs, "n_layer"),
        n_head=needed(theirs, "n_head"),
        n_embd=needed(theirs, "n_embd"),
        hidden=theirs.get("n_inner"),
        norm_eps=theirs.get("layer_norm_epsilon", 1e-5),
        activation=GPT2_ACTIVATIONS[activation],
        dropout=theirs.get("resid_pdrop", 0.1),
        tied=theirs.get("tie_word_embeddings", True),
    )


def write_gpt2(ours: GPTConfig) -> dict[str, Any]:
    expressible(ours, norm="layer", positions="learned", bias=True, window=None,
                n_kv_head=ours.n_head, head_dim=ours.n_embd // ours.n_head)  # fmt: skip
    names = {ours: theirs for theirs, ours in reversed(list(GPT2_ACTIVATIONS.items()))}
    if ours.activation not in names:
        raise ValueError(f"GPT-2 has no activation {ours.activation!r}")
    return {
        "architectures": ["GPT2LMHeadModel"],
        **dict.fromkeys(["bos_token_id", "eos_token_id"]),  # what ours are, the tokenizer says
        "model_type": "gpt2",
        "vocab_size": ours.vocab_size,
        "n_positions": ours.block_size,
        "n_layer": ours.n_layer,
        "n_head": ours.n_head,
        "n_embd": ours.n_embd,
        "n_inner": ours.hidden,
        "layer_norm_epsilon": ours.norm_eps,
        "activation_function": names[ours.activation],
        **{f"{place}_pdrop": ours.dropout for place in ("attn", "embd", "resid")},
        "tie_word_embeddings": ours.tied,
    }


def read_llama(theirs: Mapping[str, Any]) -> LlamaConfig:
    only(theirs, hidden_act="silu")
    rope = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ValueError(f"rotary positions of type {kind!r} are not known, only 'default'")
    return LlamaConfig(
        vocab_size=needed(theirs, "vocab_size"),
        block_size=needed(theirs, "max_position_embeddings"),
        n_layer=needed(theirs, "num_hidden_layers"),
        n_head=needed(theirs, "num_attention_heads"),
        n_embd=needed(theirs, "hidden_size"),
        n_kv_head=theirs.get("num_key_value_heads"),
        head_dim=theirs.get("head_dim"),
        hidden=needed(theirs, "intermediate_size"),
        norm_eps=theirs.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta", theirs.get("rope_theta", 10_000.0)),
        bias=theirs.get("attention_bias", False) or theirs.get("mlp_bias", False),
        tied=theirs.get("tie_word_embeddings", False),
    )


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
    }


def read_own(settings: Mapping[str, Any]) -> GPTConfig:
    known = GPTConfig.__dataclass_fields__
    return GPTConfig(**{name: value for name, value in settings.items() if name in known})


def write_own(ours: GPTConfig) -> dict[str, Any]:
    return {"model_type": "first-principles", **asdict(ours)}


FAMILIES = {
    "gpt2": Family(
        prefix="transformer.",
        layers="h",
        parts={
            "embedding": ("wte",),
            "positions": ("wpe",),
            "norm1": ("ln_1",),
            "self_attn.in_proj": ("attn.c_attn",),
            "self_attn.out_proj": ("attn.c_proj",),
            "norm2": ("ln_2",),
            "linear1": ("mlp.c_fc",),
            "linear2": ("mlp.c_proj",),
            "norm": ("ln_f",),
            "head": ("lm_head",),
        },
        transposed=("self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"),
        unused=r".*\.attn\.(masked_)?bias$",
        read=read_gpt2,
        write=write_gpt2,
    ),
    "llama": Family(
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
    ),
    "first-principles": Family("", "layers", {}, (), "$^", read_own, write_own),
}


def family_of(config: GPTConfig) -> str:
    """The first family that can say what a configuration is."""
    for name, family in FAMILIES.items():
        with contextlib.suppress(ValueError):
            family.write(config)
            return name
    raise AssertionError("our own words say everything")


def joined_parts(name: str, config: GPTConfig) -> list[int]:
    """How many rows of one of our arrays belong to each of the parts below one another."""
    part = NAME.match(name).group(2)
    if part == "self_attn.in_proj":
        kv = config.n_kv_head * config.head_dim
        return [config.n_head * config.head_dim, kv, kv]
    return [config.hidden, config.hidden]


def is_transposed(name: str, family: Family) -> bool:
    return name.endswith("weight") and NAME.match(name).group(2) in family.transposed


def as_stored(array: np.ndarray, name: str, family: Family) -> np.ndarray:
    """One of our arrays as a file of the family has it, or the other way round."""
    return array.T if is_transposed(name, family) else array


def needed(settings: Mapping[str, Any], name: str) -> Any:
    if name not in settings:
        raise ValueError(f"{name} is missing")
    return settings[name]


def only(settings: Mapping[str, Any], **known: Any) -> None:
    for name, value in known.items():
        if settings.get(name, value) != value:
            raise ValueError(f"{name} may only be {value!r}, not {settings[name]!r}")


def expressible(config: GPTConfig, **known: Any) -> None:
    for name, value in known.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"a checkpoint of this family has {name}={value!r}, not {getattr(config, name)!r}"
            )
