"""A GPT cut among ranks: how it is made, loaded and saved, and how long its gradient is.

A rank has a part of every large matrix, and all of what is small. What is cut, the layers know
themselves (`cuts`), so whatever must treat parts otherwise than whole parameters asks them.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Mapping

import numpy as np

from chapter_03_neural_nets import Module
from chapter_04_training_dynamics.clipping import grad_norm, shorten
from chapter_07_attention import GPT, GPTConfig
from chapter_09_scaling.communicator import Communicator
from chapter_09_scaling.tensor_parallel_layers import (
    ColumnParallelLinear,
    Cut,
    TensorParallelLayer,
)
from chapter_09_scaling.vocab_parallel import VocabParallelEmbedding
from utils.seeding import own_generator


def tensor_parallel_gpt(
    config: GPTConfig,
    comm: Communicator,
    state: Mapping[str, np.ndarray] | None = None,
    vocabulary: bool = False,
    layer: Callable[..., Module] = TensorParallelLayer,
    rng: np.random.Generator | None = None,
) -> GPT:
    """This rank's part of a GPT: a `GPT` with the same names, whose layers are cut.

    It begins with rank 0's `state` of a whole model, by default that of GPT(config, rng=rng), of
    which each rank takes its part; a whole model exists on each rank for that moment. With
    `vocabulary` the first and last matrix are cut too: the model gives the logits of this rank's
    tokens only, for `vocab_parallel_cross_entropy`.
    Raises ValueError for dropout, and more ranks than heads of keys and values, hidden numbers, or
    tokens.
    """
    if state is None:
        state = GPT(config, rng=rng).state_dict()
    head = functools.partial(ColumnParallelLinear, comm=comm)
    options: dict[str, Any] = {"linear": head} if vocabulary else {}
    with own_generator(0):  # nobody's: all these numbers are replaced
        model = GPT(config, layer=functools.partial(layer, comm=comm), **options)
        if vocabulary:
            model.embedding = VocabParallelEmbedding(config.vocab_size, config.n_embd, comm=comm)
            if config.tied:
                model.head.weight = model.embedding.weight
    state = {name: comm.broadcast(np.asarray(array)) for name, array in state.items()}
    model.load_state_dict(shard_state(model, state, comm))
    return model


def cuts_of(model: Module) -> dict[str, Cut]:
    """How those parameters are cut of which this rank has a part, by name."""
    return {
        f"{path}.{name}" if path else name: cut
        for path, module in model.named_modules()
        for name, cut in getattr(module, "cuts", {}).items()
    }


def shard_state(
    model: Module, state: Mapping[str, np.ndarray], comm: Communicator
) -> dict[str, np.ndarray]:
    """This rank's part of a whole model's `state_dict`, to be loaded into a model that is cut."""
    cuts = cuts_of(model)
    return {
        name: cuts[name].part(np.asarray(array), comm.rank) if name in cuts else array
        for name, array in state.items()
    }


def gather_state(model: Module, comm: Communicator) -> dict[str, np.ndarray]:
    """The `state_dict` of the whole model, on every rank; all ranks must call it."""
    cuts = cuts_of(model)
    state = {}
    for name, own in model.state_dict().items():
        if name not in cuts:
            state[name] = own.copy()
            continue
        axis, places = cuts[name]
        parts = []
        for rank, theirs in enumerate(places):
            shape = (*own.shape[:axis], len(theirs), *own.shape[axis + 1 :])
            part = own if rank == comm.rank else np.empty(shape, own.dtype)
            parts.append(comm.broadcast(part, root=rank))
        state[name] = cuts[name].whole(parts)
    return state


def tensor_parallel_grad_norm(model: Module, comm: Communicator) -> float:
    """The length of the whole model's gradient: parts of all ranks, and once what all have."""
    names = cuts_of(model)
    cut, common = [], []
    for name, p in model.named_parameters():
        (cut if name in names else common).append(p)
    squares = comm.all_reduce(np.array(grad_norm(cut) ** 2))
    return float(np.sqrt(squares + grad_norm(common) ** 2))


def clip_tensor_parallel_grad_norm(model: Module, comm: Communicator, max_norm: float) -> float:
    """`clip_grad_norm` of the whole model, by the same factor on all ranks; returns the norm."""
    norm = tensor_parallel_grad_norm(model, comm)
    shorten([p.grad for p in model.parameters() if p.grad is not None], norm, max_norm)
    return norm
