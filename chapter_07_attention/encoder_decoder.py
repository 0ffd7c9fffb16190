"""The transformer of 2017: one stack reads, another writes while it looks at what was read."""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import numpy as np

from chapter_03_neural_nets import Module, ModuleList, evaluating, normal_, xavier_uniform_
from chapter_05_gradient_mastery import Dropout, Embedding, Linear
from chapter_07_attention.layers import TransformerDecoderLayer, TransformerEncoderLayer
from chapter_07_attention.masks import causal_mask
from chapter_07_attention.positions import Positions, SinusoidalPositions
from utils import Tensor


class Transformer(Module):
    """Logits of the next token to write: source (B, S) and target (B, T) to (B, T, vocab_size).

    Both are ids of one vocabulary, whose vectors are also the last matrix; `padding` is the id that
    fills sources up; `positions` are added to the vectors (ValueError for a scheme that adds
    nothing there). Layers have their norms after the sums, as in the paper.
    Source: Vaswani et al., 2017, arXiv:1706.03762.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 64,
        nhead: int = 4,
        num_layers: int = 2,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        padding: int = 0,
        positions: Positions | None = None,
        encoder_layer: Callable[..., Module] = TransformerEncoderLayer,
        decoder_layer: Callable[..., Module] = TransformerDecoderLayer,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        scheme = type(positions)
        if scheme is not Positions and getattr(scheme, "embed", None) is Positions.embed:
            raise ValueError(f"{scheme.__name__} adds nothing to vectors, which is all that this "
                             "model asks positions for")  # fmt: skip
        self.padding, self.d_model = padding, d_model
        sizes = (d_model, nhead, dim_feedforward or 4 * d_model, dropout)
        self.embedding = Embedding(vocab_size, d_model, rng=rng)
        self.positions = SinusoidalPositions() if positions is None else positions
        self.dropout = Dropout(dropout, rng)
        self.encoder = ModuleList(encoder_layer(*sizes, rng=rng) for _ in range(num_layers))
        self.decoder = ModuleList(decoder_layer(*sizes, rng=rng) for _ in range(num_layers))
        self.head = Linear(d_model, vocab_size, rng=rng)
        self.head.weight = self.embedding.weight
        for name, p in self.named_parameters():
            if name == "embedding.weight":
                normal_(p, std=d_model**-0.5, rng=rng)
            elif p.ndim == 2:
                xavier_uniform_(p, rng=rng)

    def forward(self, source: Any, target: Any) -> Tensor:
        memory, mask = self.encode(source)
        return self.decode(target, memory, mask)

    def encode(self, source: Any) -> tuple[Tensor, np.ndarray]:
        """What was read (B, S, d_model), and where something stands (B, 1, 1, S)."""
        mask = (np.asarray(source) != self.padding)[:, None, None]
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return x, mask

    def decode(self, target: Any, memory: Tensor, memory_mask: np.ndarray) -> Tensor:
        """The logits after each token of what was written so far."""
        x, mask = self.embed(target), causal_mask(np.shape(target)[1])
        for layer in self.decoder:
            x = layer(x, memory, mask, memory_mask)
        return self.head(x)

    def embed(self, ids: Any) -> Tensor:
        # Vectors of length 1, made as strong as the positions beside them.
        vectors = self.embedding(ids) * math.sqrt(self.d_model)
        return self.dropout(self.positions.embed(vectors))

    def write(self, source: np.ndarray, begin: int, end: int, max_tokens: int) -> list[list[int]]:
        """The likeliest next token, again and again, for each source (B, S), up to `end`.

        All are written together, behind `begin`, until each has ended or has `max_tokens`. What is
        returned has neither `begin` nor `end`. The model does not drop out meanwhile.
        """
        written = np.full((len(source), 1), begin)
        with evaluating(self):
            memory, mask = self.encode(source)
            for _ in range(max_tokens):
                following = self.decode(written, memory, mask).data[:, -1].argmax(axis=-1)
                written = np.concatenate([written, following[:, None]], axis=1)
                if (written == end).any(axis=1).all():
                    break
        return [until(end, row[1:].tolist()) for row in written]


def until(end: int, ids: Sequence[int]) -> list[int]:
    """The ids before the first `end`."""
    ids = list(ids)
    return ids[: ids.index(end)] if end in ids else ids
