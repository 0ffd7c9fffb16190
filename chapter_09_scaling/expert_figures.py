"""Figures of a mixture of experts: how evenly they are asked, and by which characters."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from utils.plotting import COLOURS, Figure, heat_map, new_figure, styled

HATCHES = ("", "///", "...")
NAMES = {" ": "space", "\n": "\\n", "\t": "\\t"}


@styled
def plot_usage(shares: Mapping[str, np.ndarray]) -> Figure:
    """Bars, a picture a layer: the share of all questions that each expert gets.

    `shares` holds, by the name of a model, an array (layers, experts) whose rows add up to 1.
    """
    layers, experts = next(iter(shares.values())).shape
    figure, axes = new_figure(max(2.6 * layers, 6.4), 3.6, 1, layers, sharey=True, squeeze=False)
    width = 0.8 / len(shares)
    for layer, ax in enumerate(axes[0]):
        for i, (name, of_model) in enumerate(shares.items()):
            # The busiest first: which number it has means nothing.
            heights = np.sort(of_model[layer])[::-1]
            places = np.arange(experts) + (i - (len(shares) - 1) / 2) * width
            ax.bar(
                places, heights, width, label=name, color=COLOURS[i], hatch=HATCHES[i % 3],
                edgecolor="white",
            )  # fmt: skip
        ax.axhline(1 / experts, color="#444444", linestyle=":", linewidth=1.2, label="even")
        ax.set_title(f"Layer {layer + 1}")
        ax.set_xticks(range(experts))
        ax.set_xticklabels(range(1, experts + 1))
        ax.set_xlabel("experts, the busiest first")
        ax.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    axes[0][0].set_ylabel("share of the tokens")
    axes[0][-1].legend()
    return figure


@styled
def plot_characters(counts: np.ndarray, characters: Sequence[str], most: int = 36) -> Figure:
    """A picture a layer: which experts each of the commonest characters asks.

    `counts` (layers, characters, experts) of questions. Characters stand in the order of the expert
    that they ask most.
    """
    layers, _, experts = counts.shape
    figure, axes = new_figure(9.0, 0.9 + 2.1 * layers, layers, 1, squeeze=False)
    common = np.argsort(-counts[0].sum(axis=1), kind="stable")[:most]
    common = common[counts[0].sum(axis=1)[common] > 0]
    for layer, ax in enumerate(axes[:, 0]):
        shares = counts[layer, common] / counts[layer, common].sum(axis=1, keepdims=True)
        order = np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))
        names = [NAMES.get(characters[common[i]], characters[common[i]]) for i in order]
        image = heat_map(ax, shares[order].T, range(1, experts + 1), names, vmin=0, vmax=1)
        for label, name in zip(ax.get_xticklabels(), names):
            label.set_rotation(90 if len(name) > 1 else 0)
        ax.set_title(f"Layer {layer + 1}")
        ax.set_ylabel("expert")
    bar = figure.colorbar(image, ax=list(axes[:, 0]), label="share of the character")
    bar.ax.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    return figure
