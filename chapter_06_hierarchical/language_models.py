"""Chains as language models: a recurrent network that says at every token what comes next."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from chapter_03_neural_nets import Module, evaluating
from chapter_05_gradient_mastery import Dropout, Embedding, Linear
from chapter_06_hierarchical.recurrent import LSTM, Recurrent
from utils import Tensor


class RecurrentModel(Module):
    """Logits of the next token at every place: ids (B, T) to (B, T, vocab_size)."""

    def __init__(
        self,
        vocab_size: int,
        hidden: int = 128,
        num_layers: int = 1,
        dropout: float = 0.0,
        network: type[Recurrent] = LSTM,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.embedding = Embedding(vocab_size, hidden, rng=rng)
        options = {"num_layers": num_layers, "dropout": dropout, "rng": rng}
        self.chain = network(hidden, hidden, batch_first=True, **options)
        self.dropout = Dropout(dropout, rng)
        self.head = Linear(hidden, vocab_size, rng=rng)

    def forward(self, ids: Any) -> Tensor:
        y, _ = self.chain(self.dropout(self.embedding(ids)))
        return self.head(self.dropout(y))

    def next_logits(self, ids: Sequence[int], boundary: int = 0) -> np.ndarray:
        """The logits after a document's first tokens `ids`: (vocab_size,)."""
        with evaluating(self):
            return self(np.array([[boundary, *ids]])).data[0, -1]
