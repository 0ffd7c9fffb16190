"""Figures of ranks at work."""

from __future__ import annotations

from typing import Mapping, Sequence, Tuple

from utils.plotting import COLOURS, Figure, new_figure, styled

Span = Tuple[float, float]  # from when to when, in seconds


@styled
def plot_overlap(events: Mapping[str, Sequence[Span]]) -> Figure:
    """When a rank computed ("forward", "backward") and when it sent ("sums")."""
    figure, axes = new_figure(7.2, 2.2)
    for name, row, colour in (("forward", 1, 4), ("backward", 1, 0), ("sums", 0, 1)):
        spans = [(start * 1e3, (end - start) * 1e3) for start, end in events[name]]
        axes.broken_barh(spans, (row - 0.3, 0.6), color=COLOURS[colour], linewidth=1, label=name)
    axes.set_yticks([0, 1])
    axes.set_yticklabels(["sends", "computes"])
    axes.set_xlabel("milliseconds of a step")
    axes.set_title("Gradients travel while others are still computed")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def plot_memory_by_stage(stages: Mapping[str, Mapping[str, float]], parameters: int) -> Figure:
    """Bytes a parameter that a rank held, stage by stage of ZeRO, beside what was predicted."""
    figure, axes = new_figure(6.4, 3.4)
    names = ["none", *(f"stage {stage}" for stage in stages if stage != "0")]
    held = [found["memory_held"] / parameters for found in stages.values()]
    predicted = [found["memory_predicted"] / parameters for found in stages.values()]
    bars = axes.bar(names, held, width=0.55, color=COLOURS[0], label="measured")
    axes.bar_label(bars, [f"{value:.1f}" for value in held], padding=3)
    for i, value in enumerate(predicted):
        axes.plot([i - 0.38, i + 0.38], [value, value], color=COLOURS[1], linestyle="-",
                  label="predicted" if i == 0 else None)  # fmt: skip
    axes.set_ylabel("bytes a parameter")
    axes.set_ylim(0, 1.15 * max(held + predicted))
    axes.set_title("What a rank holds of parameters, gradients and moments")
    axes.grid(axis="x", visible=False)
    axes.legend()
    return figure
