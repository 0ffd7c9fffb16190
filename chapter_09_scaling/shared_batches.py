"""One batch for all ranks: each takes some of its rows, and a share of its loss.

A mean over a batch is a sum of shares, one for each rank's rows, each weighted by how many targets
they have. So the gradients of the shares add up to the gradient of the whole, also where rows do
not divide evenly, and where a rank has none.
"""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from chapter_03_neural_nets import Module
from chapter_03_neural_nets.losses import IGNORED
from chapter_03_neural_nets.training import Loss
from chapter_05_gradient_mastery import cross_entropy
from chapter_09_scaling.collectives import bounds
from chapter_09_scaling.communicator import Communicator
from utils import Tensor


class SharedBatches:
    """This rank's rows of every batch, and how many targets the whole batch has.

    `batches` must yield the same (inputs, targets) on all ranks: give its generator a seed. Yields
    (inputs, targets, total); `state_dict` is that of `batches`.
    """

    def __init__(self, batches: Any, comm: Communicator) -> None:
        self.batches, self.comm = batches, comm
        self.rng = getattr(batches, "rng", None)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray, int]:
        inputs, targets = next(self.batches)
        rows = slice(*bounds(len(inputs), self.comm.size)[self.comm.rank :][:2])
        return inputs[rows], targets[rows], int((targets != IGNORED).sum())

    def state_dict(self) -> dict[str, int]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batches.load_state_dict(state)


def next_token_loss(model: Module, ids: Any, targets: np.ndarray) -> Tensor:
    """The mean cross-entropy of a GPT's logits."""
    return cross_entropy(model(ids), targets)


def shared(loss: Loss = next_token_loss) -> Loss:
    """A mean loss as the share of one rank's rows: the shares of all ranks add up to the mean.

    The result is called with (model, inputs, targets, total), which `SharedBatches` yields.
    """

    def share(model: Module, inputs: Any, targets: np.ndarray, total: int) -> Tensor:
        counted = int((targets != IGNORED).sum())
        if counted == 0:  # the model runs all the same, as other ranks may wait for it
            return 0 * np.sum(model(inputs))
        return loss(model, inputs, targets) * (counted / total)

    return share
