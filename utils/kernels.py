"""Fused operations: a whole function and its gradient, written by hand as one node of the graph."""

from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np

from utils.gradients import grad
from utils.graph import Lift, Node
from utils.modes import mode
from utils.promotion import common_dtype, is_floating
from utils.tensor import Tensor, wrap

PLAIN = {np.ndarray, type(None), bool, int, float, str, slice}  # types that hide no Tensor


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
        arrays, parents, tensors = [], [], 0
        for x in args:
            traced = isinstance(x, Tensor)
            tensors += traced
            arrays.append(x.array if traced else x)
            parents.append(x.node if traced else None)
        if not PLAIN.issuperset(map(type, (*arrays, *keywords.values()))) and (
            _any_tensor(keywords) or any(map(_hides_tensor, arrays))
        ):
            raise TypeError(f"{self.name}: Tensors are given by position, each on its own")
        arrays = _alike(arrays, args)
        y, backward = self.function(*arrays, **keywords)
        if tensors == 0:
            return y
        y, node_class = np.asarray(y), mode.node_class
        if node_class is not Node and node_class is not None:
            node_class.inspect(self.name, [a for a in arrays if isinstance(a, np.ndarray)], y)
        if node_class is None or parents.count(None) == len(parents):
            return wrap(y)
        saved = backward, arrays
        return wrap(y, node_class(self, tuple(parents), saved, keywords, y.shape, y.dtype))

    def gradients(self, node: Node, g: Any, wanted: set, lift: Lift | None) -> list:
        flags = tuple([parent in wanted for parent in node.parents])
        if lift is not None:
            found = self._by_composition(node, g, flags, lift)
            return [(parent, dx) for parent, dx, flag in zip(node.parents, found, flags) if flag]
        return self._by_hand(node, g, flags)

    def _by_hand(self, node: Node, g: Any, flags: tuple) -> list:
        """What `backward` finds for each wanted parent, in its shape and in memory of its own."""
        backward, arrays = node.saved
        g = np.asarray(g).view()
        g.flags.writeable = False
        found = backward(g, flags)
        if not isinstance(found, tuple) or len(found) > len(arrays):
            raise TypeError(f"the backward of {self.name} must return a tuple of {len(arrays)}")
        pairs, seen = [], set()
        for i, parent in enumerate(node.parents):
            if not flags[i]:
                continue
            dx = found[i] if i < len(found) else None
            if dx is None or dx.shape != parent.shape:
                dx = self._fit(dx, parent.shape, i)
            memory = id(dx if dx.base is None else dx.base)
            pairs.append((parent, np.array(dx) if memory in seen else dx))
            seen.add(memory)
        return pairs

    def _fit(self, dx: Any, shape: tuple, i: int) -> np.ndarray:
        """A gradient of another shape than its argument's, which must have been broadcast."""
        given = "no gradient" if dx is None else f"a gradient of shape {np.shape(dx)}"
        if dx is not None and dx.ndim < len(shape):  # as if axes of length 1 were in front
            dx = dx[(None,) * (len(shape) - dx.ndim)]
        if dx is None or any(n not in (1, m) for n, m in zip(shape[::-1], dx.shape[::-1])):
            raise ValueError(
                f"the backward of {self.name} returned {given} for argument {i}, "
                f"which has shape {shape}"
            )
        return dx

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


def _alike(arrays: list, args: tuple) -> list:
    """The arrays with floating ones of one dtype, by the engine's rule for operations."""
    first = None
    for a in arrays:
        if isinstance(a, np.ndarray) and a.dtype is not first and a.dtype.kind == "f":
            if first is not None and a.dtype != first:
                break
            first = a.dtype
    else:
        return arrays
    dtype = common_dtype([x for x in args if is_floating(x)])
    return [a.astype(dtype, copy=False) if is_floating(a) else a for a in arrays]


def _hides_tensor(x: Any) -> bool:
    return isinstance(x, (list, tuple, dict)) and _any_tensor(x)


def _any_tensor(x: Any) -> bool:
    if isinstance(x, (list, tuple, dict)):
        return any(map(_any_tensor, x.values() if isinstance(x, dict) else x))
    return isinstance(x, Tensor)
