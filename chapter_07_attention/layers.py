"""The transformer's layers: attention moves information between places, a perceptron works on it.

Both stand on residual paths, with a norm before each part (`norm_first`, as GPT-2 and Llama do; the
path itself is then left alone, chapter 4) or behind each sum (as in 2017).
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np

from chapter_03_neural_nets import Module, ReLU
from chapter_05_gradient_mastery import GELU, Dropout, LayerNorm, Linear, SiLU
from chapter_05_gradient_mastery.linear import run_fused
from chapter_07_attention.multi_head import MultiheadAttention
from chapter_07_attention.swiglu import SwiGLU
from utils import Tensor

ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "relu": ReLU,
    "gelu": GELU,
    "gelu_tanh": lambda: GELU("tanh"),
    "silu": SiLU,
    "swiglu": SwiGLU,
}


class TransformerEncoderLayer(Module):
    """Self-attention, then a perceptron at each place: (B, T, d_model) to the same.

    All families of the chapter are made of it: with a mask that hides the future it is a layer of
    GPT. The names and defaults are PyTorch's; "swiglu" makes the hidden layer in two halves. `norm`
    makes a norm of so many features, else it is LayerNorm; `attention` and `linear` make the parts;
    `attention_options` go to the former. Source: Vaswani et al., 2017, arXiv:1706.03762.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
        bias: bool = True,
        norm: Callable[[int], Module] | None = None,
        linear: Callable[..., Module] = Linear,
        attention: Callable[..., Module] = MultiheadAttention,
        rng: np.random.Generator | None = None,
        **attention_options: Any,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        hidden = dim_feedforward * (2 if activation == "swiglu" else 1)
        self.norm_first = norm_first
        options = {"linear": linear, "rng": rng, **attention_options}
        make_attention = functools.partial(attention, d_model, nhead, dropout, bias, **options)
        self.self_attn = make_attention()
        self.linear1 = linear(d_model, hidden, bias=bias, rng=rng)
        self.activation = ACTIVATIONS[activation]()
        self.linear2 = linear(dim_feedforward, d_model, bias=bias, rng=rng)
        if norm is None:  # with biases if the other parts have some, as in PyTorch
            norm = functools.partial(LayerNorm, bias=bias)
        self.norm1, self.norm2 = norm(d_model), norm(d_model)
        self.dropout = Dropout(dropout, rng)
        self.add_parts(make_attention, lambda: norm(d_model))

    def add_parts(self, make_attention: Callable, make_norm: Callable) -> None:
        """What a subclass has besides, made as these parts are."""

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        x = self.add(x, self.norm1, lambda x: self.self_attn(x, mask=mask))
        return self.add(x, self.norm2, self.feed_forward)

    def add(self, x: Tensor, norm: Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        """The residual path past a part."""
        if self.norm_first:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))

    def feed_forward(self, x: Tensor) -> Tensor:
        return run_fused([self.linear1, self.activation, self.dropout, self.linear2], x)


class TransformerDecoderLayer(TransformerEncoderLayer):
    """A look at what was written so far, one at the memory of what was read, then the perceptron.

    (B, T, d_model) and memory (B, S, d_model) to (B, T, d_model).
    """

    def add_parts(self, make_attention: Callable, make_norm: Callable) -> None:
        # What is read has its own places.
        self.multihead_attn = make_attention(positions=None)
        self.norm3 = make_norm()

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None
    ) -> Tensor:
        x = self.add(x, self.norm1, lambda x: self.self_attn(x, mask=mask))
        x = self.add(x, self.norm2, lambda x: self.multihead_attn(x, memory, memory_mask))
        return self.add(x, self.norm3, self.feed_forward)
