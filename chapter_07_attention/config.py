"""What a model is, before it is one: a GPT's sizes, and the choices that make the families.

GPT-2 (2019) and Llama (2023) are the same stack of layers. Four choices differ: the norm, the
activation, how places are told, and whether the last matrix is the first one again.
"""

from __future__ import annotations

from dataclasses import dataclass

from chapter_07_attention.layers import ACTIVATIONS

POSITIONS = ("learned", "sinusoidal", "rotary", "alibi", "none")
NORMS = ("layer", "rms")


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
        if self.n_kv_head is None:
            self.n_kv_head = self.n_head
        if self.hidden is None:
            swiglu = self.activation == "swiglu"
            self.hidden = -(-8 * self.n_embd // 24) * 8 if swiglu else 4 * self.n_embd
        if self.head_dim is None:
            if self.n_head and self.n_embd % self.n_head:
                raise ValueError(f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}")
            self.head_dim = self.n_embd // max(self.n_head, 1)
        sizes = ["vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_kv_head", "head_dim"]
        for name in [*sizes, "hidden", *(["window"] if self.window is not None else [])]:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is a whole number from 1 up, not {value!r}")
        if self.n_head % self.n_kv_head:
            raise ValueError(f"{self.n_head} heads cannot share {self.n_kv_head} keys and values")
        for name, known in {
            "norm": NORMS,
            "activation": ACTIVATIONS,
            "positions": POSITIONS,
        }.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}"
                )
        for name, high in {
            "dropout": 1,
            "norm_eps": float("inf"),
            "rope_theta": float("inf"),
        }.items():
            if not 0 <= getattr(self, name) < high:
                raise ValueError(
                    f"{name} is at least 0 and below {high}, not {getattr(self, name)}"
                )


@dataclass
class LlamaConfig(GPTConfig):
    """Llama's choices. Source: Touvron et al., 2023, arXiv:2302.13971."""

    bias: bool = False
    norm: str = "rms"
    norm_eps: float = 1e-6
    activation: str = "swiglu"
    positions: str = "rotary"
    tied: bool = False
