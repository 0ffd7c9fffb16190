"""Figures of a pipeline: what each stage does when, and the bubble in which it waits.

The same picture of a simulated schedule and of a measured step, so that they can be laid side by
side.
"""

from __future__ import annotations

from typing import Iterable, Mapping, Sequence

from chapter_09_scaling.pipeline_schedules import Span, bubble_fraction
from utils.plotting import Figure, new_figure, styled

# Fill and text of the bars: light and dark, also in grey.
LOOKS = {"forward": ("#b9cbe0", "black"), "backward": ("#12355b", "white")}
WAITING = "#f3ede3"


def from_start(spans: Iterable[Sequence], scale: float = 1.0) -> list[Span]:
    """The spans of all stages, as JSON has them or not, in times since the first one began."""
    spans = [Span(*span) for span in spans]
    start = min(span.begin for span in spans)
    return [s._replace(begin=scale * (s.begin - start), end=scale * (s.end - start)) for s in spans]


@styled
def plot_timelines(
    timelines: Mapping[str, Sequence[Span]], unit: str = "forward passes of a micro-batch"
) -> Figure:
    """A picture for each name: a row for each stage, a bar with its number for each micro-batch.

    Its title says which share of the time the stages wait.
    """
    stages = 1 + max(span.stage for spans in timelines.values() for span in spans)
    height = 1.2 + len(timelines) * (0.55 + 0.36 * stages)
    figure, all_axes = new_figure(8.6, height, len(timelines), 1, sharex=True, squeeze=False)
    for axes, (name, spans) in zip(all_axes[:, 0], timelines.items()):
        draw(axes, spans)
        axes.set_title(f"{name}: bubble {100 * bubble_fraction(spans):.0f} %", loc="left")
    all_axes[-1, 0].set_xlabel(f"time ({unit})")
    bars = all_axes[0, 0].get_legend_handles_labels()
    figure.legend(*bars, loc="upper right", ncol=3)
    return figure


def draw(axes, spans: Sequence[Span]) -> None:
    """One timeline."""
    begin, end = min(s.begin for s in spans), max(s.end for s in spans)
    stages = sorted({span.stage for span in spans})
    axes.barh(stages, end - begin, left=begin, height=0.8, color=WAITING, label="waits")
    for kind, (fill, text) in LOOKS.items():
        own = [span for span in spans if span.kind == kind]
        rows, widths = [s.stage for s in own], [s.end - s.begin for s in own]
        axes.barh(rows, widths, left=[s.begin for s in own], height=0.8, color=fill,
                  edgecolor="white", linewidth=0.6, label=kind)  # fmt: skip
        for span in own:
            axes.text((span.begin + span.end) / 2, span.stage, str(span.micro_batch), color=text,
                      ha="center", va="center", fontsize=8, clip_on=True)  # fmt: skip
    axes.set_yticks(stages)
    axes.set_yticklabels([f"stage {stage}" for stage in stages])
    axes.set_xlim(begin, end)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
