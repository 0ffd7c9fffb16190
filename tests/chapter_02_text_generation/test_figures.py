"""Chapter 2's figures: values that can be saved, for alphabets and losses of every size."""

from __future__ import annotations

import io
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from chapter_02_text_generation.figures import plot_bigrams, plot_embedding, plot_losses


def drawn(figure):
    assert isinstance(figure, Figure), "a plotting function returns its Figure"
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    return file.getvalue()


def bigrams(tokens):
    return plot_bigrams(np.full((len(tokens), len(tokens)), 1 / len(tokens)), tokens)


def test_bigrams_name_every_row_and_column():
    tokens = ["·", "a", "b"]
    axes = bigrams(tokens).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == tokens
    assert [label.get_text() for label in axes.get_yticklabels()] == tokens
    values = np.asarray(axes.images[0].get_array())
    assert values.shape == (3, 3)


@pytest.mark.parametrize(
    "tokens", [["a"], list("abc"), list("$_^\\%{}#&~"), ["$", "$"]], ids=lambda t: "".join(t)
)
def test_bigrams_of_any_alphabet(tokens):
    drawn(bigrams(tokens))


def test_bigrams_of_a_large_alphabet_fit_into_memory():
    width, height = bigrams([chr(0x100 + i) for i in range(300)]).get_size_inches()
    assert width * height < 50 * 50, (
        f"300 characters make a figure of {width:.0f} by {height:.0f} inches: at 150 dots an inch "
        "that takes gigabytes"
    )


@pytest.mark.parametrize("steps", [1, 2, 99, 100, 250])
def test_losses_of_any_length(steps):
    losses = np.linspace(3, 2, steps).tolist()
    figure = plot_losses(losses, {"bigram": 2.45, "trigram": 2.2})
    assert drawn(figure)
    curve = figure.axes[0].lines[0]
    x, y = curve.get_data()
    assert len(x) == len(y) >= 1
    assert 2 <= np.min(y) <= np.max(y) <= 3, "smoothing averages, so it stays between the losses"
    assert np.max(x) <= steps and np.mean(y) == pytest.approx(np.mean(losses), abs=0.01)


def test_losses_with_no_references_and_with_many():
    drawn(plot_losses([2.0, 1.0], {}))
    references = {f"model {i}": 1 + i / 10 for i in range(4)}
    levels = [line.get_ydata()[0] for line in plot_losses([2.0, 1.0], references).axes[0].lines[1:]]
    assert sorted(levels) == pytest.approx(sorted(references.values())), "one line for each model"


def test_losses_of_a_training_that_failed():
    drawn(plot_losses([3.0, math.inf, math.nan], {"bigram": math.nan}))


@pytest.mark.parametrize("count", [2, 3, 27])
def test_embedding_shows_every_token_once(count):
    tokens = [chr(ord("a") + i) for i in range(count)]
    vectors = np.random.default_rng(0).normal(size=(count, 5))
    figure = plot_embedding(vectors, tokens)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(shown) == tokens
    drawn(figure)


def test_embedding_keeps_the_distances_of_vectors_in_a_plane():
    vectors = np.full((4, 6), 50.0)  # far from the origin, where they do not differ
    vectors[:, [1, 4]] = [[0, 0], [3, 0], [3, 1], [0, 1]]
    figure = plot_embedding(vectors, list("abcd"))
    places = np.array([text.get_position() for text in figure.axes[0].texts])
    between = lambda points: np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(
        between(places),
        between(vectors),
        atol=1e-9,
        err_msg="project on the two directions in "
        "which the vectors differ most, after subtracting their mean",
    )


@pytest.mark.parametrize("size", [1, 2])
def test_embedding_of_few_dimensions(size):
    drawn(plot_embedding(np.random.default_rng(0).normal(size=(6, size)), list("abcdef")))


def test_drawing_changes_no_setting_and_shows_nothing():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    bigrams(list("ab"))
    plot_losses([2.0, 1.0], {})
    plot_embedding(np.eye(3), list("abc"))
    assert dict(matplotlib.rcParams) == before, "the reader's own style must be back afterwards"
    assert plt.get_fignums() == [], "make figures with matplotlib.figure, pyplot keeps a list"
