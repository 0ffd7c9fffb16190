"""Chapter 3's figures: values with labels and legends, for ordinary input and for what fails."""

from __future__ import annotations

import io
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from chapter_03_neural_nets import (
    SCHEMES,
    History,
    plot_confusion_matrix,
    plot_history,
    plot_images,
    plot_variances,
    variances_through_depth,
)
from chapter_03_neural_nets.variance import Variances


def drawn(figure):
    assert isinstance(figure, Figure), "a plotting function returns its Figure"
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def history(steps, *evaluations):
    losses = np.linspace(3, 2, steps).tolist()
    return History(losses, [{"step": s, "loss": loss, "accuracy": 0.5} for s, loss in evaluations])


# Histories


def test_a_history_shows_training_and_validation():
    figure = drawn(plot_history(history(300, (150, 2.6), (300, 2.1)), title="Names"))
    axes = figure.axes[0]
    assert axes.get_xlabel() == "step" and "loss" in axes.get_ylabel()
    assert axes.get_title() == "Names" and legend(axes) == ["training batches", "validation"]
    training, validation = axes.lines
    assert validation.get_xydata().tolist() == [[150, 2.6], [300, 2.1]]
    assert np.mean(training.get_ydata()) == pytest.approx(2.5, abs=0.01)


@pytest.mark.parametrize("steps", [0, 1, 2, 99, 100, 101, 250, 1234])
def test_histories_of_any_length(steps):
    axes = drawn(plot_history(history(steps))).axes[0]
    x, y = axes.lines[0].get_data()
    assert len(x) == len(y) and (steps == 0 or 1 <= len(x) < 200)
    if steps:
        assert 2 <= np.min(y) <= np.max(y) <= 3, "a mean lies between its numbers"
        assert np.min(x) >= 0 and np.max(x) <= steps
    assert legend(axes) == ["training batches"]


def test_the_history_of_a_training_that_failed():
    drawn(plot_history(History([3.0, math.inf, math.nan], [{"step": 3, "loss": math.nan}])))


def test_another_metric_has_its_own_name_and_unit():
    label = drawn(plot_history(history(9, (9, 2.0)), "accuracy")).axes[0].get_ylabel()
    assert "accuracy" in label and "nats" not in label, "an accuracy is not measured in nats"


# Confusion


def test_confusion_names_the_classes_and_the_share_that_is_right():
    counts = np.array([[8, 2, 0], [0, 10, 0], [1, 0, 9]])
    before = counts.copy()
    axes = drawn(plot_confusion_matrix(counts, ["a", "b", "c"])).axes[0]
    np.testing.assert_array_equal(counts, before, "drawing must not change the counts")
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_xlabel() == "taken for" and axes.get_ylabel() == "true class"
    assert "90.0%" in axes.get_title()
    mistakes = {t.get_position(): t.get_text() for t in axes.texts}
    assert mistakes == {(1, 0): "2", (0, 2): "1"}, "x is what it was taken for, y what it was"


@pytest.mark.parametrize(
    "counts", [np.array([[5]]), np.zeros((3, 3), int), 7 * np.eye(4, dtype=int)], ids=str
)
def test_confusion_without_a_mistake(counts):
    figure = drawn(plot_confusion_matrix(counts, [str(i) for i in range(len(counts))]))
    assert not figure.axes[0].texts


def test_confusion_of_many_classes_fits_a_page(rng):
    figure = drawn(
        plot_confusion_matrix(rng.integers(9, size=(62, 62)), [str(i) for i in range(62)])
    )
    assert max(figure.get_size_inches()) < 30
    plot_confusion_matrix(rng.integers(9, size=(3, 3)), ["$", "_", "^"])


# Images


def shown(figure):
    return [ax.images[0] for ax in figure.axes if ax.images]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_every_image_is_shown_once_in_order(count):
    images = np.arange(count)[:, None, None] + np.linspace(0, 0.5, 12).reshape(1, 3, 4)
    figure = drawn(plot_images(images, columns=8))
    pictures = shown(figure)
    assert len(pictures) == count and len(figure.axes) % 8 == 0
    for picture, image in zip(pictures, images):
        np.testing.assert_array_equal(picture.get_array(), image)


def test_titles_and_columns():
    images = np.random.default_rng(0).random((5, 4, 4))
    figure = drawn(plot_images(images, ["one", "two", "three"], columns=3))
    assert [ax.get_title() for ax in figure.axes] == ["one", "two", "three", "", "", ""]


def test_zero_is_the_middle_of_signed_images_and_the_end_of_others(rng):
    signed, unsigned = rng.normal(size=(2, 3, 3)), rng.random((2, 3, 3))
    for picture in shown(drawn(plot_images(signed))):
        low, high = picture.get_clim()
        assert low == -high < 0
    for picture in shown(drawn(plot_images(unsigned))):
        assert picture.get_clim()[0] == 0


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_images_of_one_value(value):
    drawn(plot_images(np.full((2, 3, 3), value)))


def test_no_images_are_named():
    with pytest.raises(ValueError, match="image"):
        plot_images(np.zeros((0, 3, 3)))


# Variances


def test_every_scheme_has_a_line_on_both_sides():
    rng = np.random.default_rng(0)
    schemes = {
        name: variances_through_depth(fill, depth=6, width=16, samples=16, rng=rng)
        for name, fill in SCHEMES.items()
    }
    figure = drawn(plot_variances(schemes, ", tanh"))
    forward, backward = figure.axes
    assert legend(forward) == list(SCHEMES)
    for axes, what in [(forward, "activations"), (backward, "gradients")]:
        assert axes.get_yscale() == "log" and axes.get_xlabel() == "layer"
        assert what in axes.get_title() and ", tanh" in axes.get_title()
        assert len(axes.lines) == len(schemes)
        for line, variances in zip(axes.lines, schemes.values()):
            np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 7))
            np.testing.assert_allclose(line.get_ydata(), getattr(variances, what))
    styles = {(line.get_color(), line.get_linestyle()) for line in forward.lines}
    assert len(styles) == len(schemes), "tell the lines apart"


def test_more_schemes_than_colours_are_all_drawn():
    schemes = {str(i): Variances([1.0, 2.0], [2.0, 1.0]) for i in range(8)}
    axes = drawn(plot_variances(schemes)).axes[0]
    assert len(axes.lines) == 8 and legend(axes) == list(schemes), "none is dropped in silence"


@pytest.mark.parametrize(
    "values",
    [[1.0], [1.0, 0.0, 0.0], [math.inf] * 3, [math.nan] * 3, [1e300, math.inf, math.nan], [1e-300]],
)
def test_signals_that_vanish_or_explode(values):
    drawn(plot_variances({"one": Variances(values, values[::-1]), "He": Variances([1.0], [1.0])}))


# All


def test_drawing_changes_no_setting_and_shows_nothing():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    plot_history(history(5))
    plot_confusion_matrix(np.eye(2), ["a", "b"])
    plot_images(np.ones((1, 2, 2)))
    plot_variances({"He": Variances([1.0], [1.0])})
    assert dict(matplotlib.rcParams) == before, "the reader's own style must be back afterwards"
    assert plt.get_fignums() == [], "make figures with matplotlib.figure, pyplot keeps a list"
