"""GPT-2 as Hugging Face writes it."""

from __future__ import annotations

from typing import Any, Mapping

from chapter_07_attention.config import GPTConfig
from chapter_07_attention.family import Family, expressible, only, setting, size

ACTIVATIONS = {
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
    if activation not in list(ACTIVATIONS):  # what a file holds may have no hash
        raise ValueError(f"activation_function is one of {', '.join(ACTIVATIONS)}, "
                         f"not {activation!r}")  # fmt: skip
    return GPTConfig(
        vocab_size=size(theirs, "vocab_size"),
        block_size=size(theirs, "n_positions"),
        n_layer=size(theirs, "n_layer"),
        n_head=size(theirs, "n_head"),
        n_embd=size(theirs, "n_embd"),
        hidden=size(theirs, "n_inner", optional=True),
        norm_eps=theirs.get("layer_norm_epsilon", 1e-5),
        activation=ACTIVATIONS[activation],
        dropout=theirs.get("resid_pdrop", 0.1),
        tied=setting(theirs, "tie_word_embeddings", True),
    )


def write_gpt2(ours: GPTConfig) -> dict[str, Any]:
    expressible(ours, norm="layer", positions="learned", bias=True, window=None,
                n_kv_head=ours.n_head, head_dim=ours.n_embd // ours.n_head)  # fmt: skip
    names = {ours: theirs for theirs, ours in reversed(list(ACTIVATIONS.items()))}
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


GPT2 = Family(
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
)
