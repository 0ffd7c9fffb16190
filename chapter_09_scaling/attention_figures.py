"""Figures of long texts and of adapters: memory, time, and what is learnt and forgotten."""

from __future__ import annotations

from typing import Mapping, Sequence

from chapter_03_neural_nets import History
from chapter_03_neural_nets.figures import smoothed
from utils.plotting import Figure, line_style, new_figure, styled

MARKS = "os^Dv"


@styled
def plot_by_length(
    lengths: Sequence[int], values: Mapping[str, Sequence[float]], label: str, title: str
) -> Figure:
    """A line for each kind of attention over the length of the text, both axes logarithmic."""
    figure, axes = new_figure()
    for i, (name, line) in enumerate(values.items()):
        axes.plot(lengths, line, MARKS[i % len(MARKS)], markersize=5, label=name, **line_style(i))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(lengths)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,g}")
    axes.set_xlabel("length of the text (tokens)")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def plot_trainings(histories: Mapping[str, History], title: str) -> Figure:
    """The loss of the training batches of several models, smoothed."""
    figure, axes = new_figure()
    for i, (name, history) in enumerate(histories.items()):
        axes.plot(*smoothed(history.losses, 50), label=name, **line_style(i))
    axes.set_xlabel("step")
    axes.set_ylabel("loss of the batches (nats)")
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def plot_adaptations(
    evaluations: Mapping[str, Sequence[Mapping[str, float]]], names: tuple[str, str]
) -> Figure:
    """Two pictures, step by step: the loss on the new text, and on the one learnt before.

    Evaluations hold "step", "loss" (new) and "old"; `names` are those of the two texts.
    """
    figure, axes = new_figure(8.6, 3.8, 1, 2)
    for ax, key, kind, text in zip(axes, ("loss", "old"), ("New", "Old"), names):
        for i, (name, line) in enumerate(evaluations.items()):
            steps, losses = [e["step"] for e in line], [e[key] for e in line]
            ax.plot(steps, losses, MARKS[i % len(MARKS)], markersize=4, label=name, **line_style(i))
        ax.set_xlabel("step")
        ax.set_title(f"{kind}: {text}")
    axes[0].set_ylabel("loss of the validation part (nats)")
    axes[0].legend()
    return figure
