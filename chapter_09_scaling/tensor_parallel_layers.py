"""Tensor parallelism: the matrices of one layer, cut among ranks that all work on the same batch.

Two matrices with something between them that works on each number, or each head, alone: cut the
first by its outputs and the second by its inputs, and a rank can go from the one to the other with
nothing but its own part,

    f(x [A1 A2]) [B1; B2] = f(x A1) B1 + f(x A2) B2,

so that a single sum over the ranks ends it. Attention is such a pair (heads between queries, keys,
values and the output matrix), and so is the perceptron. Forward, x goes to every rank as it is, and
the answers are added up. Backward it is the other way round: the answers' gradient goes to every
rank as it is, and what each says about x is added up.
Source: Shoeybi et al., 2019, Megatron-LM, arXiv:1909.08053.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Sequence

import numpy as np

from chapter_03_neural_nets import Module
from chapter_05_gradient_mastery import Linear
from chapter_05_gradient_mastery import linear as linear_kernel
from chapter_07_attention import MultiheadAttention, TransformerEncoderLayer
from chapter_09_scaling.collectives import bounds
from chapter_09_scaling.communicator import Communicator
from utils import Tensor
from utils.operation import Operation
from utils.promotion import plain


def copied(x: Tensor, comm: Communicator) -> Tensor:
    """x, which all ranks have, where each goes on with its own part; its gradients are added up.

    With y_1 = ... = y_N = x, dL/dx = dL/dy_1 + ... + dL/dy_N.
    """
    return x.call(COPIED, comm=comm) if isinstance(x, Tensor) else plain(x)


def summed(x: Tensor, comm: Communicator) -> Tensor:
    """The sum of all ranks' x, on every rank; each x gets the sum's gradient as it is.

    With y = x_1 + ... + x_N, dL/dx_i = dL/dy, which all ranks have, as all go on alike from y.
    """
    return x.call(SUMMED, comm=comm) if isinstance(x, Tensor) else comm.all_reduce(plain(x))


# Each is the other's derivative, so there are derivatives of every order.
COPIED = Operation(lambda a, comm: a, [lambda g, comm: summed(g, comm)])
SUMMED = Operation(lambda a, comm: comm.all_reduce(a), [lambda g, comm: copied(g, comm)])
COPIED.name, SUMMED.name = "copied", "summed"


class Cut(NamedTuple):
    """How an array is shared out: along which axis, and which places of it each rank has."""

    axis: int
    places: Sequence[np.ndarray]

    def part(self, whole: np.ndarray, rank: int) -> np.ndarray:
        """What a rank has of the whole array, as an array of its own."""
        return whole.take(self.places[rank], self.axis)

    def whole(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The whole array from the parts of all ranks."""
        order = np.argsort(np.concatenate(self.places))
        return np.concatenate(parts, self.axis).take(order, self.axis)


def shares(count: int, ranks: int, what: str) -> list[np.ndarray]:
    """Which of `count` things each rank has, in order, nearly equally many.

    Raises ValueError, on every rank alike, where there are more ranks than things.
    """
    if count < ranks:
        raise ValueError(f"{what}: {count} cannot be cut among {ranks} ranks, as each must have "
                         "at least one")  # fmt: skip
    ends = bounds(count, ranks)
    return [np.arange(a, b) for a, b in zip(ends, ends[1:])]


def stretched(places: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """The places of numbers, where each thing has `size` of them side by side."""
    return [(own[:, None] * size + np.arange(size)).ravel() for own in places]


def stacked(*blocks: tuple[Sequence[np.ndarray], int]) -> list[np.ndarray]:
    """The places in an array of several blocks one below the other, each (places, length)."""
    starts = np.cumsum([0, *(length for _, length in blocks)])
    by_rank = zip(*(places for places, _ in blocks))
    return [np.concatenate([own + s for own, s in zip(parts, starts)]) for parts in by_rank]


def keep_own_part(layer: Module, comm: Communicator, **cuts: Cut) -> None:
    """Leave of these parameters what this rank has of them; `layer.cuts` remembers how."""
    layer.comm, layer.cuts = comm, {k: c for k, c in cuts.items() if getattr(layer, k) is not None}
    for name, cut in layer.cuts.items():
        p = getattr(layer, name)
        setattr(layer, name, type(p)(cut.part(p.data, comm.rank)))


class ColumnParallelLinear(Linear):
    """A linear layer cut by its outputs: x (..., in_features), on all ranks, to this rank's part.

    The name is Megatron's, whose matrices are (in, out); here these are rows of weight (out, in).
    `rows` are those of each rank, else nearly equally many. It is made whole, as `Linear` is, and
    keeps its part: ranks must draw the same numbers. Raises ValueError for more ranks than outputs.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rng: np.random.Generator | None = None,
        *,
        comm: Communicator,
        rows: Sequence[np.ndarray] | None = None,
    ) -> None:
        rows = shares(out_features, comm.size, "outputs") if rows is None else rows
        super().__init__(in_features, out_features, bias, rng)
        keep_own_part(self, comm, weight=Cut(0, rows), bias=Cut(0, rows))
        self.out_features = len(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(copied(x, self.comm))


class RowParallelLinear(Linear):
    """A linear layer cut by its inputs: this rank's part of x to (..., out_features) on all ranks.

    Each rank multiplies its part, and the products are added up. The bias comes after the sum, else
    it would count once a rank; all have it, and as they get the same gradient it stays the same.
    `columns` are those of each rank. Raises ValueError for more ranks than inputs.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rng: np.random.Generator | None = None,
        *,
        comm: Communicator,
        columns: Sequence[np.ndarray] | None = None,
    ) -> None:
        columns = shares(in_features, comm.size, "inputs") if columns is None else columns
        super().__init__(in_features, out_features, bias, rng)
        keep_own_part(self, comm, weight=Cut(1, columns))
        self.in_features = self.weight.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        y = summed(linear_kernel(x, self.weight), self.comm)
        return y if self.bias is None else y + self.bias


class TensorParallelAttention(MultiheadAttention):
    """Attention cut by heads: (B, T, embed_dim), on all ranks, to the same.

    Heads that share keys and values stay together: a rank has whole groups, so there are at most as
    many ranks as `num_kv_heads` (ValueError). A mask may be for all heads, or for each of them.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        *,
        comm: Communicator,
        linear: Any = None,  # makes the output matrix elsewhere; here it is one that is cut
        **options: Any,
    ) -> None:
        refuse_dropout(dropout, comm)
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        groups = shares(kv_heads, comm.size, "heads of keys and values")
        heads = stretched(groups, num_heads // kv_heads)
        size = embed_dim // num_heads if head_dim is None else head_dim
        queries, keys = stretched(heads, size), stretched(groups, size)
        output = functools.partial(RowParallelLinear, comm=comm, columns=queries)
        super().__init__(
            embed_dim, num_heads, dropout, bias, kv_heads, head_dim, linear=output, **options
        )
        rows = stacked((queries, num_heads * size), (keys, kv_heads * size), (keys, 0))
        keep_own_part(self, comm, in_proj_weight=Cut(0, rows), in_proj_bias=Cut(0, rows))
        self.heads, self.all_heads = heads[comm.rank], num_heads
        self.num_heads, self.num_kv_heads = len(self.heads), len(groups[comm.rank])

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Any = None) -> Tensor:
        memory = None if memory is None else copied(memory, self.comm)
        return super().forward(copied(x, self.comm), memory, self.own(mask))

    def own(self, mask: np.ndarray | None) -> np.ndarray | None:
        """This rank's heads of a mask, if it has some for each."""
        if np.ndim(mask) < 3 or np.shape(mask)[-3] != self.all_heads:
            return mask
        return np.take(mask, self.heads, axis=-3)


class TensorParallelLayer(TransformerEncoderLayer):
    """A transformer's layer whose matrices are cut: (B, T, d_model), on all ranks, to the same.

    Norms and residual paths are the same on all ranks, and so are their gradients. A step adds up
    B T d_model numbers four times: attention and perceptron each their answers forward, and what
    they say about their input backward. Its names are those of the layer that it is a part of.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        *args: Any,
        comm: Communicator,
        linear: Any = None,  # makes the matrices elsewhere; here they are cut
        **options: Any,
    ) -> None:
        refuse_dropout(dropout, comm)
        hidden = shares(dim_feedforward, comm.size, "numbers of the hidden layer")
        both = [(hidden, dim_feedforward)] * (2 if activation == "swiglu" else 1)
        matrices = iter(  # in the order in which a layer makes them
            [
                functools.partial(ColumnParallelLinear, comm=comm, rows=stacked(*both)),
                functools.partial(RowParallelLinear, comm=comm, columns=hidden),
            ]
        )
        super().__init__(
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            *args,
            linear=lambda *sizes, **how: next(matrices)(*sizes, **how),
            attention=functools.partial(TensorParallelAttention, comm=comm),
            **options,
        )


def refuse_dropout(p: float, comm: Communicator) -> None:
    """ValueError where ranks would have to agree on what is dropped, and draw apart elsewhere."""
    if p and comm.size > 1:
        raise ValueError(f"layers that are cut among ranks have no dropout: it must be 0, not {p}")
