"""Derivatives by trying it out: move the input a little and see how the output moves.

Nothing needs to be known about the function, which makes this the judge of every other method in
the book. It is also slow (two evaluations for each input) and never exact: a large step misses the
curvature, a small one drowns in rounding.
"""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np


def forward_difference(f: Callable[[float], float], x: float, h: float = 1e-8) -> float:
    """(f(x + h) - f(x)) / h, whose error is about h |f''(x)| / 2 + 2 eps |f(x)| / h."""
    return (f(x + h) - f(x)) / h


def central_difference(f: Callable[[float], float], x: float, h: float = 1e-5) -> float:
    """(f(x + h) - f(x - h)) / 2h, whose error is about h² |f'''(x)| / 6 + eps |f(x)| / h."""
    return (f(x + h) - f(x - h)) / (2 * h)


def numerical_gradient(f: Callable, point: Sequence[float], h: float = 1e-5) -> np.ndarray:
    """The central difference of `f(point)` by each number of `point`: an array of point's shape."""
    point = np.asarray(point, np.float64)
    gradient = np.empty_like(point)
    for index in np.ndindex(*point.shape):

        def along_one(value: float, index=index) -> float:
            moved = point.copy()
            moved[index] = value
            return float(f(moved))

        gradient[index] = central_difference(along_one, point[index], h)
    return gradient


def difference_errors(
    f: Callable[[float], float], derivative: float, x: float, steps: Sequence[float]
) -> dict[str, np.ndarray]:
    """How far each difference is from the true `derivative` at `x`, for every step in `steps`."""
    methods = {"forward": forward_difference, "central": central_difference}
    return {
        name: np.array([abs(method(f, x, h) - derivative) for h in steps])
        for name, method in methods.items()
    }
