"""One style for all figures of the book, and a safe way to save them.

Figures are values: functions make and return them, only a script's `main` saves them, and nothing
is shown or kept in a global list. Lines differ in lightness and dashes, so grey print is enough.
"""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from cycler import cycler

from utils.files import atomic_write

# matplotlib takes longer to import than all else: it is, when something is drawn.
if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = "matplotlib.figure.Figure"

COLOURS = ("#12355b", "#e4572e", "#3a9d8f", "#a05195", "#d9a404", "#6b7280")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
SEQUENTIAL, DIVERGING = "Blues", "RdBu_r"

STYLE = {
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS, linestyle=DASHES),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "font.size": 10,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 150,
}


def line_style(i: int) -> dict[str, Any]:
    """The colour and dashes of the i-th line of a figure: 36 lines, each like no other."""
    n = len(COLOURS)
    return {"color": COLOURS[i % n], "linestyle": DASHES[(i + i // n) % n]}


def styled(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw with the book's style; the reader's own settings are back afterwards."""

    @functools.wraps(plot)
    def drawn(*args: Any, **keywords: Any) -> Figure:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return plot(*args, **keywords)

    return drawn


def new_figure(width: float = 6.4, height: float = 4.0, rows: int = 1, columns: int = 1, **options):
    """A figure (inches) and its axes: one, or an array of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def save_figure(figure: Figure, path: str | os.PathLike) -> Path:
    """Save as PNG, whole or not at all; the same figure gives the same bytes."""
    path = Path(path)
    with atomic_write(path) as file, warnings.catch_warnings():
        # A character that the font lacks is drawn as a box, which says it as well.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(file, format="png", dpi=STYLE["savefig.dpi"], metadata={"Software": None})
    return path


def heat_map(axes, values, rows, columns, colours: str = SEQUENTIAL, **options):
    """Draw a matrix with a label for every row and column; returns the image."""
    image = axes.imshow(values, cmap=colours, aspect="auto", **options)
    axes.set_xticks(range(len(columns)))
    axes.set_xticklabels(columns)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels(rows)
    axes.grid(False)
    return image
