"""Looking vectors up as one node: the gradient gathers, for each id, what its places received."""

from __future__ import annotations

import numpy as np

import chapter_03_neural_nets as chapter_03
from chapter_03_neural_nets.layers import check_ids
from utils import Tensor, kernel
from utils.primitives import ROWS_PER_BLOCK
from utils.promotion import plain

FEW = 64  # rows, which are added one by one sooner than sorted


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
    """Zeros (rows, size) with every row of g added at its id: many are sorted, and runs summed.

    They have g's dtype, and a negative id counts from the end.
    """
    out = np.zeros((rows, g.shape[1]), g.dtype)
    if len(ids) <= FEW:
        np.add.at(out, ids, g)
    else:
        ids = ids % rows  # a negative id counts from the end
        order = np.argsort(ids, kind="stable")
        runs = ids[order]
        starts = np.flatnonzero(np.append(True, runs[1:] != runs[:-1]))
        # Rows are added one by one: many of them need float64.
        dtype = g.dtype if len(ids) <= ROWS_PER_BLOCK else np.float64
        out[runs[starts]] = np.add.reduceat(g.take(order, axis=0), starts, axis=0, dtype=dtype)
    return out


class Embedding(chapter_03.Embedding):
    """Chapter 3's layer, on the kernel."""

    def forward(self, ids) -> Tensor:
        if self.padding_idx is not None:
            return super().forward(ids)
        return embedding(self.weight, check_ids(self, ids, self.num_embeddings))
