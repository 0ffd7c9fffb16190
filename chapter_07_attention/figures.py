"""Chapter 7's figures: who looks at whom, and how far the positions carry."""

from __future__ import annotations

import math
from typing import Mapping, Sequence

import numpy as np

from utils.plotting import SEQUENTIAL, Figure, heat_map, line_style, new_figure, styled


@styled
def plot_attention(
    shares: np.ndarray, queries: Sequence[str], keys: Sequence[str], title: str = "Attention"
) -> Figure:
    """A picture for each head of shares (heads, T, S): row by row, where each token looks."""
    columns = min(len(shares), 2)
    rows = math.ceil(len(shares) / columns)
    width, height = 0.16 * len(keys) + 0.5, 0.16 * len(queries) + 0.6
    size = (max(columns * width, 4.0), rows * height + 0.4)
    figure, axes = new_figure(*size, rows, columns, squeeze=False)
    for ax in axes.flat[len(shares) :]:
        ax.set_axis_off()
    for head, (ax, share) in enumerate(zip(axes.flat, shares)):
        heat_map(ax, share, [visible(t) for t in queries], [visible(t) for t in keys], vmin=0)
        ax.tick_params(labelsize=7, length=0)
        if len(shares) > 1:
            ax.set_title(f"head {head + 1}", fontsize=9, fontweight="normal")
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure


@styled
def plot_masks(masks: Mapping[str, np.ndarray]) -> Figure:
    """Masks (T, S), dark where a query (row) may look at a key (column)."""
    figure, axes = new_figure(2.3 * len(masks), 2.6, 1, len(masks), squeeze=False)
    for ax, (name, mask) in zip(axes[0], masks.items()):
        ax.imshow(mask, cmap=SEQUENTIAL, vmin=0, vmax=1.4)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("key")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(False)
    axes[0, 0].set_ylabel("query")
    return figure


@styled
def plot_losses_by_place(losses: Mapping[str, np.ndarray], learnt: int, blocks: int = 16) -> Figure:
    """The loss at each place of a text longer than was learnt from, a line a scheme."""
    figure, axes = new_figure(6.8, 4.2)
    for i, (name, loss) in enumerate(losses.items()):
        points = max(len(loss) // blocks, min(len(loss), 8))
        places, means = (
            [part.mean() for part in np.array_split(values, points)]
            for values in (np.arange(len(loss)) + 0.5, loss)
        )
        axes.plot(places, means, **line_style(i), label=name)
    axes.axvline(learnt, color="#777777", linewidth=1, linestyle=":")
    axes.text(learnt, axes.get_ylim()[1], " longest learnt from", va="top", fontsize=8)
    axes.set_xlabel("place in the text (tokens)")
    axes.set_ylabel("loss (nats a token)")
    axes.set_title("Texts longer than those learnt from")
    axes.legend(fontsize=8)
    return figure


def visible(token: str) -> str:
    """A token so that it can be read on an axis."""
    for sign, shown in {"\n": "↵", "\t": "⇥", " ": "·", "$": r"\$"}.items():
        token = token.replace(sign, shown)  # what stands between two $ would be set as a formula
    return token or "∅"
