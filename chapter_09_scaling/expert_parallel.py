"""Expert parallelism: each rank holds some of the experts, and tokens travel to those they ask.

All else is data parallel: every rank has a copy of it, and rows of its own. Tokens sorted by expert
are sorted by rank too, so what goes to a rank is one piece. First all ranks tell one another how
many of their tokens ask each expert; then the tokens go out (`all_to_all`), the experts work, and
the answers come back the same way. The gradients go the same two ways, in the opposite directions,
and so an expert's gradient is complete where it is: it has seen the tokens of all ranks.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from chapter_03_neural_nets import Module, Parameter
from chapter_09_scaling.collectives import bounds
from chapter_09_scaling.communicator import Communicator
from chapter_09_scaling.mixture_of_experts import ExpertLayer, MixtureOfExperts, dispatch, inverse
from chapter_09_scaling.replicas import DataParallel
from utils import Tensor
from utils.operation import Operation


def travel(rows: Tensor, comm: Communicator, sent: Sequence[int], taken: Sequence[int]) -> Tensor:
    """Rows (sum of sent, C) go to the ranks, sent[i] of them to rank i: (sum of taken, C) come.

    Their gradients go back where they came from. All ranks make the same call, and its backward.
    """
    if isinstance(rows, Tensor):
        return rows.call(TRAVEL, comm=comm, sent=sent, taken=taken)
    return exchanged(rows, comm, sent, taken)


def exchanged(
    rows: np.ndarray, comm: Communicator, sent: Sequence[int], taken: Sequence[int]
) -> np.ndarray:
    """One all_to_all of rows that lie by rank."""
    out = np.empty((sum(taken), *rows.shape[1:]), rows.dtype)
    comm.all_to_all(pieces(np.ascontiguousarray(rows), sent), pieces(out, taken))
    return out


def pieces(rows: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    return np.split(rows, np.cumsum(lengths)[:-1])


# Its own derivative, the other way round.
TRAVEL = Operation(exchanged, [lambda g, comm, sent, taken: travel(g, comm, taken, sent)])
TRAVEL.name = "travel"


class ExpertParallelMixture(MixtureOfExperts):
    """A mixture whose experts are cut over the ranks of `comm`, by `bounds`.

    An expert's parameters have the names that they have in the whole mixture. The balance is that
    of the tokens of all ranks, of which each rank has a share. Raises ValueError where there are
    more ranks than experts. Source: Lepikhin et al., 2020, arXiv:2006.16668.
    """

    def __init__(
        self,
        d_model: int,
        dim_feedforward: int,
        experts: int = 8,
        top_k: int = 2,
        comm: Communicator | None = None,
        **options: Any,
    ) -> None:
        if comm is None:
            raise ValueError("the ranks that share the experts are needed: give comm")
        if comm.size > experts:
            raise ValueError(f"{experts} experts cannot be cut among {comm.size} ranks: each rank "
                             "needs one at least")  # fmt: skip
        self.comm, self.ends = comm, bounds(experts, comm.size)
        own = range(*self.ends[comm.rank :][:2])
        super().__init__(d_model, dim_feedforward, experts, top_k, own, **options)

    def ask(self, rows: Tensor, counts: np.ndarray) -> tuple[Tensor, np.ndarray]:
        comm, ends = self.comm, self.ends
        table = comm.all_gather(counts).reshape(comm.size, len(counts))  # of rank i for expert j
        own = table[:, ends[comm.rank] : ends[comm.rank + 1]]
        sent = np.add.reduceat(counts, ends[:-1]).tolist()
        taken = own.sum(axis=1).tolist()
        rows = travel(rows, comm, sent, taken)
        # They came by rank and, of each rank, by expert: (ranks, experts) becomes the transpose.
        order = np.argsort(np.repeat(np.tile(np.arange(own.shape[1]), comm.size), own.ravel()),
                           kind="stable")  # fmt: skip
        answers = self.run_experts(dispatch(rows, order), own.sum(axis=0))
        answers = dispatch(answers, inverse(order))
        return travel(answers, comm, taken, sent), table.sum(axis=0)


def expert_parallel_layer(comm: Communicator, **options: Any) -> Callable[..., ExpertLayer]:
    """What makes the layers of GPT(config, layer=...) on each rank; `options` go to ExpertLayer."""
    mixture = functools.partial(ExpertParallelMixture, comm=comm)
    return functools.partial(ExpertLayer, mixture=mixture, **options)


def replicated(model: Module) -> list[Parameter]:
    """What is alike on all ranks: all parameters but the experts'."""
    spread = {id(p) for _, part in mixtures(model) for p in part.experts.parameters()}
    return [p for p in model.parameters() if id(p) not in spread]


def expert_data_parallel(comm: Communicator, model: Module) -> DataParallel:
    """DataParallel of all but the experts; these begin as `shard_state` has them.

    Nothing overlaps: sums that a second thread sends would come between the tokens of the first.
    """
    return DataParallel(comm, model, overlap=False, params=replicated(model))


def mixtures(model: Module) -> Iterator[tuple[str, ExpertParallelMixture]]:
    """The mixtures of a model that are cut, by name."""
    return ((n, m) for n, m in model.named_modules() if isinstance(m, ExpertParallelMixture))


def gather_state(model: Module, comm: Communicator) -> dict[str, np.ndarray]:
    """The `state_dict` of the whole model, on every rank; all ranks must call it."""
    state = {name: array.copy() for name, array in model.state_dict().items()}
    for path, mixture in mixtures(model):
        pattern = next(mixture.experts.children()).state_dict()  # all experts are of one shape
        for root, (first, last) in enumerate(zip(mixture.ends, mixture.ends[1:])):
            for i in range(first, last):
                for name, array in pattern.items():
                    whole = f"{path}.experts.{i}.{name}" if path else f"experts.{i}.{name}"
                    state[whole] = comm.broadcast(state.get(whole, np.empty_like(array)), root)
    return state
