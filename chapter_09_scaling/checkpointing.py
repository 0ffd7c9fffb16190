"""Activation checkpointing: forget what a layer computed, and compute it again when it is needed.

The backward pass needs what the forward pass made, so memory grows with the depth of a network. A
checkpoint keeps only what went into a part of it. When the gradient arrives there, the part runs a
second time, now with a graph, which is walked at once and dropped. For one more forward pass, the
inside of one part exists at a time.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from typing import Any, Callable, Iterable, Iterator

import numpy as np

from chapter_03_neural_nets import Module
from chapter_04_training_dynamics import BatchNorm1d, BatchNorm2d
from utils import Tensor, grad
from utils.graph import Leaf, Lift, Node, consumers_first
from utils.modes import mode, record_with
from utils.seeding import generator, generator_state, own_generator, set_generator_state
from utils.tensor import wrap


def checkpoint(
    function: Callable[..., Tensor],
    *inputs: Any,
    parameters: Iterable[Tensor] = (),
    generators: Iterable[np.random.Generator] = (),
) -> Tensor:
    """function(*inputs), one Tensor, of which only the inputs are kept; backward runs it again.

    Inputs are Tensors, each on its own, or anything else. `parameters` are all other leaves that
    the function uses, read afresh in the second run; `generators` are those that it draws from
    besides the default one. Both runs draw the same numbers, and those that would be drawn without
    a checkpoint. Second derivatives go through the function itself.
    Raises RuntimeError in backward where the function uses a leaf that is not given.
    Source: Chen et al., 2016, arXiv:1604.06174.
    """
    parameters = tuple(dict.fromkeys(parameters))  # each once, else its gradient would double
    node_class = mode.node_class
    parents = tuple(getattr(x, "node", None) for x in (*inputs, *parameters))
    for p in parameters:
        if p.node is not None and not isinstance(p.node, Leaf):
            raise ValueError(f"checkpoint: a parameter is a leaf, and this Tensor of {p.shape} is "
                             "computed: make it an input")  # fmt: skip
    if node_class is None or not any(parents):
        return function(*inputs)
    arrays = tuple(x.array if isinstance(x, Tensor) else x for x in inputs)
    are_tensors = tuple(isinstance(x, Tensor) for x in inputs)
    draws = Draws(generators)
    with record_with(None if node_class is Node else node_class):  # who watches sees it all
        y = function(*(wrap(a) if is_tensor else a for a, is_tensor in zip(arrays, are_tensors)))
    if not isinstance(y, Tensor):
        raise TypeError(f"checkpoint: the function must return one Tensor, not {type(y).__name__}")
    saved = function, arrays, are_tensors, parameters, draws
    return wrap(y.array, node_class(AGAIN, parents, saved, {}, y.shape, y.dtype))


class RunAgain:
    """The operation of a checkpoint's node: its gradients are found by a second run.

    Not a kernel: a kernel's node keeps the arrays of all its arguments, and the parameters' may be
    freed, or replaced, before the second run asks for them.
    """

    name = "checkpoint"

    def gradients(
        self, node: Node, g: Any, wanted: set[Node], lift: Lift | None
    ) -> list[tuple[Node, Any]]:
        if not any(parent in wanted for parent in node.parents):
            return []
        function, arrays, are_tensors, parameters, draws = node.saved
        inputs = []
        for a, is_tensor, parent in zip(arrays, are_tensors, node.parents):
            if is_tensor and lift is not None:
                a = np.positive(lift(a, parent))  # a copy, so that its gradient stops there
            elif is_tensor:
                a = Tensor(a, requires_grad=parent in wanted)
            inputs.append(a)
        with draws.again():
            y = function(*inputs)
        arguments = (*inputs, *parameters)
        if lift is None:
            check_closed(y, arguments)
        pairs = [(x, parent) for x, parent in zip(arguments, node.parents) if parent in wanted]
        sources, parents = zip(*pairs)
        again = lift is not None  # then the gradients are differentiated once more
        found = grad(y, sources, g, create_graph=again, retain_graph=again)
        return list(zip(parents, found if again else [dx.array for dx in found]))


AGAIN = RunAgain()


def check_closed(y: Tensor, given: Iterable[Any]) -> None:
    """RuntimeError where `y` was computed from a leaf that is not among the given ones."""
    known = {getattr(x, "node", None) for x in given}
    for node in consumers_first([y.node] if y.node is not None else []):
        if isinstance(node, Leaf) and node not in known:
            raise RuntimeError(
                f"checkpoint: the function uses a leaf of shape {node.shape} whose gradient would "
                "be lost: give it in parameters=, or as an input"
            )


class Draws:
    """Where the default generator and others stand, to draw the same numbers again."""

    def __init__(self, generators: Iterable[np.random.Generator] = ()) -> None:
        self.default = copy.deepcopy(generator())
        self.others = [(rng, generator_state(rng)) for rng in generators]

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Inside the block they stand there once more; afterwards where they stood before it."""
        now = [generator_state(rng) for rng, _ in self.others]
        try:
            for rng, state in self.others:
                set_generator_state(state, rng)
            # The default one may be in use by other threads: this one gets a copy of its own.
            with own_generator(copy.deepcopy(self.default)):
                yield
        finally:
            for (rng, _), state in zip(self.others, now):
                set_generator_state(state, rng)


def checkpointed(layer: type[Module]) -> type[Module]:
    """A layer class that remembers of each call only its inputs; all else is that of `layer`.

    GPT(config, layer=checkpointed(TransformerEncoderLayer)) has the same parameters and names.
    Hooks inside the layer see both runs, and backward hooks inside it are not called.
    Raises ValueError for batch normalisation in training, whose statistics would count twice.
    """

    class Checkpointed(layer):
        def forward(self, *inputs: Any, **options: Any) -> Tensor:
            for name, value in options.items():
                if isinstance(value, Tensor):
                    raise TypeError(f"give {name} by position: a checkpoint takes Tensors so")
            own = {}
            for name, part in self.named_modules():
                if part.training and isinstance(part, (BatchNorm1d, BatchNorm2d)):
                    raise ValueError(f"{name} would count each batch twice in its statistics")
                rng = getattr(part, "rng", None)
                if rng is not None:
                    own[id(rng)] = rng
            run = functools.partial(super().forward, **options)
            return checkpoint(run, *inputs, parameters=self.parameters(), generators=own.values())

    Checkpointed.__name__ = Checkpointed.__qualname__ = f"Checkpointed{layer.__name__}"
    return Checkpointed
