"""Looking vectors up as one node: the gradient gathers, for each id, what its places received."""

from __future__ import annotations

import numpy as np

import chapter_03_neural_nets as chapter_03
from chapter_03_neural_nets.layers import check_ids
from utils import Tensor, kernel
from utils.promotion import plain

FEW = 1 << 10  # up to so many rows, a product with the one-hot matrix is the fastest sum


def embedding_composed(weight: Tensor, ids) -> Tensor:
    return weight[plain(ids)]


@kernel(composed=embedding_composed)
def embedding(weight, ids):
    """Rows of weight (rows, size) by whole-number ids (...): (..., size)."""

    def backward(g, wanted):
        return (
            sum_by_row(g.reshape(np.size(ids), weight.shape[1]), np.ravel(ids), len(weight)),
            None,
        )

    return weight.take(ids, axis=0), backward


def sum_by_row(g: np.ndarray, ids: np.ndarray, rows: int) -> np.ndarray:
    """Zeros (rows, size) with every row of g added at its id."""
    if rows <= FEW:
        onehot = np.zeros((len(ids), rows), g.dtype)
        onehot[np.arange(len(ids)), ids] = 1
        return onehot.T @ g
    out = np.zeros((rows, g.shape[1]), g.dtype)
    order = np.argsort(ids, kind="stable")
    found, starts = np.unique(ids[order], return_index=True)
    if len(found):
        out[found] = np.add.reduceat(g[order], starts, axis=0, dtype=np.float64)
    return out


class Embedding(chapter_03.Embedding):
    """Chapter 3's layer, on the kernel."""

    def forward(self, ids) -> Tensor:
        if self.padding_idx is not None:
            return super().forward(ids)
        return embedding(self.weight, check_ids(self, ids, self.num_embeddings))
