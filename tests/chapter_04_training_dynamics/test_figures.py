"""Chapter 4's figures: values that can be saved, also of runs that failed."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from chapter_04_training_dynamics import (
    DeepMLP,
    LearningRateCurve,
    Recorder,
    UpdateRatios,
    plot_activations,
    plot_layers,
    plot_learning_rates,
    plot_over_time,
    plot_training,
    plot_update_ratios,
)
from utils import Tensor


def drawn(figure):
    assert isinstance(figure, Figure), "a plotting function returns its Figure"
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def recorded(passes=3, depth=4, scale=1.0):
    net = DeepMLP(3, 2, width=4, depth=depth, rng=np.random.default_rng(0))
    with Recorder(net) as recorder, np.errstate(invalid="ignore"):
        for _ in range(passes):
            net(Tensor(np.full((5, 3), scale, np.float32))).sum().backward()
    return recorder


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_layers_has_a_line_a_network_and_a_point_a_layer():
    recorders = {"one": recorded(), "two": recorded()}
    signal, gradient = drawn(plot_layers(recorders, index=1)).axes
    assert texts(gradient) == ["one", "two"]
    x, y = gradient.lines[1].get_data()
    assert x.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(y, recorders["two"]["gradient"][:, 1])


@pytest.mark.parametrize("quantity", ["mean", "std", "signal", "saturated", "gradient"])
def test_over_time_has_a_map_a_network(quantity):
    recorders = {name: recorded(passes=i + 1) for i, name in enumerate("abcd")}
    figure = drawn(plot_over_time(recorders, quantity))
    maps = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in maps] == list("abcd")
    assert [ax.images[0].get_array().shape for ax in maps] == [(4, n) for n in (1, 2, 3, 4)]
    assert len({ax.images[0].get_clim() for ax in maps}) == 1, "one scale, or nothing compares"
    values = recorders["d"][quantity]
    shown = np.asarray(maps[3].images[0].get_array())
    low = np.clip(values, 1e-10, None)
    expected = values if quantity in ("mean", "saturated") else np.log10(low)
    np.testing.assert_allclose(shown, expected)


def test_activations_show_first_and_last_layer():
    figure = drawn(plot_activations({"deep": recorded(depth=9), "shallow": recorded(depth=1)}))
    deep, shallow = figure.axes
    assert len(deep.lines) == 5 and len(shallow.lines) == 1
    assert texts(deep)[0].startswith("layer 1:") and texts(deep)[-1].startswith("layer 9:")
    for line in deep.lines:
        assert np.sum(line.get_ydata()) == pytest.approx(1), "shares of all add up to 1"


def test_signals_that_are_no_numbers():
    broken = recorded(scale=np.nan)
    for figure in (
        plot_layers({"broken": broken}),
        plot_over_time({"broken": broken}),
        plot_activations({"broken": broken}),
    ):
        drawn(figure)


def test_update_ratios_beside_the_rule_of_thumb():
    ratios = UpdateRatios()
    ratios.steps = list(range(300))
    ratios.logs = {"a.weight": [-2.0] * 300, "b.weight": [-np.inf] * 300, "c.weight": [-4.0] * 300}
    axes = drawn(plot_update_ratios(ratios)).axes[0]
    assert texts(axes) == ["a.weight", "c.weight", "a thousandth"]
    assert list(axes.lines[-1].get_ydata()) == [-3, -3]
    x, y = axes.lines[0].get_data()
    assert set(y) == {-2.0} and 0 <= min(x) <= max(x) <= 299
    drawn(plot_update_ratios(UpdateRatios()))


def test_learning_rates_mark_the_suggestion():
    rates, losses = np.geomspace(1e-3, 1, 20), np.concatenate([np.full(10, 3.0), np.arange(10)])
    axes = drawn(plot_learning_rates(LearningRateCurve(rates, losses, losses, 0.03))).axes[0]
    assert axes.get_xscale() == "log"
    assert "falls fastest at 0.03" in texts(axes)
    assert axes.lines[2].get_xdata()[0] == 0.03


def test_training_leaves_room_for_those_that_train():
    good = np.linspace(3, 1, 250)
    runs = {"good": good, "exploding": [3.0, 1e6, 1e9], "failed": [3.0, np.inf], "none": []}
    axes = drawn(plot_training(runs)).axes[0]
    assert texts(axes) == list(runs)
    low, high = axes.get_ylim()
    assert low < 1 and 3 < high < 10, "one run that explodes hides all the others"
    many = {str(i): good for i in range(8)}
    lines = drawn(plot_training(many)).axes[0].lines
    styles = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(styles) == 8, "every network is to be told from every other"


def test_drawing_changes_no_setting():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    plot_layers({"one": recorded()})
    plot_training({"one": [1.0, 0.5]})
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == []
