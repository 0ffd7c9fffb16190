"""Chapter 4's figures: signals layer by layer and step by step, saturation, updates, rates."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from chapter_03_neural_nets.figures import smoothed
from chapter_04_training_dynamics.diagnostics import Recorder, UpdateRatios
from chapter_04_training_dynamics.learning_rate_finder import LearningRateCurve
from utils.plotting import COLOURS, DASHES, Figure, line_style, new_figure, styled

TITLES = {
    "mean": "mean of the activations",
    "std": "std of the activations",
    "signal": "std of the activations between examples",
    "saturated": "share of saturated activations",
    "gradient": "std of the gradients",
}
LOGARITHMIC = ("std", "signal", "gradient")
LOWEST, HIGHEST = 1e-10, 1e4  # what is outside is as good as 0 or infinite
ORDERED = "viridis"  # from dark to light, in grey as well


@styled
def plot_layers(recorders: Mapping[str, Recorder], index: int = 0) -> Figure:
    """Activations and gradients after every layer in one recorded pass, a line a network."""
    figure, axes = new_figure(10.4, 4.0, 1, 2)
    for ax, quantity in zip(axes, ("signal", "gradient")):
        for (name, recorder), colour, dash in zip(recorders.items(), COLOURS, DASHES):
            values = recorder[quantity][:, index]
            depth = np.arange(1, len(values) + 1)
            ax.plot(depth, _shown(values), color=colour, linestyle=dash, label=name)
        ax.set_yscale("log")
        ax.set_xlabel("layer")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_title(TITLES[quantity])
    _legend_outside(axes[1])
    return figure


@styled
def plot_over_time(recorders: Mapping[str, Recorder], quantity: str = "gradient") -> Figure:
    """A heat map (layer, step) of a recorded quantity for each network, all in one scale."""
    columns = min(len(recorders), 3)
    rows = -(-len(recorders) // columns)
    size = (3.2 * columns + 0.8, 2.6 * rows + 0.7)
    figure, axes = new_figure(*size, rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(recorders) :]:
        ax.set_axis_off()
    logarithmic = quantity in LOGARITHMIC
    maps = {}
    for name, recorder in recorders.items():
        maps[name] = np.log10(_shown(recorder[quantity])) if logarithmic else recorder[quantity]
    everything = np.concatenate([values.ravel() for values in maps.values()])
    everything = everything[np.isfinite(everything)]
    low = everything.min() if everything.size else 0.0
    high = max(everything.max() if everything.size else 1.0, low + 1e-3)
    for ax, (name, values) in zip(axes.flat, maps.items()):
        image = ax.imshow(
            values,
            cmap=ORDERED,
            vmin=low,
            vmax=high,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            extent=(0, max([*recorders[name].steps, 1]), 0.5, len(values) + 0.5),
        )
        ax.set_title(name)
        ax.grid(False)
        ax.yaxis.get_major_locator().set_params(integer=True)
    for ax in axes[-1]:
        ax.set_xlabel("step")
    for ax in axes[:, 0]:
        ax.set_ylabel("layer")
    figure.colorbar(image, ax=axes, label="power of ten" if logarithmic else None)
    figure.suptitle(TITLES[quantity], fontsize=11)
    return figure


@styled
def plot_activations(recorders: Mapping[str, Recorder]) -> Figure:
    """How activations are spread in the last recorded pass: up to five layers of each network."""
    figure, axes = new_figure(4.4 * len(recorders), 4.0, 1, len(recorders), squeeze=False)
    for ax, (name, recorder) in zip(axes[0], recorders.items()):
        layers = [y[np.isfinite(y)] for y in recorder.outputs.values()]
        highest = max([float(np.abs(y).max()) for y in layers if y.size], default=1.0)
        edges = np.linspace(-1, 1, 42) * (highest or 1.0)
        for i in np.unique(np.linspace(0, len(layers) - 1, 5).astype(int)):
            shares = np.histogram(layers[i], edges)[0] / max(layers[i].size, 1)
            spread = f"std {layers[i].std():.2g}" if layers[i].size else "no numbers"
            colour = _shade(i, len(layers))
            middles = (edges[1:] + edges[:-1]) / 2
            ax.plot(middles, shares, "-", color=colour, label=f"layer {i + 1}: {spread}")
        ax.set_xlabel("activation")
        ax.set_title(name)
        ax.set_ylim(bottom=0)
        ax.legend(fontsize=8)
    axes[0, 0].set_ylabel("share of all activations")
    return figure


@styled
def plot_update_ratios(ratios: UpdateRatios, title: str = "Updates beside weights") -> Figure:
    """log10 of std(update) / std(weight) over time, a line a matrix; -3 is the rule of thumb."""
    figure, axes = new_figure(7.6, 4.0)
    for i, (name, logs) in enumerate(ratios.logs.items()):
        places, means = smoothed(np.where(np.isfinite(logs), logs, np.nan))
        steps = np.interp(places - 0.5, np.arange(len(logs)), ratios.steps)
        label = name if i in (0, len(ratios.logs) - 1) else None
        colour = _shade(i, len(ratios.logs))
        axes.plot(steps, means, "-", color=colour, linewidth=1.3, label=label)
    axes.axhline(-3, color="#222222", linestyle="--", linewidth=1.2, label="a thousandth")
    axes.set_xlabel("step")
    axes.set_ylabel("log10 of std(update) / std(weight)")
    axes.set_title(title)
    _legend_outside(axes)
    return figure


@styled
def plot_learning_rates(curve: LearningRateCurve) -> Figure:
    """The loss at every learning rate tried, and where it falls fastest."""
    figure, axes = new_figure()
    axes.plot(curve.rates, curve.losses, "-", color=COLOURS[5], linewidth=0.8, label="each batch")
    axes.plot(curve.rates, curve.smoothed, "-", color=COLOURS[0], label="smoothed")
    label = f"falls fastest at {curve.suggestion:.2g}"
    axes.axvline(curve.suggestion, color=COLOURS[1], linestyle="--", label=label)
    start, fall = curve.smoothed[0], np.ptp(curve.smoothed[: curve.smoothed.argmin() + 1])
    axes.set_ylim(start - 1.5 * fall, start + 2 * fall)  # how high it ends does not matter
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss (nats)")
    axes.set_title("Which learning rate?")
    axes.legend()
    return figure


@styled
def plot_training(runs: Mapping[str, Sequence[float]], title: str = "Training") -> Figure:
    """The training losses of several networks, smoothed; a line that stops has diverged."""
    figure, axes = new_figure(7.6, 4.0)
    curves = {name: smoothed(losses) for name, losses in runs.items()}
    for i, (name, curve) in enumerate(curves.items()):
        axes.plot(*curve, **line_style(i), label=name)
    # A net that explodes would leave the others no room.
    highest = 1.5 * max((losses[0] for losses in runs.values() if len(losses)), default=1.0)
    lowest = min((np.min(values) for _, values in curves.values() if len(values)), default=0.0)
    top = axes.get_ylim()[1]
    top = min(top, highest) if lowest < highest else top
    axes.set_ylim(lowest - 0.05 * (top - lowest), top)
    axes.set_xlabel("step")
    axes.set_ylabel("loss of training batches (nats)")
    axes.set_title(title)
    _legend_outside(axes)
    return figure


def _shown(values: np.ndarray) -> np.ndarray:
    """What a logarithmic scale can show: NaN for what is no number, the rest within bounds."""
    return np.clip(np.where(np.isfinite(values), values, np.nan), LOWEST, HIGHEST)


def _shade(i: int, count: int):
    """The colour of the i-th of so many that follow one another."""
    from matplotlib import colormaps

    return colormaps[ORDERED](0.85 * i / max(count - 1, 1))


def _legend_outside(axes) -> None:
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
