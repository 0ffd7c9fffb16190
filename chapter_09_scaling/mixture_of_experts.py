"""Mixture of experts: many perceptrons in the place of one, of which each token asks only a few.

What a model can know grows with its parameters, what it costs with those that a token passes. A
router, one small matrix, gives every token a probability for each expert. The token asks the
`top_k` likeliest, and their answers are added up, weighted by those probabilities. So E experts
hold E times as much as one, and a token costs as much as `top_k` of them.

Tokens are sorted by the expert that they ask, so that each expert works once, on rows that lie one
below the other, however many they are: none is dropped. The answers are sorted back.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np

from chapter_03_neural_nets import Module, ModuleList
from chapter_03_neural_nets.training import Loss, classification_loss
from chapter_05_gradient_mastery import Dropout, Linear, softmax
from chapter_07_attention import TransformerEncoderLayer
from chapter_07_attention.config import whole_number
from chapter_07_attention.layers import ACTIVATIONS
from utils import Tensor, kernel
from utils.promotion import plain


def dispatch_composed(x, order, top_k=1) -> Tensor:
    return x[plain(order) // top_k]


@kernel(composed=dispatch_composed)
def dispatch(x, order, top_k=1):
    """Each token as often as it asks experts, in their order: (N, C) to (N top_k, C).

    `order` (N top_k) is a permutation of all questions, of which token n has the numbers from
    n top_k up.
    """

    def backward(g, wanted):
        return (g[inverse(order)].reshape(len(x), top_k, x.shape[1]).sum(axis=1),)

    return x[order // top_k], backward


def combine_composed(y, gates, order) -> Tensor:
    tokens, top_k = gates.shape
    answers = np.reshape(y[inverse(plain(order))], (tokens, top_k, y.shape[1]))
    return np.sum(answers * np.reshape(gates, (tokens, top_k, 1)), axis=1)


@kernel(composed=combine_composed)
def combine(y, gates, order):
    """The way back: answers (N k, C) in `dispatch`'s order, weighted by gates (N, k): (N, C)."""
    tokens, top_k = gates.shape
    answers = y[inverse(order)].reshape(tokens, top_k, y.shape[1])

    def backward(g, wanted):
        found = [None, None]
        if wanted[0]:
            found[0] = (gates[:, :, None] * g[:, None]).reshape(y.shape)[order]
        if wanted[1]:
            found[1] = np.matmul(answers, g[:, :, None])[:, :, 0]
        return tuple(found)

    return np.matmul(gates[:, None], answers)[:, 0], backward


def inverse(order: np.ndarray) -> np.ndarray:
    """Where each element of a permutation has gone."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


class Expert(Module):
    """A perceptron, as chapter 7's layers have one: (N, d_model) to the same."""

    def __init__(
        self,
        d_model: int,
        dim_feedforward: int,
        dropout: float = 0.0,
        activation: str = "relu",
        bias: bool = True,
        linear: Callable[..., Module] = Linear,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        hidden = dim_feedforward * (2 if activation == "swiglu" else 1)
        self.linear1 = linear(d_model, hidden, bias=bias, rng=rng)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout, rng)
        self.linear2 = linear(dim_feedforward, d_model, bias=bias, rng=rng)

    forward = TransformerEncoderLayer.feed_forward  # its parts have the same names


class Routing(NamedTuple):
    """What a router decided: probabilities (N, experts), the experts asked (N, top_k), its loss."""

    probabilities: Tensor
    chosen: np.ndarray
    balance: Tensor


