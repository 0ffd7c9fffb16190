"""The simulator's figures: where a step's time goes, what fills the memory, and how right it is."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from chapter_09_scaling.simulator import Report
from utils.plotting import COLOURS, Figure, new_figure, styled

# One a part: neighbours differ in lightness and in pattern, also in grey.
FILLS = ("#12355b", "#b9cbe0", "#3a9d8f", "#f2d27a", "#e4572e", "#cfcfcf", "#6b4a78")
HATCHES = ("", "///", "", "\\\\\\", "", "...", "")


@styled
def plot_step_parts(reports: Mapping[str, Report]) -> Figure:
    """The parts of each model's step in per cent, and the share of the peak that is useful."""
    shares = {
        name: {part: 100 * seconds / report.seconds for part, seconds in report.parts.items()}
        for name, report in reports.items()
    }
    figure, axes = _stacked(shares)
    for i, report in enumerate(reports.values()):
        axes.text(101, i, f"{report.utilization:.0%} of peak", va="center")
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of a step (%)")
    return figure


@styled
def plot_memory(reports: Mapping[str, Report]) -> Figure:
    """What fills the memory of the fullest GPU, and where it ends."""
    held = {
        name: {part: size / 1e9 for part, size in report.memory.items()}
        for name, report in reports.items()
    }
    figure, axes = _stacked(held)
    for size in {report.cluster.usable_memory * report.cluster.memory_bytes / 1e9
                 for report in reports.values()}:  # fmt: skip
        axes.axvline(size, color="black", linestyle="--", linewidth=1.2)
        axes.text(size, -0.62, "usable ", ha="right", va="center")
    axes.set_xlabel("memory of the fullest GPU (GB)")
    return figure


@styled
def plot_predictions(names: Sequence[str], predicted: Sequence[float], published: Sequence[float]):
    """FLOP/s a GPU as simulated and as published; the band is 10 % to either side."""
    figure, axes = new_figure(6.8, 4.2)
    places = np.arange(len(names))
    published, predicted = np.asarray(published) / 1e12, np.asarray(predicted) / 1e12
    axes.fill_between(places, 0.9 * published, 1.1 * published, color="#e3e3e3", linewidth=0)
    axes.plot(places, published, "o-", color=COLOURS[0], label="published")
    axes.plot(places, predicted, "s--", color=COLOURS[1], mfc="white", label="simulated")
    axes.set_xticks(places)
    axes.set_xticklabels(names)
    axes.set_ylim(0, 1.25 * max(published.max(), predicted.max()))
    axes.set_xlabel("parameters (billions)")
    axes.set_ylabel("TFLOP/s a GPU")
    axes.legend(loc="lower right")
    return figure


def _stacked(bars: Mapping[str, Mapping[str, float]]) -> tuple:
    """A horizontal bar for each name, made of the same parts, the first name on top."""
    figure, axes = new_figure(8.2, 1.9 + 0.42 * len(bars))
    names, left = list(bars), np.zeros(len(bars))
    for i, part in enumerate(next(iter(bars.values()))):
        sizes = np.array([bars[name][part] for name in names])
        axes.barh(names, sizes, left=left, height=0.66, label=part, color=FILLS[i],
                  hatch=HATCHES[i], edgecolor="white", linewidth=0.6)  # fmt: skip
        left += sizes
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=4 if i > 4 else 5
    )
    return figure, axes
