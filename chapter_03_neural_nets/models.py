"""The models of this chapter: a multilayer perceptron, and one that reads the last few tokens."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from chapter_03_neural_nets.activations import ReLU, Tanh
from chapter_03_neural_nets.containers import Sequential
from chapter_03_neural_nets.evaluation import evaluating
from chapter_03_neural_nets.layers import Dropout, Embedding, Flatten, Linear
from chapter_03_neural_nets.module import Module
from utils import Tensor


class MLP(Sequential):
    """Linear layers from `sizes[0]` inputs to `sizes[-1]` logits, an activation after all but one.

    Inputs (B, ...) are flattened first. Later chapters pass their own `linear`, and a
    `normalization` (a function from features to a module) that goes before each activation.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable[[], Module] = ReLU,
        dropout: float = 0.0,
        normalization: Callable[[int], Module] | None = None,
        linear: Callable[..., Module] = Linear,
        rng: np.random.Generator | None = None,
    ) -> None:
        if len(sizes) < 2 or not all(size >= 1 for size in sizes):
            raise ValueError(f"an MLP needs the sizes of its input and output, not {sizes}")
        layers: list[Module] = [Flatten()]
        for before, after in zip(sizes[:-2], sizes[1:]):
            layers.append(linear(before, after, rng=rng))
            if normalization is not None:
                layers.append(normalization(after))
            layers.append(activation())
            if dropout != 0:
                layers.append(Dropout(dropout, rng))
        super().__init__(*layers, linear(sizes[-2], sizes[-1], rng=rng))


class ContextMLP(Module):
    """Logits of the next token from the vectors of the last `context` tokens, side by side.

    Chapter 2's network of Bengio et al. (2003, JMLR 3), of any depth: ids (B, context) to logits
    (B, vocab_size).
    """

    def __init__(
        self,
        vocab_size: int,
        context: int = 3,
        embedding_dim: int = 16,
        hidden: Sequence[int] = (256,),
        embedding: Callable[..., Module] = Embedding,
        rng: np.random.Generator | None = None,
        activation: Callable[[], Module] = Tanh,
        **options: Any,
    ) -> None:
        super().__init__()
        self.context = context
        self.embedding = embedding(vocab_size, embedding_dim, rng=rng)
        sizes = [context * embedding_dim, *hidden, vocab_size]
        self.mlp = MLP(sizes, activation, rng=rng, **options)

    def forward(self, ids: Any) -> Tensor:
        return self.mlp(self.embedding(ids))

    def next_logits(self, ids: Sequence[int], boundary: int = 0) -> np.ndarray:
        """The logits after a document's first tokens `ids`: (vocab_size,)."""
        window = ([boundary] * self.context + list(ids))[len(ids) :]
        with evaluating(self):
            return self(np.array([window])).data[0]
