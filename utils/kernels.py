"""Fused operations: a whole function and its gradient, written by hand as one node of the graph."""

from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np

from utils.gradients import grad
from utils.graph import Lift, Node
from utils.modes import mode
from utils.promotion import common_dtype, is_floating
from utils.tensor import Tensor, unwrap, wrap


def kernel(composed: Callable[..., Tensor]) -> Callable[[Callable], Callable]:
    """Register a function of arrays, with a gradient by hand, as an operation on Tensors.

    The decorated function takes arrays (and plain keywords) and returns its output and one
    function `backward(g, wanted)`. That is given the output's gradient and, for each argument,
    whether its gradient is wanted, and returns one gradient for each argument (None where not
    wanted; left out at the end, where arguments have none): an array of its own, `g`, or a view of
    `g`. Neither the output nor what `backward`
    uses may change between the two; `g` itself is read-only, as others hold it too.
    A graph that a backward builds and runs (activation checkpointing) must see its parameters as
    arguments: what it encloses gets its gradient in `.grad`, also under `grad`.

    `composed` is the same function of Tensors in operations that have rules. Tests hold the two
    equal; under `create_graph` it is what is differentiated, so derivatives of every order exist.

    >>> @kernel(composed=lambda x, y: x * y + x)
    ... def multiply_add(x, y):
    ...     def backward(g, wanted):
    ...         return g * (y + 1) if wanted[0] else None, g * x if wanted[1] else None
    ...     return x * y + x, backward
    """

    def register(function: Callable) -> Callable:
        operation = _Fused(function, composed)

        @functools.wraps(function)
        def call(*args, **keywords):
            return operation(args, keywords)

        call.composed = composed
        return call

    return register


class _Fused:
    """The operation behind a kernel's nodes, which save (backward, the arguments' arrays)."""

    def __init__(self, function: Callable, composed: Callable) -> None:
        self.function, self.composed, self.name = function, composed, function.__name__

    def __call__(self, args: tuple, keywords: dict[str, Any]) -> Any:
        nested = [x for x in args if isinstance(x, (list, tuple, dict))]
        if _any_tensor([*keywords.values(), *nested]):
            raise TypeError(f"{self.name}: Tensors are given by position, each on its own")
        arrays = _alike(args)
        y, backward = self.function(*arrays, **keywords)
        if not any(isinstance(x, Tensor) for x in args):
            return y
        y, node_class = np.asarray(y), mode.node_class
        if node_class not in (Node, None):
            node_class.inspect(self.name, [a for a in arrays if isinstance(a, np.ndarray)], y)
        parents = tuple([x.node if isinstance(x, Tensor) else None for x in args])
        if node_class is None or not any(parent is not None for parent in parents):
            return wrap(y)
        return wrap(y, node_class(self, parents, (backward, arrays), keywords, y.shape, y.dtype))

    def gradients(self, node: Node, g: Any, wanted: set, lift: Lift | None) -> list:
        flags = tuple([parent in wanted for parent in node.parents])
        by_hand = self._by_hand if lift is None else self._by_composition
        found = by_hand(node, g, flags, lift)
        return [(parent, dx) for parent, dx, flag in zip(node.parents, found, flags) if flag]

    def _by_hand(self, node, g, flags, lift):
        backward, arrays = node.saved
        g = np.asarray(g).view()
        g.flags.writeable = False
        found = backward(g, flags)
        if not isinstance(found, tuple) or len(found) > len(arrays):
            raise TypeError(f"the backward of {self.name} must return a tuple of {len(arrays)}")
        found += (None,) * (len(arrays) - len(found))
        for i, (dx, parent, flag) in enumerate(zip(found, node.parents, flags)):
            if flag and not _fits(dx, parent.shape):
                given = "no gradient" if dx is None else f"a gradient of shape {np.shape(dx)}"
                raise ValueError(
                    f"the backward of {self.name} returned {given} for argument {i}, "
                    f"which has shape {parent.shape}"
                )
        found = [dx if _first(found, i) else np.array(dx) for i, dx in enumerate(found)]
        # As in broadcasting, axes that are missing in front are there, of length 1.
        return [
            (
                dx[(None,) * (len(parent.shape) - dx.ndim)]
                if flag and dx.ndim < len(parent.shape)
                else dx
            )
            for dx, parent, flag in zip(found, node.parents, flags)
        ]

    def _by_composition(self, node, g, flags, lift):
        """Differentiate the composed form at copies of the arguments, so that it stops there.

        Arguments whose gradient is not wanted now stay linked: a later derivative may want them.
        """
        _, arrays = node.saved
        inputs = [
            np.positive(lift(a, parent)) if parent is not None or is_floating(a) else a
            for a, parent in zip(arrays, node.parents)
        ]
        y = self.composed(*inputs, **node.keywords)
        wanted = [x for x, flag in zip(inputs, flags) if flag]
        found = iter(grad(y, wanted, g, create_graph=True))
        return [next(found) if flag else None for flag in flags]


def _alike(args: tuple) -> tuple:
    """The arguments as arrays, floating ones of one dtype, by the engine's rule for operations."""
    arrays = unwrap(args)
    floating = [is_floating(a) for a in arrays]
    if len({a.dtype for a, is_float in zip(arrays, floating) if is_float}) > 1:
        dtype = common_dtype([a for a, is_float in zip(args, floating) if is_float])
        arrays = tuple(
            a.astype(dtype, copy=False) if is_float else a for a, is_float in zip(arrays, floating)
        )
    return arrays


def _any_tensor(x: Any) -> bool:
    if isinstance(x, (list, tuple, dict)):
        return any(map(_any_tensor, x.values() if isinstance(x, dict) else x))
    return isinstance(x, Tensor)


def _fits(gradient: Any, shape: tuple) -> bool:
    """Whether an argument of this shape may have been broadcast to the gradient's."""
    if gradient is None:
        return False
    given = (1,) * (len(shape) - np.ndim(gradient)) + np.shape(gradient)
    return all(n in (1, m) for n, m in zip(shape, given[len(given) - len(shape) :]))


def _first(found: tuple, i: int) -> bool:
    """Whether the memory of a kernel's gradient is not that of an earlier argument's already."""
    memories = [dx if getattr(dx, "base", None) is None else dx.base for dx in found[: i + 1]]
    return memories[i] is None or not any(memories[i] is earlier for earlier in memories[:i])
