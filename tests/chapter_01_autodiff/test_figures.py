"""Chapter 1's figures: values that can be saved, whatever is drawn, and no trace left behind."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from chapter_01_autodiff.figures import plot_decision_boundary, plot_difference_errors

POINTS = np.random.default_rng(0).normal(size=(12, 2))
LABELS = np.where(POINTS[:, 0] > 0, 1.0, -1.0)


def drawn(figure):
    assert isinstance(figure, Figure), "a plotting function returns its Figure"
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def error_curve(**errors):
    return plot_difference_errors(np.logspace(-1, -9, 5), errors)


def test_difference_errors_are_logarithmic_both_ways():
    axes = error_curve(one=np.logspace(-2, -6, 5), two=np.logspace(-3, -9, 5)).axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert len(axes.lines) == 2
    assert axes.get_xlabel() and axes.get_ylabel()


def test_an_error_of_exactly_zero_is_drawn_too():
    drawn(error_curve(one=np.array([1e-2, 0, 1e-4, 0, 0])))


def test_decision_boundary_asks_for_the_score_of_points_in_the_plane():
    asked = []

    def score(points):
        asked.append(np.array(points))
        return points[:, 0]

    figure = plot_decision_boundary(score, POINTS, LABELS, resolution=6)
    assert drawn(figure)
    grid = np.concatenate(asked)
    assert grid.shape[1] == 2
    assert (grid.min(axis=0) < POINTS.min(axis=0)).all(), "the plane must reach past the points"
    assert (grid.max(axis=0) > POINTS.max(axis=0)).all()
    assert figure.axes[0].get_xlabel() and figure.axes[0].get_ylabel()


@pytest.mark.parametrize(
    "score",
    [
        lambda points: np.ones(len(points)),
        lambda points: np.zeros(len(points)),
        lambda points: np.full(len(points), np.nan),
    ],
    ids=["all on one side", "all zero", "NaN after a training that failed"],
)
def test_decision_boundary_without_a_boundary(score):
    drawn(plot_decision_boundary(score, POINTS, LABELS, resolution=6))


def test_points_of_one_label():
    drawn(plot_decision_boundary(lambda p: p[:, 0], POINTS, np.ones(12), resolution=6))


def test_drawing_changes_no_setting_and_shows_nothing():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    error_curve(one=np.ones(5))
    plot_decision_boundary(lambda p: p[:, 0], POINTS, LABELS, resolution=6)
    assert dict(matplotlib.rcParams) == before, "the reader's own style must be back afterwards"
    assert plt.get_fignums() == [], "make figures with matplotlib.figure, pyplot keeps a list"
