"""Chapter 2's figures: what follows what, how the loss fell, and where the letters ended up."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from utils.plotting import COLOURS, Figure, heat_map, new_figure, styled


@styled
def plot_bigrams(probabilities: np.ndarray, tokens: Sequence[str]) -> Figure:
    """p(next | previous) as a heat map, a row for each previous token; of many, the first 60."""
    tokens = tokens[:60]
    probabilities = probabilities[:60, :60]
    side = max(4.5, 0.26 * len(tokens))
    figure, axes = new_figure(side * 1.15, side)
    # Half the colours for the lowest quarter: most probabilities are small.
    from matplotlib.colors import PowerNorm

    image = heat_map(axes, probabilities, tokens, tokens, norm=PowerNorm(0.5, 0, 1))
    figure.colorbar(image, ax=axes, label="probability", shrink=0.8)
    axes.set_xlabel("next character")
    axes.set_ylabel("character before")
    axes.set_title("What follows what")
    return figure


@styled
def plot_losses(losses: Sequence[float], references: Mapping[str, float]) -> Figure:
    """The loss of every step, smoothed, beside the validation losses of other models."""
    figure, axes = new_figure()
    window = max(len(losses) // 100, 1)
    usable = len(losses) // window * window
    smooth = np.reshape(losses[:usable], (-1, window)).mean(axis=1)
    steps = window * (np.arange(len(smooth)) + 0.5)
    axes.plot(steps, smooth, color=COLOURS[0], label="network, training batches")
    for (name, value), colour, dash in zip(references.items(), COLOURS[1:], ("--", "-.", ":", "-")):
        axes.axhline(value, color=colour, linestyle=dash, label=f"{name}: {value:.3f}")
    axes.set_xlabel("step")
    axes.set_ylabel("nats per character")
    axes.set_title("The network's loss beside what counting reaches")
    axes.legend()
    return figure


@styled
def plot_embedding(vectors: np.ndarray, tokens: Sequence[str]) -> Figure:
    """The learned vectors (tokens, size) in the plane where they differ most (PCA)."""
    centred = np.pad(vectors - vectors.mean(axis=0), ((0, 0), (0, max(2 - vectors.shape[1], 0))))
    _, _, directions = np.linalg.svd(centred)
    places = centred @ directions[:2].T
    figure, axes = new_figure(5.6, 4.8)
    for token, (x, y) in zip(tokens, places):
        colour = COLOURS[1] if token.lower() in "aeiouy" else COLOURS[0]
        weight = "bold" if token.lower() in "aeiouy" else "normal"
        axes.text(x, y, token, ha="center", va="center", color=colour, fontweight=weight)
    axes.set_xlim(places[:, 0].min() - 0.5, places[:, 0].max() + 0.5)
    axes.set_ylim(places[:, 1].min() - 0.5, places[:, 1].max() + 0.5)
    axes.set_xlabel("first principal component")
    axes.set_ylabel("second")
    axes.set_title("The characters' vectors, vowels bold")
    return figure
