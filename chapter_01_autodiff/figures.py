"""Chapter 1's figures: the error of numerical differences, and what a classifier has learnt."""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

import numpy as np

from utils.plotting import COLOURS, DIVERGING, Figure, new_figure, styled


@styled
def plot_difference_errors(steps: Sequence[float], errors: Mapping[str, np.ndarray]) -> Figure:
    """The error of each kind of difference against its step, both logarithmic."""
    figure, axes = new_figure()
    for name, error in errors.items():
        axes.loglog(steps, np.maximum(error, 1e-17), label=f"{name} difference")
    axes.invert_xaxis()
    axes.set_xlabel("step h (smaller to the right)")
    axes.set_ylabel("error of the derivative")
    axes.set_title("Large steps miss the curve, small steps drown in rounding")
    axes.legend()
    return figure


@styled
def plot_decision_boundary(
    score: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    labels: np.ndarray,
    resolution: int = 40,
) -> Figure:
    """The plane coloured by `score(points)`, its zero line, and the points with their labels."""
    figure, axes = new_figure(5.6, 4.4)
    low, high = points.min(axis=0) - 0.4, points.max(axis=0) + 0.4
    x, y = (np.linspace(low[i], high[i], resolution) for i in range(2))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    values = score(grid).reshape(resolution, resolution)
    values = np.clip(np.nan_to_num(values), -1e30, 1e30)
    limit = np.abs(values).max() or 1.0
    filled = axes.contourf(x, y, values, 20, cmap=DIVERGING, vmin=-limit, vmax=limit, alpha=0.7)
    if values.min() < 0 < values.max():
        axes.contour(x, y, values, [0.0], colors="black", linewidths=1.5)
    for label, marker, colour in ((-1, "o", COLOURS[0]), (1, "^", COLOURS[1])):
        chosen = points[labels == label]
        style = {"marker": marker, "color": colour, "edgecolors": "white", "s": 38}
        axes.scatter(chosen[:, 0], chosen[:, 1], label=f"label {label}", **style)
    figure.colorbar(filled, ax=axes, label="the network's output")
    axes.legend(loc="upper right", frameon=True)
    axes.set_xlabel("x₁")
    axes.set_ylabel("x₂")
    axes.set_title("On the black line the output is 0")
    return figure
