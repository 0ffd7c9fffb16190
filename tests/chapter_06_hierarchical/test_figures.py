"""Chapter 6's figures: what they show is what they were given, and every part of it."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from chapter_03_neural_nets import History
from chapter_06_hierarchical import (
    plot_accuracy_by_depth,
    plot_expression,
    plot_feature_maps,
    plot_influence,
    plot_receptive_field,
    plot_saliency,
    plot_validation,
)
from chapter_06_hierarchical.expression_models import CHAIN_SYMBOLS
from chapter_06_hierarchical.figures import SHOWN, placed

TREE = ("And", ("Not", 0), ("Or", 1, ("Lt", 0, 1), 0))


def drawn(figure):
    assert isinstance(figure, Figure), "a plotting function returns its Figure"
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def shown(axes):
    return np.asarray(axes.images[0].get_array())


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_feature_maps_show_every_channel_of_every_layer(rng):
    image = rng.random((8, 8))
    maps = {"first": rng.random((2, 6, 6)), "second": -rng.random((5, 3, 3))}
    figure = drawn(plot_feature_maps(image, maps))
    with_picture = [ax for ax in figure.axes if ax.images]
    assert len(with_picture) == 1 + 2 + 5
    assert np.array_equal(shown(with_picture[0]), image)
    for ax, channel in zip(with_picture[1:], [*maps["first"], *maps["second"]]):
        assert np.array_equal(shown(ax), channel)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "first: 2 channels of 6 x 6" in titles and "second: 5 channels of 3 x 3" in titles


def test_saliency_is_on_a_scale_whose_middle_is_nothing(rng):
    images, gradients = rng.random((3, 8, 8)), rng.normal(size=(3, 8, 8))
    gradients[2] = 0  # of a unit that is off
    figure = drawn(plot_saliency(images, gradients, ["a", "b", "c"]))
    above, below = np.reshape(figure.axes, (2, 3))
    assert [ax.get_title() for ax in above] == ["a", "b", "c"]
    for i in range(3):
        assert np.array_equal(shown(above[i]), images[i])
        assert np.array_equal(shown(below[i]), gradients[i])
        low, high = below[i].images[0].get_clim()
        assert -low == high == np.abs(gradients[i]).max()


def history(losses, every=2):
    evaluations = [{"step": every * (i + 1), "loss": loss} for i, loss in enumerate(losses)]
    return History(losses=[1.0] * every * len(losses), evaluations=evaluations)


def test_validation_is_over_the_share_of_each_training():
    histories = {"short": history([3.0, 2.0]), "long": history([3.0, 2.5, 2.0, 1.5, np.nan])}
    axes = drawn(plot_validation({**histories, "none": History()}, "Names")).axes[0]
    assert axes.get_title() == "Names" and legend(axes) == ["short", "long", "none"]
    x, y = axes.lines[0].get_data()
    assert list(x) == [0.5, 1.0] and list(y) == [3.0, 2.0]
    assert axes.lines[1].get_xdata()[-1] == 1.0


@pytest.mark.parametrize(
    "draw",
    [
        lambda names: plot_validation({name: history([2.0, 1.0]) for name in names}, ""),
        lambda names: plot_accuracy_by_depth({name: {2: 0.9, 3: 0.8} for name in names}, 2),
    ],
    ids=["validation", "accuracy by depth"],
)
def test_of_eight_lines_none_is_left_out_or_looks_like_another(draw):
    names = list("abcdefgh")
    axes = drawn(draw(names)).axes[0]
    assert legend(axes) == names, "all that was given is to be seen"
    lines = [line for line in axes.lines if line.get_label() in names]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 8


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (1, 2, 4), (1, 2, 4, 8), (1, 1), (3, 3)])
def test_the_tokens_that_reach_the_last_output_are_drawn_dark(dilations):
    axes = drawn(plot_receptive_field(dilations)).axes[0]
    nodes = [line for line in axes.lines if len(line.get_xdata()) == 1]
    at = {(line.get_ydata()[0], line.get_xdata()[0]): line.get_color() for line in nodes}
    last = max(at)
    assert last[0] == len(dilations)
    offsets = {0}
    for dilation in dilations:
        offsets |= {offset + dilation for offset in offsets}
    dark = {last[1] - x for (y, x), colour in at.items() if y == 0 and colour == at[last]}
    assert dark == offsets
    assert axes.get_title() == f"The last output depends on {len(offsets)} tokens"
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert ticks == ["tokens", *(f"dilation {d}" for d in dilations)]


def test_influence_is_the_share_of_the_largest_in_each_row():
    influence = np.array([[2.0, 0.0, 0.0], [3.0, 1.5, 0.0], [0.0, 0.0, 0.0]])
    figure = drawn(plot_influence([list("·ab·"), list("·c·")], [influence, influence[:2, :2]]))
    first, second = (ax for ax in figure.axes if ax.images)
    assert shown(first).tolist() == [[1, 0, 0], [1, 0.5, 0], [0, 0, 0]]
    assert [label.get_text() for label in first.get_xticklabels()] == ["·", "a", "b"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["a", "b", "·"]
    assert shown(second).shape == (2, 2)


def test_accuracy_by_depth_tells_what_was_learnt_from():
    accuracies = {"tree": {3: 0.99, 4: 0.9, 6: 0.8}, "bag": {3: 0.6, 4: 0.55, 6: 0.5}}
    axes = drawn(plot_accuracy_by_depth(accuracies, 3)).axes[0]
    assert legend(axes) == ["tree", "bag"]
    x, y = axes.lines[0].get_data()
    assert list(x) == [3, 4, 6] and list(y) == [0.99, 0.9, 0.8]
    low, high = axes.get_ylim()
    assert low < 0.5 and high > 1, "chance and certainty are both to be seen"


# Expressions


def test_every_part_is_placed_once_above_the_middle_of_its_own():
    parts = placed(TREE)
    by_place = {(x, level): part for part, x, level, _ in parts}
    assert len(by_place) == len(parts) == 9, "no two parts in one place"
    ((root, root_x, level),) = [(p, x, n) for p, x, n, parent in parts if parent is None]
    assert root == TREE and level == 0
    for part, x, level, parent in parts:
        if parent is not None:
            assert part in by_place[parent][1:] and parent[1] == level - 1
        below = [found for _, found, n, above in parts if above == (x, level)]
        if isinstance(part, tuple):
            assert len(below) == len(part) - 1 and x == sum(below) / len(below)
    levels = [[x for _, x, level, _ in parts if level == n] for n in range(4)]
    for xs in levels:
        assert all(b - a >= 1 for a, b in zip(sorted(xs), sorted(xs)[1:])), "parts overlap"


def test_an_expression_shows_its_symbols_truths_and_beliefs():
    beliefs = {("Not", 0): 0.25, ("Lt", 0, 1): 0.75, TREE[2]: 1.0, TREE: 0.5001, 0: 0.1, 1: 0.9}
    axes = drawn(plot_expression(TREE, beliefs.__getitem__)).axes[0]
    texts = {text.get_text(): text for text in axes.texts}
    assert {"and", "not", "or", "<", "0", "1"} <= set(texts)
    assert {"True\n25%", "True\n75%", "True\n100%", "True\n50%"} <= set(texts)
    assert len(axes.lines) == 8, "a line to every part but the root"
    wrong, right = texts["True\n25%"].get_color(), texts["True\n75%"].get_color()
    assert wrong != right, "what is held for false and is true stands out"


def test_a_part_without_a_truth_is_not_held_against_the_network():
    axes = drawn(plot_expression(("Or", 1, ("Mod", 1, 0)), lambda part: 0.9)).axes[0]
    assert any(text.get_text().startswith("None\n") for text in axes.texts)
    drawn(plot_expression(1, lambda part: 0.9))


def test_every_symbol_can_be_shown():
    assert set(CHAIN_SYMBOLS) - set(SHOWN) == {"0", "1", "(", ")"}


def test_drawing_changes_no_setting():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    plot_receptive_field((1, 2))
    plot_validation({"one": history([1.0])}, "")
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == []
