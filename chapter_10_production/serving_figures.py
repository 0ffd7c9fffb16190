"""Figures of an engine at work: time and tokens by the length of texts and by their number."""

from __future__ import annotations

from typing import Mapping, Sequence

from matplotlib.ticker import LogLocator

from utils.plotting import Figure, line_style, new_figure, styled

MARKS = "os^Dv"


@styled
def plot_by_number(
    numbers: Sequence[int],
    values: Mapping[str, Sequence[float]],
    labels: tuple[str, str],
    title: str,
) -> Figure:
    """A line for each name over numbers that double, both axes logarithmic."""
    figure, axes = new_figure()
    for i, (name, line) in enumerate(values.items()):
        axes.plot(numbers, line, MARKS[i % len(MARKS)], markersize=5, label=name, **line_style(i))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(numbers)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,g}")
    axes.minorticks_off()
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def plot_waits(waits: Mapping[str, Sequence[float]], title: str) -> Figure:
    """The milliseconds before each token of a text, by the way in which others are served."""
    figure, axes = new_figure()
    for i, (name, line) in enumerate(waits.items()):
        axes.plot(range(1, len(line) + 1), line, label=name, **line_style(i))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,g}")
    axes.set_xlabel("token of the text that is being written")
    axes.set_ylabel("milliseconds before it")
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def plot_guesses(tokens: Mapping[str, Mapping[int, float]]) -> Figure:
    """Tokens a step by the number of guesses, beside those of guesses that are right so often."""
    figure, axes = new_figure()
    most = max(max(line) for line in tokens.values())
    for i, share in enumerate((0.5, 0.7, 0.9)):
        counts = range(most + 1)
        mean = [sum(share**n for n in range(k + 1)) for k in counts]
        label = "a share of 0.5, 0.7, 0.9 is right" if i == 0 else None
        axes.plot(counts, mean, color="#bbbbbb", linestyle="-", linewidth=1, label=label)
    for i, (name, line) in enumerate(tokens.items()):
        style = line_style(i)
        axes.plot(list(line), list(line.values()), MARKS[i], markersize=5, label=name, **style)
    axes.set_xlabel("tokens guessed ahead")
    axes.set_ylabel("tokens written a step")
    axes.set_title("What a draft is worth")
    axes.legend()
    return figure
