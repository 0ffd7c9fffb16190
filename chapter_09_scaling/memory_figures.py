"""Figures of memory saved: what a step needs by each method, and training on 16-bit numbers."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from chapter_03_neural_nets.figures import smoothed
from utils.plotting import COLOURS, Figure, line_style, new_figure, styled


@styled
def plot_memory(
    most: Mapping[str, float],
    kept: Mapping[str, float],
    predicted: Mapping[str, float],
    title: str,
) -> Figure:
    """MiB by method: the most of a step, and of that the activations, with their prediction."""
    figure, axes = new_figure(8.2, 0.5 * len(most) + 1.2)
    places = np.arange(len(most))
    axes.barh(
        places, list(most.values()), 0.66, color=COLOURS[5], alpha=0.45, label="most of a step"
    )
    axes.barh(places, list(kept.values()), 0.4, color=COLOURS[0], label="activations")
    style = {"color": COLOURS[4], "markeredgecolor": "black", "linestyle": "none"}
    axes.plot(list(predicted.values()), places, "D", markersize=7, label="by formula", **style)
    axes.set_yticks(places)
    axes.set_yticklabels(list(most))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("MiB")
    axes.set_title(title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


@styled
def plot_trainings(
    losses: Mapping[str, Sequence[float]], scales: Sequence[float], title: str
) -> Figure:
    """The loss of every training by step; below it the scale that one of them found."""
    figure, (above, below) = new_figure(
        7.2, 5.4, rows=2, sharex=True, gridspec_kw={"height_ratios": [3, 1]}
    )
    for i, (name, values) in enumerate(losses.items()):
        steps, mean = smoothed(values, 30)
        above.plot(steps, mean, label=name, **line_style(i))
    above.set_ylabel("loss of the batches (nats)")
    above.set_title(title)
    above.legend()
    below.step(range(1, len(scales) + 1), scales, where="mid", color=COLOURS[2])
    below.set_yscale("log", base=2)
    below.set_ylabel("loss scale")
    below.set_xlabel("step")
    return figure
