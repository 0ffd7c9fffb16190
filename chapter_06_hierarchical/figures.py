"""Chapter 6's figures: what layers see, what decisions hang on, how far back a network looks."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import numpy as np

from chapter_03_neural_nets import History
from chapter_06_hierarchical.expressions import Expression, truth
from utils.plotting import COLOURS, DIVERGING, Figure, heat_map, line_style, new_figure, styled

SHOWN = {
    "Add": "+", "Sub": "-", "Mult": "*", "Mod": "%", "FloorDiv": "//", "Div": "/", "Eq": "==",
    "NotEq": "!=", "Is": "is", "IsNot": "is not", "Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=",
    "Not": "not", "USub": "-", "UAdd": "+", "And": "and", "Or": "or", "IfExp": "if", "Else": "else",
}  # fmt: skip
PER_ROW = 8


@styled
def plot_feature_maps(image: np.ndarray, maps: Mapping[str, np.ndarray]) -> Figure:
    """A picture (H, W), and below it the channels (C, H', W') of some layers, eight a row."""
    rows: list[tuple[str, Sequence[np.ndarray]]] = [("input", [image])]
    for name, channels in maps.items():
        height, width = channels[0].shape
        title = f"{name}: {len(channels)} channels of {height} x {width}"
        for start in range(0, len(channels), PER_ROW):
            rows.append(("" if start else title, channels[start : start + PER_ROW]))
    figure, axes = new_figure(PER_ROW, 1.12 * len(rows), len(rows), PER_ROW, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, (title, channels) in zip(axes, rows):
        label = row[0].set_title(title, fontsize=9, fontweight="normal", loc="left")
        label.set_in_layout(False)
        for ax, channel in zip(row, channels):
            ax.imshow(channel, cmap="Greys", vmin=min(channel.min(), 0), vmax=channel.max())
    return figure


@styled
def plot_saliency(images: np.ndarray, gradients: np.ndarray, titles: Sequence[str]) -> Figure:
    """Pictures above, and below each the gradient of its class's logit: red adds, blue takes."""
    figure, axes = new_figure(1.15 * len(images), 2.45, 2, len(images), squeeze=False)
    for column, image, gradient, title in zip(axes.T, images, gradients, titles):
        limit = np.abs(gradient).max()
        column[0].imshow(image, cmap="Greys")
        column[0].set_title(title, fontsize=9, fontweight="normal")
        column[1].imshow(gradient, cmap=DIVERGING, vmin=-limit, vmax=limit)
        for ax in column:
            ax.set_axis_off()
    return figure


@styled
def plot_validation(histories: Mapping[str, History], title: str) -> Figure:
    """The validation loss of several networks over the share of their training."""
    figure, axes = new_figure()
    for i, (name, history) in enumerate(histories.items()):
        steps = [e["step"] / history.steps for e in history.evaluations]
        losses = [e["loss"] for e in history.evaluations]
        axes.plot(steps, losses, **line_style(i), marker="o", markersize=3, label=name)
    axes.set_xlabel("share of the training")
    axes.set_ylabel("validation loss (nats)")
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def plot_receptive_field(dilations: Sequence[int]) -> Figure:
    """Which tokens reach the last one through causal layers of two cells: a tree, drawn dark."""
    reach, layers = sum(dilations) + 1, len(dilations)
    tokens = reach + 3
    figure, axes = new_figure(0.42 * tokens + 1.2, 0.75 * layers + 1.2)
    reached = {(layers, tokens - 1)}
    for layer, dilation in reversed(list(enumerate(dilations))):
        for place in range(tokens):
            own = (layer + 1, place) in reached
            for source in (place - dilation, place):
                if source >= 0:
                    colour, width = (COLOURS[0], 1.6) if own else ("#d8d8d8", 0.8)
                    line = [source, place], [layer, layer + 1]
                    axes.plot(*line, "-", color=colour, linewidth=width, zorder=2 if own else 1)
                    reached |= {(layer, source)} if own else set()
    for layer in range(layers + 1):
        for place in range(tokens):
            colour = COLOURS[1] if (layer, place) in reached else "#d8d8d8"
            axes.plot(place, layer, "o", color=colour, markersize=6, zorder=3)
    axes.set_yticks(range(layers + 1))
    axes.set_yticklabels(["tokens", *(f"dilation {d}" for d in dilations)])
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    depends = sum(layer == 0 for layer, _ in reached)
    axes.set_title(f"The last output depends on {depends} tokens")
    return figure


