"""Pictures of landscapes: paths in a ravine and on a loss surface, two minima, and lines between.

Paths have dashes and a mark of their own at the end, and lie on white, so that grey print will do.
"""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from chapter_08_optimization.ravine import Valley
from utils.plotting import COLOURS, Figure, line_style, new_figure, styled

MARKS = "osD^vP"
LEVELS = 15
# From white to a blue on which a dark line still shows.
HEIGHTS = ["#ffffff", "#bcd3e6", "#5b8db8"]


@styled
def plot_paths_on_ravine(valley: Valley, paths: Mapping[str, np.ndarray]) -> Figure:
    """Paths (steps + 1, 2) over the map of a valley; what leaves the map is not drawn."""
    figure, axes = new_figure(8.4, 4.2)
    a, b = (np.linspace(*side, 301) for side in (valley.x, valley.y))
    heights = valley.function(*np.meshgrid(a, b))
    # What is lower by four powers of ten looks like the floor.
    levels = np.geomspace(heights.max() / 1e4, heights.max(), LEVELS)
    _draw_heights(axes, a, b, heights, levels)
    _draw_paths(axes, paths)
    axes.plot(*valley.lowest, "x", color="#222222", markersize=9, mew=2, zorder=7, label="lowest")
    axes.set(xlim=valley.x, ylim=valley.y, title=valley.title)
    axes.set(xlabel="first parameter", ylabel="second parameter")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=3.2)
    return figure


@styled
def plot_surface_with_paths(
    a: np.ndarray,
    b: np.ndarray,
    surface: np.ndarray,
    paths: Mapping[str, np.ndarray],
    title: str = "",
) -> Figure:
    """The loss (len(b), len(a)) on a plane, and paths (steps + 1, 2) in its coordinates."""
    figure, axes = new_figure(8.4, 5.0)
    heights = _draw_heights(axes, a, b, surface, _levels(surface))
    _draw_paths(axes, paths)
    axes.set(xlabel="first axis of the plane", ylabel="second axis of the plane", title=title)
    _scale(figure, heights, axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=len(paths) + 1,
                handlelength=3.2)  # fmt: skip
    return figure


@styled
def plot_two_minima(ticks: np.ndarray, surfaces: Mapping[str, np.ndarray]) -> Figure:
    """The loss around some minima, (len(ticks), len(ticks)) each, side by side on one scale.

    `ticks` are the distances along both axes, in lengths of the filters.
    """
    figure, axes = new_figure(1.0 + 3.9 * len(surfaces), 4.0, 1, len(surfaces), squeeze=False)
    levels = _levels(np.stack(list(surfaces.values())))
    for ax, (name, surface) in zip(axes[0], surfaces.items()):
        heights = _draw_heights(ax, ticks, ticks, surface, levels, written=True)
        ax.plot(0, 0, "x", color="#222222", markersize=8, markeredgewidth=2)
        ax.set(aspect="equal", title=name, xlabel="distance in filter lengths")
    axes[0, 0].set_ylabel("and along another direction")
    _scale(figure, heights, list(axes[0]))
    return figure


@styled
def plot_path_between(
    shares: np.ndarray,
    losses: Mapping[str, np.ndarray],
    ends: Sequence[str] = ("first", "second"),
    title: str = "",
) -> Figure:
    """Losses along a straight line through two points, which lie at the shares 0 and 1."""
    figure, axes = new_figure()
    for i, (name, values) in enumerate(losses.items()):
        axes.plot(shares, values, **line_style(i), label=name)
    for place in (0, 1):
        axes.axvline(place, color="#777777", linewidth=1, linestyle=":")
    axes.set_xticks((0, 0.5, 1))
    axes.set_xticklabels((ends[0], "half way", ends[1]))
    axes.set(ylabel="loss (nats)", title=title)
    axes.legend()
    return figure


def _levels(surface: np.ndarray) -> np.ndarray:
    """Heights in equal ratios from the lowest to the highest finite loss."""
    finite = surface[np.isfinite(surface)]
    lowest = max(finite.min(), 1e-6)
    return np.geomspace(lowest, max(finite.max(), lowest * 1.01), LEVELS)


def _draw_heights(axes, a, b, surface, levels, written: bool = False):
    """Filled contours on a scale of ratios, and lines that may have their heights written on."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    colours = LinearSegmentedColormap.from_list("heights", HEIGHTS)
    clipped = np.clip(np.nan_to_num(surface, nan=levels[-1]), levels[0], levels[-1])
    norm = LogNorm(levels[0], levels[-1])
    filled = axes.contourf(a, b, clipped, levels=levels, cmap=colours, norm=norm)
    lines = axes.contour(
        a, b, clipped, levels=levels[1:-1:2], colors="#8a9bab", linewidths=0.7, linestyles="solid"
    )
    if written:
        axes.clabel(lines, fmt="%.2g", fontsize=7, colors="#444444")
    axes.grid(False)
    return filled


def _draw_paths(axes, paths: Mapping[str, np.ndarray]) -> None:
    for i, (name, path) in enumerate(paths.items()):
        style, mark = line_style(i), MARKS[i % len(MARKS)]
        axes.plot(*path.T, "-", color="white", linewidth=3.2, alpha=0.7, zorder=2)
        axes.plot(*path.T, **style, linewidth=1.6, zorder=3)
        axes.plot(*path[-1], mark, color=style["color"], markeredgecolor="white", zorder=5)
        # One entry for both: the line, and the mark at its end.
        axes.plot([], [], **style, marker=mark, markeredgecolor="white", label=name)
    start = next(iter(paths.values()))[0]
    axes.plot(
        *start, "o", mfc="white", mec=COLOURS[0], mew=1.6, markersize=8, zorder=6, label="start"
    )


def _scale(figure: Figure, heights, axes) -> None:
    bar = figure.colorbar(heights, ax=axes, label="loss (nats)", shrink=0.9)
    bar.set_ticks(heights.levels[::2])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    bar.ax.minorticks_off()
