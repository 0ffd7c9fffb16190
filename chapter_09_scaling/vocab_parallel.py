"""The vocabulary cut among ranks: the largest matrix of a small model, and its largest array.

Each rank has the vectors of some tokens, for what goes in and for what comes out. A vector is
looked up where it is, and everybody gets it by a sum in which the others add zeros. The logits
(B, T, V) stay where they are made: their cross-entropy

    log(sum over all tokens of exp(x - m)) - (x_target - m),   m the largest x of all tokens,

needs three numbers a place from other ranks, not V.
Source: Shoeybi et al., 2019, Megatron-LM, arXiv:1909.08053, section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_03_neural_nets.layers import check_ids
from chapter_03_neural_nets.losses import IGNORED, check_targets
from chapter_05_gradient_mastery import Embedding
from chapter_05_gradient_mastery.embedding import embedding
from chapter_09_scaling.communicator import Communicator
from chapter_09_scaling.tensor_parallel_layers import Cut, keep_own_part, shares, summed
from utils import Tensor, kernel
from utils.primitives import total
from utils.promotion import plain


class VocabParallelEmbedding(Embedding):
    """A table cut by its rows: ids (...) to (..., embedding_dim), both on all ranks.

    Raises ValueError for more ranks than rows, and ids that are no rows of the whole table.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rng: np.random.Generator | None = None,
        *,
        comm: Communicator,
    ) -> None:
        rows = shares(num_embeddings, comm.size, "tokens")
        super().__init__(num_embeddings, embedding_dim, rng=rng)
        keep_own_part(self, comm, weight=Cut(0, rows))
        self.first = int(rows[comm.rank][0])

    def forward(self, ids: Any) -> Tensor:
        ids = check_ids(self, ids, self.num_embeddings) - self.first
        elsewhere = (ids < 0) | (ids >= len(self.weight))
        vectors = embedding(self.weight, np.where(elsewhere, 0, ids))
        return summed(np.where(elsewhere[..., None], 0, vectors), self.comm)


def vocab_parallel_cross_entropy_composed(
    logits: Tensor,
    targets: Any,
    *,
    vocab_size: int,
    comm: Communicator,
    ignore_index: int = IGNORED,
) -> Tensor:
    counted, rows, places = own_targets(logits, targets, vocab_size, comm, ignore_index)
    x = np.reshape(logits, (-1, logits.shape[-1]))[counted]
    x = x - comm.all_reduce(plain(x).max(axis=1, keepdims=True), np.maximum)
    log_norm = np.log(summed(np.sum(np.exp(x), axis=1), comm))
    return np.mean(log_norm) - summed(np.sum(x[rows, places]), comm) / len(counted)


@kernel(composed=vocab_parallel_cross_entropy_composed)
def vocab_parallel_cross_entropy(logits, targets, *, vocab_size, comm, ignore_index=IGNORED):
    """The mean of -log p(target), from each rank's own logits (..., its part of vocab_size).

    Targets (...) are whole numbers below `vocab_size`, the same on all ranks; so is the result.
    Logits are of the tokens that `shares` gives to a rank (ValueError). Backward sends nothing.
    """
    counted, rows, places = own_targets(logits, targets, vocab_size, comm, ignore_index)
    x = logits.reshape(-1, logits.shape[-1])[counted]
    x -= comm.all_reduce(x.max(axis=1, keepdims=True), np.maximum)
    sums = np.zeros((2, len(x)), x.dtype)  # of the exponentials, and x of the target
    sums[1, rows] = x[rows, places]
    e = np.exp(x, out=x)
    sums[0] = total(e, axis=1)
    norm, target = comm.all_reduce(sums)
    losses = np.log(norm) - target
    y = (np.add.reduce(losses, dtype=np.float64) / len(losses)).astype(logits.dtype)

    def backward(g, wanted):
        share = g / len(counted)
        dx = np.zeros((targets.size, logits.shape[-1]), logits.dtype)
        dx[counted] = e * (share / norm[:, None])
        dx[counted[rows], places] -= share
        return dx.reshape(logits.shape), None

    return y, backward


def own_targets(
    logits: Tensor, targets: Any, vocab_size: int, comm: Communicator, ignore_index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which places count, which of these have their target on this rank, and at which logit."""
    own = shares(vocab_size, comm.size, "tokens")[comm.rank]
    if logits.ndim == 0 or logits.shape[-1] != len(own):
        raise ValueError(f"rank {comm.rank} of {comm.size} has the logits of {len(own)} of "
                         f"{vocab_size} tokens, not {logits.shape}")  # fmt: skip
    as_if_whole = np.broadcast_to(np.float32(0), (*logits.shape[:-1], vocab_size))
    targets = check_targets(as_if_whole, targets, ignore_index)[0].ravel()
    (counted,) = (targets != ignore_index).nonzero()
    if len(counted) == 0:
        raise ValueError("cross_entropy: the mean of no targets does not exist")
    places = targets[counted] - own[0]
    (rows,) = ((places >= 0) & (places < len(own))).nonzero()
    return counted, rows, places[rows]
