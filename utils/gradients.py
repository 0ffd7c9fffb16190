"""Gradients as values: of any tensors for any others, and again of those gradients."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from utils.graph import Node, propagate
from utils.modes import recording
from utils.tensor import Tensor, seed, wrap


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    gradients: Any = None,
    create_graph: bool = False,
    retain_graph: bool = True,
) -> list[Tensor]:
    """The gradients of the outputs' sum, weighted by `gradients`, for each of the inputs.

    Inputs may lie anywhere in the graph; those that the outputs do not use get zeros. With
    `create_graph` the gradients are themselves differentiable. No `.grad` changes, so several
    threads may call this on the same leaves.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not isinstance(gradients, (list, tuple)):
        gradients = [gradients] * len(outputs)
    if len(gradients) != len(outputs):
        raise ValueError(f"grad: {len(outputs)} outputs, but {len(gradients)} gradients")
    for x in (*outputs, *inputs):
        if not isinstance(x, Tensor):
            raise TypeError(f"grad: outputs and inputs are Tensors, not {type(x).__name__}")
    for i, x in enumerate(inputs):
        if x.node is None:
            raise ValueError(f"grad: input {i}, of shape {x.shape}, does not require gradients")
    pending: dict[Node, Any] = {}
    for output, gradient in zip(outputs, gradients):
        if output.node is not None:
            g = seed(output, gradient)
            if create_graph:
                g = wrap(g, getattr(gradient, "node", None))
            seen = output.node in pending
            pending[output.node] = pending[output.node] + g if seen else g
    targets = {x.node for x in inputs}
    found: dict[Node, Any] = {}
    lift = wrap if create_graph else None
    with recording(), np.errstate(all="ignore"):
        for node, g, private in propagate(pending, targets, lift, retain_graph):
            if node in targets:
                found[node] = g if private or create_graph else np.array(g, order="C")
    results = [found[x.node] if x.node in found else np.zeros_like(x) for x in inputs]
    return [g if isinstance(g, Tensor) else wrap(np.asarray(g)) for g in results]