@styled
def plot_influence(words: Sequence[Sequence[str]], influences: Sequence[np.ndarray]) -> Figure:
    """For each word, how much each character (column) moved what was expected next (row)."""
    size = (3.1 * len(words), 3.2)
    figure, axes = new_figure(*size, 1, len(words), squeeze=False)
    for ax, word, influence in zip(axes[0], words, influences):
        share = influence / np.maximum(influence.max(axis=1, keepdims=True), 1e-12)
        heat_map(ax, share, word[1:], word[:-1], vmin=0, vmax=1)
        ax.set_xlabel("seen")
    axes[0, 0].set_ylabel("expected next")
    return figure


@styled
def plot_accuracy_by_depth(
    accuracies: Mapping[str, Mapping[int, float]], deepest_learnt: int
) -> Figure:
    """The share of right answers over the depth of a tree, a line a reader."""
    figure, axes = new_figure()
    for i, (name, by_depth) in enumerate(accuracies.items()):
        places = list(by_depth), list(by_depth.values())
        axes.plot(*places, **line_style(i), marker="o", markersize=4, label=name)
    depths = [depth for by_depth in accuracies.values() for depth in by_depth]
    axes.axvspan(min(depths) - 0.5, deepest_learnt + 0.5, color="#f0f0f0", zorder=0)
    axes.axhline(0.5, color="#777777", linewidth=1, linestyle=":")
    lowest = min(min(by_depth.values()) for by_depth in accuracies.values())
    axes.set_ylim(min(0.45, lowest - 0.05), 1.02)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("depth of the tree (grey: depths learnt from)")
    axes.set_ylabel("right")
    axes.set_title("Is the expression true?")
    axes.legend(loc="lower left")
    return figure


@styled
def plot_expression(expression: Expression, belief: Callable[[Expression], float]) -> Figure:
    """An expression's tree; below each part its truth, and how likely a network holds it true.

    What Python never came to, as the rest was settled, may have no truth at all.
    """
    parts = placed(expression)
    width = max(x for _, x, _, _ in parts) + 1
    levels = 1 + max(level for _, _, level, _ in parts)
    figure, axes = new_figure(max(0.8 * width, 4.5), 0.95 * levels + 0.3)
    for part, x, level, parent in parts:
        if parent is not None:
            line = [x, parent[0]], [-level, -parent[1]]
            axes.plot(*line, "-", color="#9a9a9a", linewidth=1.2, zorder=1)
        true, held = truth(part), belief(part)
        right = true is None or true == (held > 0.5)
        text = SHOWN[part[0]] if isinstance(part, tuple) else str(part)
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "zorder": 2}
        box["edgecolor"] = COLOURS[0] if right else COLOURS[1]
        axes.text(x, -level, text, ha="center", va="center", bbox=box, zorder=3)
        if isinstance(part, tuple):
            style = {"ha": "center", "va": "top", "fontsize": 7, "color": box["edgecolor"]}
            white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.text(x, -level - 0.25, f"{true}\n{held:.0%}", bbox=white, zorder=2, **style)
    axes.set_xlim(-0.6, width - 0.4)
    axes.set_ylim(-levels + 0.5, 0.5)
    axes.set_axis_off()
    axes.set_title("What each part is, and how likely it is held to be true")
    return figure


def placed(expression: Expression) -> list[tuple]:
    """Every part of an expression as (part, x, level, its parent's (x, level) or None)."""
    found: list[tuple] = []

    def place(part: Any, left: float, level: int) -> tuple[float, float]:
        """Where the part is, and where the next may begin."""
        centres, right, own = [], left, len(found)
        for operand in part[1:] if isinstance(part, tuple) else ():
            centre, right = place(operand, right, level + 1)
            centres.append(centre)
        x = sum(centres) / len(centres) if centres else left
        for i in range(own, len(found)):
            if found[i][2] == level + 1:
                found[i] = (*found[i][:3], (x, level))
        found.append((part, x, level, None))
        return x, max(right, left + 1)

    place(expression, 0.0, 0)
    return found
