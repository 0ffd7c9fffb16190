"""Chapter 7's figures: Figures, with labels that can be read, also of odd sizes."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from chapter_07_attention import (
    causal_mask,
    plot_attention,
    plot_losses_by_place,
    plot_masks,
    sliding_window_mask,
)


def drawn(figure):
    assert isinstance(figure, Figure), "a plotting function returns its Figure"
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def shares_of(heads, queries, keys):
    shares = np.random.default_rng(0).random((heads, queries, keys))
    return shares / shares.sum(axis=-1, keepdims=True)


def texts(labels):
    return [label.get_text() for label in labels]


def images(figure):
    return [axes for axes in figure.axes if axes.images]


@pytest.mark.parametrize("heads", [1, 2, 4, 5, 12])
def test_a_picture_for_each_head(heads):
    shares = shares_of(heads, 3, 4)
    figure = drawn(plot_attention(shares, list("abc"), list("wxyz"), "Where"))
    pictures = images(figure)
    assert len(pictures) == heads and "Where" in texts(figure.texts)
    for picture, share in zip(pictures, shares):
        np.testing.assert_allclose(picture.images[0].get_array(), share)
        assert texts(picture.get_yticklabels()) == list("abc"), "queries are the rows"
        assert texts(picture.get_xticklabels()) == list("wxyz"), "keys are the columns"
    if heads > 1:
        titles = [picture.get_title() for picture in pictures]
        assert titles == [f"head {i + 1}" for i in range(heads)]


def test_tokens_that_cannot_be_seen_get_a_sign():
    tokens = ["\n", " ", "", " a", "\t"]
    figure = drawn(plot_attention(shares_of(1, 5, 5), tokens, tokens))
    labels = texts(images(figure)[0].get_xticklabels())
    assert all(label.strip() for label in labels) and len(set(labels)) == 5
    assert not any("\n" in label for label in labels), "a line break tears the axis apart"


@pytest.mark.parametrize("token", ["$", "$x$", "$\\frac", "a_b^c", "\\"])
def test_tokens_are_not_mathematics(token):
    """Matplotlib sets what stands between dollars as a formula, and fails where it is none."""
    figure = drawn(plot_attention(shares_of(1, 2, 2), [token, "$"], [token, token + "$"]))
    assert len(images(figure)) == 1


def test_attention_of_many_tokens_and_of_one():
    wide = drawn(plot_attention(shares_of(2, 20, 40), ["q"] * 20, ["k"] * 40))
    small = drawn(plot_attention(shares_of(2, 2, 2), ["q"] * 2, ["k"] * 2))
    assert wide.get_figwidth() > small.get_figwidth(), "labels need room"
    drawn(plot_attention(np.ones((1, 1, 1)), ["a"], ["b"]))


def test_masks_side_by_side():
    masks = {"causal": causal_mask(6), "window of 2": sliding_window_mask(2, 6)}
    pictures = images(drawn(plot_masks(masks)))
    assert [p.get_title() for p in pictures] == list(masks)
    assert "key" in pictures[0].get_xlabel() and "query" in pictures[0].get_ylabel()
    for picture, mask in zip(pictures, masks.values()):
        np.testing.assert_array_equal(picture.images[0].get_array().astype(bool), mask)
        assert picture.images[0].get_clim()[0] == 0, "one scale for all"
    drawn(plot_masks({"one": causal_mask(1)}))


@pytest.mark.parametrize("length", [256, 64, 16, 8, 1, 100])
def test_losses_by_place(length):
    losses = {"rotary": np.linspace(3, 2, length), "alibi": np.full(length, 2.5)}
    (axes,) = drawn(plot_losses_by_place(losses, max(length // 4, 1))).axes
    assert texts(axes.get_legend().get_texts()) == list(losses)
    assert "place" in axes.get_xlabel() and "loss" in axes.get_ylabel() and axes.get_title()
    curves = {line.get_label(): line for line in axes.lines}
    x, y = curves["alibi"].get_data()
    np.testing.assert_allclose(y, 2.5)
    assert len(x) >= 1 and 0 <= x[0] <= x[-1] <= length, "no point lies behind the text's end"
    assert length // 4 in [line.get_xdata()[0] for line in axes.lines] or length < 4


def test_every_scheme_is_told_from_every_other():
    losses = {name: np.ones(64) for name in ("learned", "sinusoidal", "rotary", "alibi", "none")}
    lines = drawn(plot_losses_by_place(losses, 16)).axes[0].lines
    styles = {(line.get_color(), line.get_linestyle()) for line in lines[:5]}
    assert len(styles) == 5, "also in greyscale"


def test_the_reader_s_settings_are_left_alone():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    plot_attention(shares_of(2, 2, 2), ["a", "b"], ["a", "b"])
    plot_masks({"causal": causal_mask(3)})
    plot_losses_by_place({"rotary": np.ones(64)}, 16)
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == []
