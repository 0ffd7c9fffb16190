"""Chapter 5's figures: what they show, for ordinary input and for what may go wrong."""

from __future__ import annotations

import io
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from chapter_05_gradient_mastery import plot_differences, plot_speedups, plot_two_trainings

DIFFERENCES = {"loss": 0.0, "logits": 3e-18, "mlp.4.weight": 2e-16, "embedding.weight": 5e-13}
SPEEDUPS = {"linear": (1.5, 0.9), "layer norm": (4.0, 0.6), "gelu (tanh)": (6.0, 1.1)}


def drawn(figure):
    assert isinstance(figure, Figure), "a plotting function returns its Figure"
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_bar_for_every_gradient_in_the_order_of_the_way_back():
    (axes,) = drawn(plot_differences(DIFFERENCES)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(DIFFERENCES)
    assert axes.yaxis_inverted(), "the loss, where backward begins, stands on top"
    assert axes.get_xscale() == "log" and "autodiff" in axes.get_xlabel() and axes.get_title()
    widths = [bar.get_width() for bar in axes.patches]
    assert len(widths) == 4 and all(w > 0 for w in widths), "a difference of 0 has a place as well"
    np.testing.assert_allclose(widths[1:], list(DIFFERENCES.values())[1:])
    assert legend(axes) == ["1e-12"]


def test_a_wrong_gradient_is_seen_in_full():
    (axes,) = drawn(plot_differences({**DIFFERENCES, "wrong": 0.3})).axes
    low, high = axes.get_xlim()
    assert low < 1e-17 and high >= 0.3, "the one bar that matters must not be cut off"


@pytest.mark.parametrize("found", [{}, {"loss": 0.0}, {"loss": math.nan}, {"loss": math.inf}])
def test_differences_of_nothing_or_of_no_number(found):
    drawn(plot_differences(found))


def test_two_trainings_and_their_distance():
    by_engine = np.linspace(3, 2, 50)
    figure = drawn(plot_two_trainings(by_engine + 1e-12, by_engine))
    top, bottom = figure.axes
    assert sorted(legend(top)) == ["autodiff", "by hand"] and "loss" in top.get_ylabel()
    assert bottom.get_yscale() == "log" and bottom.get_xlabel() == "step" and bottom.get_ylabel()
    curves = {line.get_label(): line.get_ydata() for line in top.lines}
    np.testing.assert_allclose(curves["autodiff"], by_engine)
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), 1e-12, rtol=1e-2)


@pytest.mark.parametrize(
    "by_hand, by_engine",
    [([2.0] * 5, [2.0] * 5), ([2.0], [2.1]), ([], []), ([2.0, math.nan], [2.0, 2.0])],
    ids=["no distance at all", "one step", "no step", "diverged"],
)
def test_two_trainings_that_are_odd(by_hand, by_engine):
    drawn(plot_two_trainings(by_hand, by_engine))


def test_speedups_beside_both():
    (axes,) = drawn(plot_speedups(SPEEDUPS)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SPEEDUPS)
    assert legend(axes) == ["than the composed form", "than PyTorch"]
    assert axes.get_xlabel() and axes.get_title() and axes.get_xscale() == "log"
    widths = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(widths, [1.5, 4.0, 6.0, 0.9, 0.6, 1.1])


@pytest.mark.parametrize("found", [{}, {"linear": (1.0, 1.0)}, {"linear": (2.0, math.nan)}])
def test_speedups_of_nothing_or_without_pytorch(found):
    drawn(plot_speedups(found))


def test_the_reader_s_settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    plot_differences(DIFFERENCES)
    plot_two_trainings([1.0, 2.0], [1.0, 2.0])
    plot_speedups(SPEEDUPS)
    assert dict(matplotlib.rcParams) == before
