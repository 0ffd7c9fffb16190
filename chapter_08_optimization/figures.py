"""Chapter 8's figures: the race by steps and by seconds, the rates that were tried, schedules."""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from chapter_03_neural_nets.figures import smoothed
from chapter_08_optimization.race import Run, best_of
from utils.plotting import line_style, new_figure, styled


@styled
def plot_race(runs: Mapping[str, Run], title: str) -> Figure:
    """The loss of the training batches by step, of each optimiser at its best rate."""
    return _losses(runs, title, "step", lambda run: np.arange(len(run.losses)))


@styled
def plot_race_in_seconds(runs: Mapping[str, Run], title: str) -> Figure:
    """The same by the seconds it took."""
    return _losses(runs, title, "seconds", lambda run: run.seconds)


def _losses(runs: Mapping[str, Run], title: str, label: str, places: Callable) -> Figure:
    figure, axes = new_figure(7.6, 4.6)
    finite = {name: run for name, run in runs.items() if np.isfinite(run.loss)}
    for i, (name, run) in enumerate(finite.items()):
        axes.plot(
            smoothed(places(run), 40)[1], smoothed(run.losses, 40)[1], label=name, **line_style(i)
        )
    axes.set_xlabel(label)
    axes.set_ylabel("loss of the batches (nats)")
    axes.set_title(title)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def plot_rates(sweeps: Mapping[str, Sequence[Run]], title: str) -> Figure:
    """The loss on what was not learnt from, by learning rate; the best of each is marked."""
    figure, axes = new_figure(7.6, 4.6)
    best = [best_of(runs).loss for runs in sweeps.values()]
    for i, (name, runs) in enumerate(sweeps.items()):
        finite = [run for run in runs if np.isfinite(run.loss)]
        style = line_style(i)
        axes.plot(
            [run.lr for run in finite], [run.loss for run in finite], "o", markersize=3, label=name,
            **style,
        )  # fmt: skip
        if finite:
            chosen = best_of(finite)
            axes.plot(chosen.lr, chosen.loss, "o", markersize=8, mfc="none", color=style["color"])
    axes.set_xscale("log")
    lowest, highest = min(best), max(b for b in best if np.isfinite(b))
    axes.set_ylim(
        lowest - 0.05 * (highest - lowest) - 0.01, highest + 0.7 * (highest - lowest) + 0.1
    )
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss (nats)")
    axes.set_title(title)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def plot_schedules(schedules: Mapping[str, Callable[[int], float]], steps: int) -> Figure:
    """The learning rate over a run, of several schedules."""
    figure, axes = new_figure()
    for i, (name, schedule) in enumerate(schedules.items()):
        axes.plot([schedule(step) for step in range(steps)], label=name, **line_style(i))
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    axes.set_title("Schedules")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
