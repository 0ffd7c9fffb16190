"""Structured pruning: whole heads and whole hidden units go, and a smaller GPT is left.

Zeros scattered over a matrix save no time. A unit without which the network does as well can be cut
out: its row of one matrix, its column of the next. Imagine a factor xi before the output of each
unit and each head, all 1. How much the loss would change without one of them is, to first order,
|dL / dxi|. And that needs no xi: the output z enters the network as the product W z, so
dL / dxi = dL/dz . z is the sum of w dL/dw over its columns of W.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Iterable, NamedTuple, Sequence

import numpy as np

from chapter_03_neural_nets.evaluation import eval_mode
from chapter_05_gradient_mastery import cross_entropy
from chapter_07_attention import GPT, GPTConfig
from chapter_07_attention.config import whole_number
from utils import Tensor, grad


class Parts(NamedTuple):
    """Something about the parts of each layer, or the numbers of some: (heads,) and (hidden,)."""

    heads: list[np.ndarray]
    units: list[np.ndarray]


def text_loss(model: GPT, ids: Any, targets: Any) -> Tensor:
    return cross_entropy(model(ids), targets)


def importance(
    model: GPT, batches: Iterable[Sequence[np.ndarray]], loss: Callable[..., Tensor] = text_loss
) -> Parts:
    """The mean of |dL / dxi| over batches (ids, targets), for each head and each hidden unit.

    Where heads share keys and values, those that do are one part. Small batches tell more: what a
    part does for one text and against another does not cancel between batches. Sources: Michel,
    Levy, Neubig, 2019, arXiv:1905.10650; Molchanov et al., 2019, arXiv:1906.10771.
    """
    found = Parts([0.0] * model.config.n_layer, [0.0] * model.config.n_layer)
    count = 0
    weights = [w for layer in model.layers for w in (layer.self_attn.out_proj, layer.linear2)]
    with eval_mode(model):
        for batch in batches:
            gradients = grad(loss(model, *batch), [part.weight for part in weights])
            scores = [(w.weight.data * g.data).sum(axis=0) for w, g in zip(weights, gradients)]
            for i, (heads, units) in enumerate(zip(scores[::2], scores[1::2])):
                found.heads[i] += np.abs(heads.reshape(model.config.n_kv_head, -1).sum(axis=1))
                found.units[i] += np.abs(units)
            count += 1
    if count == 0:
        raise ValueError("importance needs at least one batch")
    return Parts([h / count for h in found.heads], [u / count for u in found.units])


def most_important(scores: Parts, heads: int, units: int) -> Parts:
    """The numbers of so many heads and units of each layer, in their order.

    Raises ValueError for more than there are.
    """
    for name, wanted, there in (("heads", heads, scores.heads), ("units", units, scores.units)):
        if whole_number(name, wanted) > len(there[0]):
            raise ValueError(f"{wanted} {name} cannot be kept of {len(there[0])}")
    return Parts(
        *([np.sort(np.argsort(-layer, kind="stable")[:wanted]) for layer in there]
          for wanted, there in ((heads, scores.heads), (units, scores.units)))
    )  # fmt: skip


def mask_(model: GPT, kept: Parts) -> GPT:
    """Silence all other heads and units, in place: their columns of what reads them become 0."""
    for layer, heads, units in zip(model.layers, *kept):
        for weight, columns in (
            (layer.self_attn.out_proj.weight, head_columns(model.config, heads)),
            (layer.linear2.weight, units),
        ):
            silent = np.ones(weight.shape[1], bool)
            silent[columns] = False
            weight.data[:, silent] = 0
    return model


def shrunk(model: GPT, kept: Parts) -> GPT:
    """A new GPT with these parts alone, whose logits are those of the model after `mask_`.

    Every layer keeps equally many. Raises ValueError where they do not, and for ALiBi, where what a
    head sees depends on its number.
    """
    config = model.config
    if config.positions == "alibi":
        raise ValueError("ALiBi's slopes go by the number of the head: none can be taken out")
    counts = {(len(heads), len(units)) for heads, units in zip(*kept)}
    if len(counts) != 1 or len(kept.heads) != config.n_layer:
        raise ValueError(f"{config.n_layer} layers keep equally many heads and units, at least one "
                         f"each, not {sorted(counts)}")  # fmt: skip
    ((heads, units),) = counts
    sizes = {"n_head": config.n_head // config.n_kv_head * heads, "n_kv_head": heads}
    small = GPT(replace(config, hidden=units, **sizes))
    state = dict(model.state_dict())
    for i, (heads, units) in enumerate(zip(*kept)):
        own = f"layers.{i}."
        queries, rows = head_columns(config, heads), projected_rows(config, heads)
        hidden = unit_rows(config, units)
        for name, cut in (
            ("self_attn.in_proj_weight", lambda w, rows=rows: w[rows]),
            ("self_attn.in_proj_bias", lambda b, rows=rows: b[rows]),
            ("self_attn.out_proj.weight", lambda w, columns=queries: w[:, columns]),
            ("linear1.weight", lambda w, rows=hidden: w[rows]),
            ("linear1.bias", lambda b, rows=hidden: b[rows]),
            ("linear2.weight", lambda w, columns=units: w[:, columns]),
        ):
            if own + name in state:
                state[own + name] = cut(state[own + name])
    small.load_state_dict(state)
    return small.train(model.training)


def head_columns(config: GPTConfig, heads: np.ndarray) -> np.ndarray:
    """Where the answers of heads, or of those that share keys, are in what `out_proj` reads."""
    size = config.n_head // config.n_kv_head * config.head_dim
    return (np.asarray(heads)[:, None] * size + np.arange(size)).ravel()


def projected_rows(config: GPTConfig, heads: np.ndarray) -> np.ndarray:
    """The rows of `in_proj` that make the queries, keys and values of heads."""
    queries, size = config.n_head * config.head_dim, config.head_dim
    shared = (np.asarray(heads)[:, None] * size + np.arange(size)).ravel()
    keys = queries + shared
    return np.concatenate([head_columns(config, heads), keys, keys + config.n_kv_head * size])


def unit_rows(config: GPTConfig, units: np.ndarray) -> np.ndarray:
    """The rows of `linear1` that make hidden units: two each for "swiglu"."""
    gated = config.activation == "swiglu"
    return np.concatenate([units, units + config.hidden]) if gated else np.asarray(units)
