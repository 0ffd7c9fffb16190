"""What a load test found, drawn: how long people waited, and what the server did meanwhile."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from utils.plotting import Figure, line_style, new_figure, styled

MARKED = (50, 95, 99)  # percentiles with a mark on each line


@styled
def plot_waits_of_all(waits: Mapping[str, Sequence[float]]) -> Figure:
    """For each kind of wait (seconds), the share of people who waited no longer than that."""
    figure, axes = new_figure()
    for i, (name, seconds) in enumerate(waits.items()):
        style = line_style(i)
        shares = np.linspace(0, 100, 401)
        axes.plot(np.percentile(seconds, shares), shares, label=name, **style)
        points = np.percentile(seconds, MARKED)
        axes.plot(points, MARKED, "o", color=style["color"], markersize=4)
    for share in MARKED:
        axes.axhline(share, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set_yticks([0, 25, 50, 75, 95], ["0", "25", "p50", "75", "p95"])
    axes.set_xlabel("seconds")
    axes.set_ylabel("share that waited no longer (%)")
    axes.set_title("How long clients wait")
    axes.legend()
    return figure


@styled
def plot_course(
    times: Sequence[float], rates: Sequence[float], texts: Mapping[str, Sequence[float]]
) -> Figure:
    """Tokens a second, and below them texts in the server, over the seconds of the test."""
    figure, (above, below) = new_figure(6.4, 4.8, 2, 1, sharex=True)
    above.plot(times, rates, **line_style(0))
    above.set_ylim(bottom=0)
    above.set_ylabel("tokens a second")
    above.set_title("What the server did")
    for i, (name, counts) in enumerate(texts.items()):
        below.plot(times, counts, label=name, **line_style(i))
    below.set_ylim(bottom=0)
    below.set_ylabel("texts")
    below.set_xlabel("seconds since the beginning")
    below.legend()
    return figure
