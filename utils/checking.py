"""Gradients against central differences: the check that every rule has to pass."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from utils.gradients import grad
from utils.promotion import plain
from utils.tensor import Tensor


def check_gradients(
    function: Callable[..., Any],
    inputs: Sequence,
    order: int = 1,
    tolerance: float = 1e-7,
    step: float = 1e-3,
    rng: np.random.Generator | None = None,
) -> float:
    """Compare the gradients of `function` with central differences in float64, element by element.

    `function` takes the inputs as Tensors (floats in float64) and returns a Tensor or several. With
    `order` 2, 3, ... the derivatives up to that order are checked, along random directions.
    Returns the largest error, relative to 1 + |derivative|, and raises AssertionError above
    `tolerance`, naming the argument and the element. The differences use five points, so that
    their error falls with the fourth power of `step` (Fornberg, 1988,
    doi:10.1090/S0025-5718-1988-0935077-0).
    """
    rng = rng or np.random.default_rng(0)
    arrays = [plain(x) for x in inputs]
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    places = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    if not places or order < 1:
        raise ValueError("check_gradients: nothing to check: give floats, and an order from 1 up")
    scalar = _weighted_sum(function, rng)
    worst = 0.0
    for level in range(1, order + 1):
        worst = max(worst, _check_once(scalar, arrays, places, level, tolerance, step))
        scalar = _directional_derivative(scalar, arrays, places, rng)
    return worst


def _check_once(scalar, arrays, places, level, tolerance, step) -> float:
    leaves = _leaves(arrays)
    exact = grad(scalar(*leaves), [leaves[i] for i in places])
    worst = 0.0
    for i, gradient in zip(places, exact):
        for index in np.ndindex(*arrays[i].shape):
            expected = _central_difference(scalar, arrays, i, index, step)
            found = gradient.data[index]
            error = float(abs(found - expected) / (1 + abs(expected)))
            if not error <= tolerance:
                raise AssertionError(
                    f"derivative {level} with respect to argument {i} at {list(index)}: backward "
                    f"gives {found:.10g}, central differences give {expected:.10g}"
                )
            worst = max(worst, error)
    return worst


def _leaves(arrays) -> list[Tensor]:
    return [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]


def _central_difference(scalar, arrays, i, index, step) -> float:
    def at(offset):
        moved = list(arrays)
        moved[i] = arrays[i].copy()
        moved[i][index] += offset
        return scalar(*_leaves(moved), create_graph=False).item()

    near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
    return (8 * near - far) / (12 * step)


def _weighted_sum(function, rng):
    """One number from all outputs, each element with a random weight, so that none cancels."""
    weights: list[np.ndarray] = []

    def scalar(*tensors, create_graph=True):
        outputs = function(*tensors)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        if not weights:
            weights.extend(rng.uniform(0.5, 1.5, y.shape) for y in outputs)
        return sum(np.sum(y * w) for y, w in zip(outputs, weights))

    return scalar


def _directional_derivative(scalar, arrays, places, rng):
    """The gradient of `scalar` along a random direction, itself a function of the inputs.

    Without `create_graph` the rules work on arrays (a kernel's by hand), with it on Tensors: the
    one's differences are held against the other's derivatives.
    """
    directions = [rng.uniform(0.5, 1.5, arrays[i].shape) for i in places]

    def derivative(*tensors, create_graph=True):
        inputs = [tensors[i] for i in places]
        gradients = grad(scalar(*tensors), inputs, create_graph=create_graph)
        return sum(np.sum(g * v) for g, v in zip(gradients, directions))

    return derivative
