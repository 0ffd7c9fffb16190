"""The smallest network that models language: one table of logits, one row for each token before.

Trained by gradient descent it arrives where counting does: at its best, row i of softmax(weight)
is the share of each token among those that followed token i.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from chapter_02_text_generation.likelihood import log_softmax, softmax
from utils import Tensor, no_grad


def bigram_counts(
    documents: Sequence[Sequence[int]], vocab_size: int, boundary: int = 0
) -> np.ndarray:
    """How often each token (column) followed each other (row), the boundary framing documents.

    Raises ValueError for an id outside the vocabulary.
    """
    stream = [boundary]
    for document in documents:
        stream += [*document, boundary]
    ids = np.asarray(stream)
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}, not {ids.min()} to {ids.max()}")
    pairs = np.bincount(ids[:-1] * vocab_size + ids[1:], minlength=vocab_size**2)
    return pairs.reshape(vocab_size, vocab_size)


class BigramNetwork:
    """softmax(weight[previous]): a linear layer on the previous token's one-hot vector."""

    def __init__(self, vocab_size: int) -> None:
        zeros = np.zeros((vocab_size, vocab_size), np.float32)
        self.weight = Tensor(zeros, requires_grad=True)

    def loss(self, counts: np.ndarray) -> Tensor:
        """The mean negative log-likelihood of all counted pairs, each kind of pair at once."""
        shares = (counts / counts.sum()).astype(np.float32)
        return -np.sum(shares * log_softmax(self.weight))

    def fit(self, counts: np.ndarray, steps: int = 1000, lr: float = 3.0) -> list[float]:
        """Gradient descent on all pairs; returns the loss before each step and at the end.

        Every row is a task of its own, whose gradient is scaled down by the row's share of all
        pairs. Divided by that share again, rare rows learn at the pace of frequent ones.
        """
        shares = counts.sum(axis=1, keepdims=True) / counts.sum()
        pace = (lr / np.where(shares > 0, shares, 1)).astype(np.float32)
        losses = []
        for _ in range(steps):
            self.weight.grad = None
            loss = self.loss(counts)
            loss.backward()
            self.weight.data -= pace * self.weight.grad
            losses.append(loss.item())
        with no_grad():
            return [*losses, self.loss(counts).item()]

    def probabilities(self) -> np.ndarray:
        """p(next | previous), a row for each previous token: (vocab_size, vocab_size)."""
        return softmax(self.weight.detach()).data
