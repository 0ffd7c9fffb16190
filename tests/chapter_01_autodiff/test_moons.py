"""Two moons: where the points lie, how many, how far they are blurred, and what a seed fixes."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_01_autodiff.moons import make_moons
from utils import manual_seed


def test_without_noise_the_points_lie_on_two_half_circles(rng):
    points, labels = make_moons(40, noise=0, rng=rng)
    upper, lower = points[labels == -1], points[labels == 1]
    np.testing.assert_allclose(np.hypot(upper[:, 0], upper[:, 1]), 1)
    np.testing.assert_allclose(np.hypot(lower[:, 0] - 1, lower[:, 1] - 0.5), 1)
    assert upper[:, 1].min() > -1e-12, "the first moon is the upper half of its circle"
    assert lower[:, 1].max() < 0.5 + 1e-12, "the second moon is the lower half of its circle"
    for moon in (upper, lower):
        assert np.ptp(moon[:, 0]) == pytest.approx(2), "a moon goes from end to end of its circle"


@pytest.mark.parametrize("samples", [2, 3, 10, 101])
def test_shapes_and_balance(samples, rng):
    points, labels = make_moons(samples, rng=rng)
    assert points.shape == (samples, 2) and labels.shape == (samples,)
    assert set(labels.tolist()) == {-1.0, 1.0}
    assert abs(labels.sum()) <= 1, "as many points on one moon as on the other"


def test_points_come_in_mixed_order(rng):
    _, labels = make_moons(100, rng=rng)
    assert 20 < np.count_nonzero(np.diff(labels)) < 80, "shuffle the points with their labels"


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_noise_is_the_standard_deviation(noise):
    points, labels = make_moons(8000, noise, rng=np.random.default_rng(1))
    upper = points[labels == -1]
    # Away from the circle's centre, a small blur in the plane is the blur of the distance.
    assert np.std(np.hypot(upper[:, 0], upper[:, 1])) == pytest.approx(noise, rel=0.05)


def test_the_same_seed_gives_the_same_moons():
    first, second = (make_moons(20, rng=np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    manual_seed(5)
    first = make_moons(20)
    manual_seed(5)
    np.testing.assert_array_equal(first[0], make_moons(20)[0], "manual_seed must reach this too")
    other = make_moons(20, rng=np.random.default_rng(6))
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1, 0.1), "not 1"), ((-4, 0.1), "not -4"), ((10, -0.1), "-0.1"), ((10, float("nan")), "nan")],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_moons(*arguments)