class MixtureOfExperts(Module):
    """A router and its experts: (..., d_model) to the same.

    The weights of a token's answers are the probabilities of the experts it asks, divided by their
    sum; with `top_k` 1 the probability itself, as the router would learn nothing from a weight of
    1. Equal logits ask the expert with the lower number. `own` are the experts that this process
    holds, by default all; `options` go to `Expert`. Raises ValueError for a `top_k` that is not
    from 1 to `experts`. Source: Shazeer et al., 2017, arXiv:1701.06538; Fedus et al., 2021,
    arXiv:2101.03961 (top_k 1); Jiang et al., 2024, arXiv:2401.04088 (more).
    """

    def __init__(
        self,
        d_model: int,
        dim_feedforward: int,
        experts: int = 8,
        top_k: int = 2,
        own: Sequence[int] | None = None,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        whole_number("experts", experts)
        if whole_number("top_k", top_k) > experts:
            raise ValueError(f"a token cannot ask {top_k} of {experts} experts: lower top_k")
        self.top_k = top_k
        self.router = Linear(d_model, experts, bias=False, rng=rng)
        self.experts = ModuleList()
        for i in range(experts) if own is None else own:  # its number is its name, wherever it is
            setattr(self.experts, str(i), Expert(d_model, dim_feedforward, rng=rng, **options))

    def forward(self, x: Tensor) -> Tensor:
        tokens = np.reshape(x, (-1, x.shape[-1]))
        logits = self.router(tokens)
        probabilities = softmax(logits)
        chosen = np.argsort(-logits.data, axis=1, kind="stable")[:, : self.top_k]
        gates = probabilities[np.arange(len(chosen))[:, None], chosen]
        if self.top_k > 1:
            gates = gates / np.sum(gates, axis=1, keepdims=True)
        order = np.argsort(chosen, axis=None, kind="stable")
        counts = np.bincount(chosen.ravel(), minlength=self.router.out_features)
        answers, totals = self.ask(dispatch(tokens, order, top_k=self.top_k), counts)
        if books.open:
            balance = balance_loss(probabilities, totals, self.top_k)
            books.open[-1].append(Routing(probabilities, chosen, balance))
        return np.reshape(combine(answers, gates, order), x.shape)

    def ask(self, rows: Tensor, counts: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """The answers to rows that lie by expert, and how many rows of all the batch each gets."""
        return self.run_experts(rows, counts), counts

    def run_experts(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Each expert of this process on its `counts` rows, which lie one below the other."""
        ends = np.cumsum(counts)
        pieces = (rows[end - n : end] for n, end in zip(counts, ends))
        return np.concatenate([expert(piece) for expert, piece in zip(self.experts, pieces)])

    def extra_repr(self) -> str:
        return f"top_k={self.top_k}"


class ExpertLayer(TransformerEncoderLayer):
    """Chapter 7's layer with a mixture in the place of the perceptron.

    `mixture` makes it. For GPT: layer=functools.partial(ExpertLayer, experts=8, top_k=2).
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
        bias: bool = True,
        linear: Callable[..., Module] = Linear,
        rng: np.random.Generator | None = None,
        experts: int = 8,
        top_k: int = 2,
        mixture: Callable[..., MixtureOfExperts] = MixtureOfExperts,
        **options: Any,
    ) -> None:
        shared = {"bias": bias, "linear": linear, "rng": rng}
        super().__init__(
            d_model, nhead, dim_feedforward, dropout, activation, norm_first, **shared, **options
        )
        self.linear1 = self.activation = self.linear2 = None  # every expert has its own
        self.mixture = mixture(
            d_model,
            dim_feedforward,
            experts,
            top_k,
            dropout=dropout,
            activation=activation,
            **shared,
        )

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.mixture(x)


def balance_loss(probabilities: Tensor, counts: np.ndarray, top_k: int = 1) -> Tensor:
    """experts * sum of f_i P_i: 1 where all experts are asked equally often, more where not.

    f_i is the share of all questions that expert i gets, by `counts`, a number without a gradient;
    P_i is its mean probability. Where `counts` are of a larger batch than `probabilities` (N,
    experts), this is the share of these tokens: shares add up to the loss of the whole.
    Source: Fedus et al., 2021, arXiv:2101.03961, equation 4.
    """
    questions = max(int(counts.sum()), 1)
    scale = len(counts) * top_k / questions**2  # there are questions / top_k tokens
    return np.sum(np.sum(probabilities, axis=0) * (counts * scale).astype(probabilities.dtype))


class _Books(threading.local):
    """Where this thread's routers note what they decide: the last of the lists that are open."""

    open: tuple[list[Routing], ...] = ()


books = _Books()


@contextlib.contextmanager
def recorded_routing() -> Iterator[list[Routing]]:
    """Inside the block, every mixture that this thread runs adds its `Routing` to a list."""
    before, found = books.open, []
    books.open = (*before, found)
    try:
        yield found
    finally:
        books.open = before


def with_balance(loss: Loss = classification_loss, weight: float = 1e-2) -> Loss:
    """A loss plus `weight` times the balance losses of all mixtures that the model runs.

    Raises ValueError where none runs, and RuntimeError where one runs inside an activation
    checkpoint, which would lose the gradient of its balance.
    """
    if not 0 <= weight < np.inf:
        raise ValueError(f"the weight of the balance is a number from 0 up, not {weight}")

    def balanced(model: Module, *batch: Any) -> Tensor:
        with recorded_routing() as found:
            value = loss(model, *batch)
        if not found:
            raise ValueError(f"{type(model).__name__} ran no mixture of experts to be balanced")
        balance = sum(routing.balance for routing in found)
        if value.requires_grad and not balance.requires_grad:
            raise RuntimeError("the balance has no gradient: mixtures in a checkpoint cannot be "
                               "balanced, checkpoint the attention alone")  # fmt: skip
        return value + weight * balance

    return balanced
