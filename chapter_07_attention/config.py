"""What a model is, before it is one: a GPT's sizes, and the choices that make the families.

GPT-2 (2019) and Llama (2023) are the same stack of layers. Four choices differ: the norm, the
activation, how places are told, and whether the last matrix is the first one again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from chapter_07_attention.layers import ACTIVATIONS

POSITIONS = ("learned", "sinusoidal", "rotary", "alibi", "none")
CHOICES = {"norm": ("layer", "rms"), "activation": tuple(ACTIVATIONS), "positions": POSITIONS}
LARGEST = sys.float_info.max
RANGES = {  # NaN is in none of them
    "dropout": (lambda x: 0 <= x < 1, "from 0 to below 1"),
    "norm_eps": (lambda x: 0 <= x <= LARGEST, "from 0 up and finite"),
    "rope_theta": (lambda x: 0 < x <= LARGEST, "above 0 and finite"),
}


@dataclass
class GPTConfig:
    """GPT-2's choices; `block_size` is the longest text it takes, `hidden` that of the perceptron.

    None stands for n_head `n_kv_head`s, a `head_dim` of n_embd / n_head, and `hidden` 4 n_embd
    (with "swiglu" 8/3 n_embd, which costs as much, rounded up to a multiple of 8). `window`
    restricts how far back each layer looks. Raises ValueError for what does not fit together.
    Source: Radford et al., 2019, Language Models are Unsupervised Multitask Learners.
    """

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    n_kv_head: int | None = None
    head_dim: int | None = None
    hidden: int | None = None
    bias: bool = True
    norm: str = "layer"
    norm_eps: float = 1e-5
    activation: str = "gelu_tanh"
    positions: str = "learned"
    rope_theta: float = 10_000.0
    window: int | None = None
    tied: bool = True

    def __post_init__(self) -> None:
        # A configuration may come from a file: types come before arithmetic.
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            whole_number(name, getattr(self, name))
        for name in ("bias", "tied"):
            switch(name, getattr(self, name))
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, "
                                 f"not {getattr(self, name)!r}")  # fmt: skip
        for name, (fits, said) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
                raise ValueError(f"{name} is a number {said}, not {value!r}")
        self.fill_in()
        for name in ("n_kv_head", "head_dim", "hidden"):
            whole_number(name, getattr(self, name))
        if self.window is not None:
            whole_number("window", self.window)
        if self.n_head % self.n_kv_head:
            raise ValueError(f"{self.n_head} heads cannot share {self.n_kv_head} keys and values")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions turn the numbers of a head pair by pair: head_dim "
                             f"must be even, not {self.head_dim}")  # fmt: skip

    def fill_in(self) -> None:
        """Replace None by what it stands for."""
        if self.n_kv_head is None:
            self.n_kv_head = self.n_head
        if self.hidden is None:
            swiglu = self.activation == "swiglu"
            self.hidden = -(-8 * self.n_embd // 24) * 8 if swiglu else 4 * self.n_embd
        if self.head_dim is None:
            if self.n_embd % self.n_head:
                raise ValueError(f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}")
            self.head_dim = self.n_embd // self.n_head


@dataclass
class LlamaConfig(GPTConfig):
    """Llama's choices. Source: Touvron et al., 2023, arXiv:2302.13971."""

    bias: bool = False
    norm: str = "rms"
    norm_eps: float = 1e-6
    activation: str = "swiglu"
    positions: str = "rotary"
    tied: bool = False


def whole_number(name: str, value: Any) -> int:
    """The value of a size; ValueError where it is none."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is a whole number from 1 up, not {value!r}")
    return value


def switch(name: str, value: Any) -> bool:
    """The value of a switch; ValueError where it is none."""
    # A text such as "false" would be taken for true.
    if type(value) is not bool:
        raise ValueError(f"{name} is true or false, not {value!r}")
    return value


def shapes_of(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """The arrays of a GPT by name, without making one: what a file must hold."""
    width, heads = config.n_embd, config.n_head * config.head_dim
    matrices = {
        "self_attn.in_proj_weight": (heads + 2 * config.n_kv_head * config.head_dim, width),
        "self_attn.out_proj.weight": (width, heads),
        "linear1.weight": (config.hidden * (2 if config.activation == "swiglu" else 1), width),
        "linear2.weight": (width, config.hidden),
    }
    norms = {"norm1.weight": (width,), "norm2.weight": (width,)}
    last = {"norm.weight": (width,)}
    if config.bias:
        for shapes in (matrices, norms, last)[: 3 if config.norm == "layer" else 1]:
            shapes.update({n.replace("weight", "bias"): shape[:1] for n, shape in shapes.items()})
    tables = {"embedding.weight": (config.vocab_size, width)}
    if config.positions == "learned":
        tables["positions.weight"] = (config.block_size, width)
    layer = {**matrices, **norms}
    layers = {f"layers.{i}.{n}": layer[n] for i in range(config.n_layer) for n in layer}
    return {**tables, **layers, **last, "head.weight": (config.vocab_size, width)}
