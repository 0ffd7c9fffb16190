"""Figures of scaling laws: loss against compute, the best size for a budget, and the prediction."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from chapter_09_scaling.power_law import PowerLaw, compute_optimal
from chapter_09_scaling.small_models import Run
from utils.plotting import COLOURS, Figure, line_style, new_figure, styled

MARKS = "osD^vP<>"


@styled
def plot_loss_against_compute(runs: Sequence[Run], law: PowerLaw, left_out: Run) -> Figure:
    """Every run by what it cost, and the lowest loss that the law has for that cost."""
    figure, axes = new_figure(7.4, 4.6)
    for i, (label, ones) in enumerate(by_size(runs).items()):
        axes.plot([run.flops for run in ones], [run.loss for run in ones], MARKS[i % len(MARKS)],
                  markersize=5, label=label, color=line_style(i)["color"])  # fmt: skip
        tokens = np.geomspace(ones[0].tokens, ones[-1].tokens)
        cost = 6 * ones[0].parameters * tokens
        axes.plot(cost, law(ones[0].parameters, tokens), "-", color=line_style(i)["color"], lw=1)
    every = [run.flops for run in [*runs, left_out]]
    costs = np.geomspace(min(every), max(every))
    axes.plot(costs, law(*compute_optimal(law, costs)), "k--", lw=2.2, label="lowest by the law")
    axes.plot(
        left_out.flops, left_out.loss, "k*", markersize=14, label=f"{name(left_out)}, left out"
    )
    axes.set_xscale("log")
    loss_axis(axes)
    axes.set(xlabel="compute 6 N D (FLOPs)", ylabel="validation loss (nats)",
             title="Loss against compute")  # fmt: skip
    axes.legend(title="parameters", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def plot_iso_flops(runs: Sequence[Run], law: PowerLaw, budgets: Sequence[float]) -> Figure:
    """For each budget (FLOPs) the loss by the size it is spent on, and where it is lowest.

    Points are measured: between two runs of a size, on the line through both in log D.
    """
    figure, axes = new_figure(7.4, 4.6)
    sizes = by_size(runs)
    least, most = (end(run.parameters for run in runs) for end in (min, max))
    best, _ = compute_optimal(law, np.asarray(budgets))
    ends = min(least, best.min()) / 1.5, max(most, best.max()) * 1.5
    parameters = np.geomspace(*ends, 200)
    for i, budget in enumerate(budgets):
        style = line_style(i)
        axes.plot(
            parameters, law(parameters, budget / (6 * parameters)), label=f"{budget:.1e}", **style
        )
        for ones in sizes.values():
            tokens = budget / (6 * ones[0].parameters)
            if ones[0].tokens <= tokens <= ones[-1].tokens:
                loss = np.interp(np.log(tokens), np.log([run.tokens for run in ones]),
                                 [run.loss for run in ones])  # fmt: skip
                axes.plot(ones[0].parameters, loss, MARKS[i % len(MARKS)], color=style["color"])
    costs = np.geomspace(min(budgets), max(budgets))
    line = compute_optimal(law, costs)
    axes.plot(line[0], law(*line), "k-", lw=2.5, label="best")
    lowest = law(*compute_optimal(law, max(budgets)))
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_ylim(lowest * 0.97, max(run.loss for run in runs) * 1.05)
    loss_axis(axes)
    axes.set(xlabel="parameters without embeddings", ylabel="loss (nats)",
             title="The same compute for models of other sizes")  # fmt: skip
    axes.legend(title="FLOPs", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def plot_predictions(runs: Sequence[Run], law: PowerLaw, left_out: Run) -> Figure:
    """What the law says against what was measured; the model that was left out is marked."""
    figure, axes = new_figure(6.6, 4.6)
    for i, (label, ones) in enumerate(by_size(runs).items()):
        predicted = [law(run.parameters, run.tokens) for run in ones]
        axes.plot(predicted, [run.loss for run in ones], MARKS[i % len(MARKS)], label=label,
                  markersize=5, color=line_style(i)["color"])  # fmt: skip
    predicted = law(left_out.parameters, left_out.tokens)
    axes.plot(predicted, left_out.loss, "k*", markersize=14, label=f"{name(left_out)}, left out")
    losses = [predicted, *(run.loss for run in [*runs, left_out])]
    ends = np.array([min(losses) * 0.98, max(losses) * 1.02])
    axes.plot(ends, ends, "-", color=COLOURS[-1], lw=1)
    axes.fill_between(ends, 0.97 * ends, 1.03 * ends, color=COLOURS[-1], alpha=0.15, lw=0,
                      label="within 3 %")  # fmt: skip
    axes.set(xlabel="predicted loss (nats)", ylabel="measured loss (nats)",
             title="Predicted and measured")  # fmt: skip
    axes.legend(title="parameters", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def by_size(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each size, fewest tokens first; the smallest size first."""
    found: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.parameters, run.tokens)):
        found.setdefault(name(run), []).append(run)
    return found


def name(run: Run) -> str:
    return in_short(run.parameters)


def in_short(number: float) -> str:
    """Three figures of a count: 384, 12.8k, 4.1M."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{sign}"
    return f"{number:.3g}"


def loss_axis(axes: Any) -> None:
    """A logarithmic axis over less than a power of ten, with numbers that can be read."""
    from matplotlib.ticker import MaxNLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
