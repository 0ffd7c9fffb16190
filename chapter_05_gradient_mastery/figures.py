"""Chapter 5's figures: how far hand and engine are apart, and what fusing brings."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from utils.plotting import COLOURS, Figure, new_figure, styled


@styled
def plot_differences(differences: Mapping[str, float]) -> Figure:
    """The largest difference between hand and autodiff for every gradient, on the way back."""
    names = list(differences)
    figure, axes = new_figure(6.4, 0.24 * len(names) + 1.2)
    floor = 1e-19  # a bar for those that agree to the last bit
    values = np.nan_to_num(list(differences.values()), nan=1e9, posinf=1e9)
    axes.barh(names, np.clip(values, floor, 1e9), color=COLOURS[0])
    axes.axvline(1e-12, color=COLOURS[1], linestyle="--", label="1e-12")
    axes.set_xscale("log")
    axes.set_xlim(floor, max(10 * np.max(values, initial=0), 1e-11))
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("largest absolute difference from autodiff (float64)")
    axes.set_title("Every gradient of the network by hand")
    axes.legend(loc="lower right")
    return figure


@styled
def plot_two_trainings(by_hand: Sequence[float], by_engine: Sequence[float]) -> Figure:
    """The two loss curves, one over the other, and their distance."""
    figure, (top, bottom) = new_figure(6.4, 5.0, 2, 1, sharex=True)
    top.plot(by_engine, color=COLOURS[4], linestyle="-", linewidth=4, alpha=0.5, label="autodiff")
    top.plot(by_hand, color=COLOURS[0], linestyle="-", linewidth=0.8, label="by hand")
    top.set_ylabel("loss (nats)")
    top.set_title("The same training, with autodiff and without")
    top.legend()
    distance = np.abs(np.subtract(by_hand, by_engine))
    bottom.semilogy(np.where(distance > 0, distance, np.nan), ".", markersize=2, color=COLOURS[1])
    bottom.set_ylabel("distance")
    bottom.set_xlabel("step")
    return figure


@styled
def plot_speedups(found: Mapping[str, tuple[float, float]]) -> Figure:
    """How many times faster each kernel is than its composed form and than PyTorch."""
    names, places = list(found), np.arange(len(found))
    figure, axes = new_figure(6.8, 0.42 * len(names) + 1.2)
    for offset, column, colour, label in (
        (-0.2, 0, COLOURS[0], "than the composed form"),
        (0.2, 1, COLOURS[4], "than PyTorch"),
    ):
        values = [pair[column] for pair in found.values()]
        axes.barh(places + offset, values, 0.38, color=colour, label=label)
    axes.axvline(1, color="#444444", linewidth=1, linestyle="-")
    axes.set_xscale("log")
    axes.set_xticks([0.25, 0.5, 1, 2, 4, 8])
    axes.set_xticklabels(["1/4", "1/2", "1", "2", "4", "8"])
    axes.minorticks_off()
    axes.set_yticks(places)
    axes.set_yticklabels(names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("times as fast")
    axes.set_title("Kernels, forward and backward: how many times faster")
    axes.legend(loc="lower right")
    return figure
