"""Attention as a layer: several heads, each with its own way to ask, to be found, and to answer.

One softmax mixes values in one way. H heads of C / H numbers each ask H questions for the same
arithmetic. Different queries often need the same keys and values, so several heads of queries may
share one of these, which is less to remember while writing text (chapter 10).
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from chapter_03_neural_nets import Module, Parameter, xavier_uniform_, zeros_
from chapter_03_neural_nets.layers import check_features
from chapter_05_gradient_mastery import Linear, linear
from chapter_05_gradient_mastery.dropout import draw_kept
from chapter_07_attention.attention_kernel import attend
from chapter_07_attention.positions import Positions
from utils import Tensor
from utils.seeding import generator


class MultiheadAttention(Module):
    """x (B, T, embed_dim) looks at itself, or at memory (B, S, embed_dim): (B, T, embed_dim).

    `in_proj_weight` holds the rows of queries, keys and values, one below the other, as PyTorch's
    does; `project` is where they are made. `num_kv_heads` share keys and values among `num_heads`;
    `positions` may turn queries and keys of self-attention (what they do elsewhere is the model's
    to ask for); `attend` is what is done with them (`attention_kernel.py`). The mask is True where
    a query may look, or a number that is added to the score; it broadcasts to (B, num_heads, T, S).
    Source: Vaswani et al., 2017, arXiv:1706.03762; grouped: Ainslie et al., 2023, arXiv:2305.13245.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        positions: Positions | None = None,
        attend: Callable = attend,
        linear: Callable[..., Module] = Linear,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or kv_heads < 1 or num_heads % kv_heads:
            raise ValueError(f"{num_heads} heads cannot share {kv_heads} keys and values evenly")
        if head_dim is None and embed_dim % num_heads:
            raise ValueError(f"embed_dim={embed_dim} is not divisible by num_heads={num_heads}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a probability below 1, not {dropout}")
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, kv_heads
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        self.dropout, self.rng, self.attend = dropout, rng, attend
        # Not the scheme itself: it would be a part of every layer, and be saved with each.
        self.turn = (positions or Positions()).turn
        rows = (num_heads + 2 * kv_heads) * self.head_dim
        weight = Parameter(np.empty((rows, embed_dim), np.float32))
        self.in_proj_weight = xavier_uniform_(weight, rng=rng)
        self.in_proj_bias = Parameter(np.zeros(rows, np.float32)) if bias else None
        self.out_proj = linear(num_heads * self.head_dim, embed_dim, bias=bias, rng=rng)
        if bias:
            zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Any = None) -> Tensor:
        check_features(self, x, self.embed_dim)
        if memory is None:
            packed = self.project(x, slice(None))
            packed = self.turn(packed, self.head_dim, self.num_heads + self.num_kv_heads)
            return self.out_proj(self.look(packed, None, mask))
        check_features(self, memory, self.embed_dim)
        queries = self.num_heads * self.head_dim
        q = self.project(x, slice(queries))
        kv = self.project(memory, slice(queries, None))
        return self.out_proj(self.look(q, kv, mask))

    def project(self, x: Tensor, rows: slice) -> Tensor:
        """x times these rows of the weight."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if rows != slice(None):
            weight, bias = weight[rows], None if bias is None else bias[rows]
        return linear(x, weight, bias)

    def look(self, q: Tensor, kv: Tensor | None, mask: Any) -> Tensor:
        """What all heads answer, side by side: (B, T, num_heads head_dim)."""
        options = {"heads": self.num_heads, "kv_heads": self.num_kv_heads, "mask": mask}
        if not self.training or self.dropout == 0:
            return self.attend(q, kv, **options)
        keys = q.shape[1] if kv is None else kv.shape[1]
        shape = (len(q), self.num_heads, q.shape[1], keys)
        kept, scale = draw_kept(shape, self.dropout, generator(self.rng))
        return self.attend(q, kv, kept, kept_scale=scale, **options)

    def extra_repr(self) -> str:
        shared = f" (keys and values: {self.num_kv_heads})"
        return f"{self.embed_dim}, heads={self.num_heads}" + (
            shared if self.num_kv_heads != self.num_heads else ""
        )
