"""Figures of models made smaller: their losses, rounding, and who learns faster."""

from __future__ import annotations

from typing import Mapping

import numpy as np

from chapter_03_neural_nets import History
from chapter_10_production.quantization import HIGHEST, quantize
from utils.plotting import COLOURS, Figure, line_style, new_figure, styled

MARKS = "osD^vPX*"


@styled
def plot_sizes(kilobytes: Mapping[str, float], losses: Mapping[str, float]) -> Figure:
    """A mark for each form of a model: its size, and its loss on text that was held out."""
    figure, axes = new_figure(7.0)
    for i, (name, size) in enumerate(kilobytes.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(size, losses[name], MARKS[i % len(MARKS)], color=colour, markersize=9, label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.set_xlabel("size in memory (kB)")
    axes.set_ylabel("held-out loss (nats a token)")
    axes.set_title("What a smaller model costs")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def plot_rounding(array: np.ndarray, name: str) -> Figure:
    """Two pictures of a matrix (out, in): its weights on the grid of 4 bits, and the errors."""
    codes = {bits: quantize(array, bits) for bits in HIGHEST}
    four = codes[4]
    factors = four.factors[np.arange(array.shape[1]) % len(four.factors)].T
    step = np.maximum(four.scales[:, None].astype(np.float32) * factors, 1e-30)
    figure, (left, right) = new_figure(9.0, 3.8, 1, 2)
    edges = np.linspace(-9, 9, 181)
    left.hist((array / step).ravel(), bins=edges, color=COLOURS[5])
    for code in range(-HIGHEST[4], HIGHEST[4] + 1):
        left.axvline(code, color=COLOURS[1], linewidth=0.8)
    left.grid(False)
    left.set_xlabel("weight / (scale factor), and the codes of 4 bits")
    left.set_ylabel("weights")
    left.set_title(name)
    edges = np.linspace(-1, 1, 201) * 2.2 * float(step.mean()) / 2
    for i, (bits, matrix) in enumerate(codes.items()):
        counts, _ = np.histogram(matrix.dense() - array, bins=edges)
        right.stairs(np.maximum(counts, 0.5), edges, label=f"{bits} bits", **line_style(i))
    right.set_yscale("log")
    right.locator_params(axis="x", nbins=5)
    right.set_xlabel("error of a weight")
    right.set_title("Rounding errors")
    right.legend()
    return figure


@styled
def plot_students(histories: Mapping[str, History], teacher: float) -> Figure:
    """The held-out losses of trainings, step by step, above that of the teacher."""
    figure, axes = new_figure()
    for i, (name, history) in enumerate(histories.items()):
        steps = [e["step"] for e in history.evaluations]
        losses = [e["loss"] for e in history.evaluations]
        axes.plot(steps, losses, MARKS[i % len(MARKS)], label=name, markersize=5, **line_style(i))
    axes.axhline(teacher, color=COLOURS[5], linewidth=1, linestyle=":", label="teacher")
    axes.set_xlabel("step")
    axes.set_ylabel("held-out loss (nats a token)")
    axes.set_title("The same student, alone and taught")
    axes.legend()
    return figure
