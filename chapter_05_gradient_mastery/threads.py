"""A batch is a sum, so its halves can be worked on at the same time.

NumPy lets go of Python's lock while it computes. So each of two threads takes half of a batch,
forward and backward, with matrix products that stay on one core; their gradients add up to those of
the whole. `grad` changes nothing that they share, so nothing has to be locked.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, Iterator

import numpy as np

import chapter_04_training_dynamics as chapter_04
from chapter_03_neural_nets import Module
from chapter_03_neural_nets.evaluation import quietly
from chapter_03_neural_nets.losses import IGNORED
from utils import Tensor, grad, kernel
from utils.blas import blas_threads
from utils.graph import Node
from utils.modes import mode
from utils.seeding import generator, own_generator

Loss = Callable[..., Tensor]


def in_threads(loss: Loss, threads: int = 2) -> Loss:
    """The same mean loss of (model, inputs, targets), its gradient made by so many threads.

    Each takes a share of the rows, counted by its targets that are not ignored; what it draws at
    random comes from a generator of its own, so the same seed gives the same numbers. It has first
    derivatives only, and all leaves get theirs at once, in the end. Warnings of numbers that
    overflow are not given: look at the loss. Raises ValueError for models that look at the whole
    batch (batch normalisation), and for those that drop at random by a generator of their own.
    """
    if threads < 1:
        raise ValueError(f"threads are counted from 1 up, not {threads}")
    if threads == 1:
        return loss
    pool = ThreadPoolExecutor(threads)

    def run(share: Callable, rows: Iterable[slice], seeds: Iterable[int]) -> list:
        with blas_threads(1):
            return list(pool.map(share, rows, seeds))

    return in_parts(loss, threads, run)


def in_parts(loss: Loss, parts: int, run: Callable[..., Iterable]) -> Loss:
    """The same loss in so many shares; `run(share, rows, seeds)` calls `share` for all of them."""

    def loss_in_parts(model: Module, inputs: Any, targets: np.ndarray) -> Tensor:
        params = [p for p in model.parameters() if p.requires_grad]
        total = int((targets != IGNORED).sum())
        if mode.node_class is not Node or not params or total == 0:
            return loss(model, inputs, targets)  # nobody asks for gradients, or all is watched
        check(model)

        def share(rows: slice, seed: int) -> tuple[float, list]:
            weight = int((targets[rows] != IGNORED).sum()) / total
            if weight == 0:
                return 0.0, []
            with own_generator(seed), quietly():
                value = loss(model, inputs[rows], targets[rows])
                return weight * value.item(), grad(value, params, weight, retain_graph=False)

        @kernel(composed=only_once)
        def mean(*arrays):
            seeds = generator().integers(2**63, size=parts).tolist()
            value, gradients = summed(run(share, parted(len(targets), parts), seeds))
            value = np.array(value, arrays[0].dtype)
            return value, lambda g, wanted: tuple(gradient * g for gradient in gradients)

        return mean(*params)

    return loss_in_parts


def check(model: Module) -> None:
    """ValueError where a batch in parts would not be the batch, or disturb its other parts."""
    for name, part in model.named_modules():
        if part.training and isinstance(part, (chapter_04.BatchNorm1d, chapter_04.BatchNorm2d)):
            raise ValueError(
                f"{name} normalises by the whole batch, which a part of it does not see"
            )
        dropping = getattr(part, "p", 0) or getattr(part, "dropout", 0)
        if part.training and getattr(part, "rng", None) is not None and dropping:
            raise ValueError(f"{name} drops by its own generator, from which the parts would "
                             "draw in any order: leave rng out")  # fmt: skip


def only_once(*params: Tensor) -> Tensor:
    raise NotImplementedError("a loss in parts has first derivatives only: use the loss itself")


def parted(rows: int, parts: int) -> Iterator[slice]:
    """Slices of about equal lengths that make up all the rows, none of them empty."""
    bounds = [rows * i // parts for i in range(parts + 1)]
    return (slice(a, b) for a, b in zip(bounds, bounds[1:]) if a < b)


def summed(shares: Iterable[tuple[float, list[Tensor]]]) -> tuple[float, list[np.ndarray]]:
    """The sums of values, and of gradients one for each parameter, in the first share's arrays."""
    value, totals = 0.0, []
    for part, gradients in shares:
        value += part
        for total, gradient in zip(totals, gradients):
            total += gradient.data
        totals = totals or [gradient.data for gradient in gradients]
        del gradients  # before the next share is made
    return value, totals
