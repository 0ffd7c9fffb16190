"""Three readers of an expression: by its tree, as a chain, and as a bag.

All take expressions and give the logits of false and true; they differ only in what they are told:
what is inside what, what comes after what, or no more than how often each symbol occurs.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from chapter_03_neural_nets import Module
from chapter_05_gradient_mastery import MLP, Embedding
from chapter_06_hierarchical.expressions import SYMBOLS, symbol_id, written
from chapter_06_hierarchical.forest import plant
from chapter_06_hierarchical.packed import pack_sequence
from chapter_06_hierarchical.recurrent import LSTM
from chapter_06_hierarchical.tree_lstm import TreeLSTM
from utils import Tensor

CHAIN_SYMBOLS = (*SYMBOLS, "Else", "(", ")")
PLACES = 4  # unordered, first, second, third


class TreeReader(Module):
    """A Tree-LSTM from the leaves up; the root's memory answers."""

    def __init__(self, size: int = 64, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        self.symbols = Embedding(len(SYMBOLS), size, rng=rng)
        self.places = Embedding(PLACES, size, rng=rng)
        self.lstm = TreeLSTM(size, size, rng)
        self.head = MLP([size, size, 2], rng=rng)

    def forward(self, expressions: Sequence[Any]) -> Tensor:
        forest = plant(expressions)
        x = self.symbols(forest.symbols) + self.places(forest.places)
        return self.head(self.lstm(x, forest)[forest.roots])


class ChainReader(Module):
    """An LSTM from the first symbol to the last, brackets included; the last memory answers."""

    def __init__(self, size: int = 64, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        self.symbols = Embedding(len(CHAIN_SYMBOLS), size, rng=rng)
        self.lstm = LSTM(size, size, rng=rng)
        self.head = MLP([size, size, 2], rng=rng)

    def forward(self, expressions: Sequence[Any]) -> Tensor:
        chains = [np.array([symbol_id(s, CHAIN_SYMBOLS) for s in written(e)]) for e in expressions]
        ids = pack_sequence(chains, enforce_sorted=False)
        _, (h, _) = self.lstm(ids._replace(data=self.symbols(ids.data)))
        return self.head(h[-1])


class BagReader(Module):
    """A perceptron on how often each symbol occurs."""

    def __init__(self, size: int = 64, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        self.mlp = MLP([len(SYMBOLS), 2 * size, size, 2], rng=rng)

    def forward(self, expressions: Sequence[Any]) -> Tensor:
        forest = plant(expressions)
        counts = np.zeros((len(expressions), len(SYMBOLS)), np.float32)
        np.add.at(counts, (forest.trees, forest.symbols), 1)
        return self.mlp(Tensor(counts))
