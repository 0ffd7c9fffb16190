"""Chapter 3's figures: how training went, what is confused with what, and what was learnt."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from chapter_03_neural_nets.training import History
from chapter_03_neural_nets.variance import Variances
from utils.plotting import COLOURS, DASHES, DIVERGING, Figure, heat_map, new_figure, styled


def smoothed(values: Sequence[float], points: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal runs of values, and the steps at the middle of each run."""
    window = max(len(values) // points, 1)
    usable = len(values) // window * window
    means = np.reshape(values[:usable], (-1, window)).mean(axis=1)
    return window * (np.arange(len(means)) + 0.5), means


@styled
def plot_history(history: History, metric: str = "loss", title: str = "Training") -> Figure:
    """The loss of the training batches, smoothed, and the evaluations beside it."""
    figure, axes = new_figure()
    axes.plot(*smoothed(history.losses), color=COLOURS[0], label="training batches")
    if history.evaluations:
        steps = [evaluation["step"] for evaluation in history.evaluations]
        values = [evaluation[metric] for evaluation in history.evaluations]
        axes.plot(steps, values, "o--", color=COLOURS[1], markersize=4, label="validation")
    axes.set_xlabel("step")
    axes.set_ylabel(f"{metric} (nats)" if metric == "loss" else metric)
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def plot_confusion_matrix(counts: np.ndarray, labels: Sequence[str]) -> Figure:
    """How often each class (row) was taken for each other (column); the diagonal is blank."""
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    side = max(4.0, 0.34 * len(labels) + 1)
    figure, axes = new_figure(side * 1.15, side)
    image = heat_map(axes, mistakes, labels, labels, vmin=0)
    if len(labels) <= 20:
        for i, j in zip(*np.nonzero(mistakes)):
            dark = mistakes[i, j] > 0.6 * mistakes.max()
            colour = "white" if dark else "#222222"
            axes.text(j, i, mistakes[i, j], ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, label="times", shrink=0.8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    right = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(f"The mistakes ({right:.1%} right)")
    return figure


@styled
def plot_images(images: np.ndarray, titles: Sequence[str] = (), columns: int = 8) -> Figure:
    """Small pictures (N, height, width) in a grid, each with its title if there is one."""
    if len(images) == 0:
        raise ValueError("there are no images to draw")
    rows = -(-len(images) // columns)
    figure, axes = new_figure(
        columns, rows * (1.25 if titles else 1.0), rows, columns, squeeze=False
    )
    signed = images.min() < 0
    for i, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if i < len(images):
            limit = np.abs(images[i]).max()
            colours = DIVERGING if signed else "Greys"
            ax.imshow(images[i], cmap=colours, vmin=-limit if signed else 0, vmax=limit)
            if i < len(titles):
                ax.set_title(titles[i], fontsize=9, fontweight="normal")
    return figure


@styled
def plot_variances(schemes: Mapping[str, Variances], title: str = "") -> Figure:
    """The variance of activations and of gradients after every layer, for each scheme.

    The axis holds the schemes that stay within 20 powers of ten; others leave the picture.
    """
    figure, axes = new_figure(9.6, 4.0, 1, 2, sharex=True)
    for ax, what in zip(axes, ("activations", "gradients")):
        ax.set_yscale("log")
        shown: list[float] = [1.0]
        for i, (name, variances) in enumerate(schemes.items()):
            values = np.array(getattr(variances, what))
            drawn = np.where(np.isfinite(values) & (values > 0), values, np.nan)
            colour, dash = COLOURS[i % len(COLOURS)], DASHES[(i + i // len(COLOURS)) % len(DASHES)]
            depth = 1 + np.arange(len(values))
            ax.plot(depth, np.clip(drawn, 1e-99, 1e99), color=colour, linestyle=dash, label=name)
            if np.all((values > 1e-20) & (values < 1e20)):
                shown += values.tolist()
        ax.set_ylim(min(shown) / 100, max(shown) * 100)
        ax.set_xlabel("layer")
        ax.set_title(f"{what}{title}")
    axes[0].set_ylabel("variance")
    axes[0].legend(fontsize=8)
    return figure
