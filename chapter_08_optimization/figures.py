"""Chapter 8's figures: the race by steps and by seconds, the rates that were tried, schedules."""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

import numpy as np

from chapter_03_neural_nets import History
from chapter_03_neural_nets.figures import smoothed
from chapter_08_optimization.landscape_figures import MARKS
from chapter_08_optimization.race import Run, best_of
from utils.plotting import Figure, line_style, new_figure, styled


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
    if finite:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def plot_rates(sweeps: Mapping[str, Sequence[Run]], title: str) -> Figure:
    """The loss on what was not learnt from, by learning rate; the best of each is marked."""
    figure, axes = new_figure(7.6, 4.6)
    best = [loss for loss in (best_of(runs).loss for runs in sweeps.values()) if np.isfinite(loss)]
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
    if best:  # what is far worse than the best of the last is left out
        span = max(best) - min(best)
        axes.set_ylim(min(best) - 0.05 * span - 0.01, max(best) + 0.7 * span + 0.1)
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


@styled
def plot_watched(histories: Mapping[str, History], title: str) -> Figure:
    """The loss on pictures that were not learnt from, by step; the legend is in the order of it."""
    figure, axes = new_figure(8.4, 4.8)
    ends = {name: history.evaluations[-1]["loss"] for name, history in histories.items()}
    for i, (name, history) in enumerate(histories.items()):
        steps, losses = ([e[key] for e in history.evaluations] for key in ("step", "loss"))
        # All others are compared with one.
        style = {**line_style(i), "linewidth": 2.8 if name == "nothing" else 1.5}
        mark = MARKS[(i + i // len(MARKS)) % len(MARKS)]
        axes.plot(steps, losses, **style, marker=mark, markersize=4, label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="step", ylabel="loss on other pictures (nats)", title=title)
    lines = {line.get_label(): line for line in axes.get_lines()}
    order = sorted(ends, key=lambda name: -ends[name])
    axes.legend([lines[name] for name in order], order, loc="center left",
                bbox_to_anchor=(1.01, 0.5), handlelength=3.2)  # fmt: skip
    return figure
