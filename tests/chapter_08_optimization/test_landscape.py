"""The landscape: surfaces known in closed form, directions, planes, and weights that come back."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import Embedding, Linear, Module, Parameter, Sequential
from chapter_04_training_dynamics import BatchNorm1d
from chapter_06_hierarchical import Conv2d
from chapter_08_optimization import (
    Plane,
    loss_surface,
    path_between,
    principal_plane,
    random_direction,
    random_plane,
    weights_of,
)
from chapter_08_optimization.landscape import sharpness
from utils import manual_seed


class Weights(Module):
    """Two parameters and nothing else."""

    def __init__(self, *arrays):
        super().__init__()
        self.first, self.second = (Parameter(np.array(a)) for a in arrays)


def model(dtype=np.float64):
    return Weights(np.array([[1.0, 2.0], [3.0, 4.0]], dtype), np.array([5.0, 6.0], dtype))


def square(model):
    return sum(float(np.sum(np.square(p.data))) for p in model.parameters()) / 2


def test_weights_lie_side_by_side_and_are_a_copy():
    net = model()
    flat = weights_of(net)
    assert flat.tolist() == [1, 2, 3, 4, 5, 6], "in the order of parameters()"
    flat[...] = 0
    assert net.first.data[0, 0] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_surface_of_a_quadratic(dtype, rng):
    net = model(dtype)
    before = weights_of(net)
    origin, x, y = rng.normal(size=(3, 6))
    a, b = np.linspace(-2, 1, 4), np.linspace(-1, 3, 5)
    surface = loss_surface(net, square, Plane(origin, x, y), a, b)
    # |o + a x + b y|^2 / 2: a runs along columns, b along rows.
    expected = [[np.sum(np.square(origin + i * x + j * y)) / 2 for i in a] for j in b]
    np.testing.assert_allclose(
        surface, expected, rtol=1e-5, err_msg="surface[row of b, column of a]"
    )
    np.testing.assert_array_equal(weights_of(net), before)
    assert net.first.data.dtype == dtype


def test_no_graph_is_built():
    net = model()

    def loss(net):
        value = np.sum(net.first * net.first)
        assert not value.requires_grad, "nobody needs gradients of a picture"
        return value.item()

    plane = Plane(weights_of(net), np.ones(6), np.zeros(6))
    surface = loss_surface(net, loss, plane, [0.0, 1.0], [0.0])
    np.testing.assert_allclose(surface, [[30, 54]])


def test_a_cliff_is_infinite_and_no_error():
    net = model(np.float32)
    loss = lambda net: np.sum(np.exp(net.first.data)).item()
    plane = Plane(weights_of(net), np.ones(6), np.zeros(6))
    assert loss_surface(net, loss, plane, [1000.0], [0.0])[0, 0] == np.inf


def test_the_weights_come_back_when_the_loss_fails():
    net = model()
    array = net.first.data

    def fail(net):
        assert net.first.data[0, 0] == 101
        raise RuntimeError("no such data")

    plane = Plane(weights_of(net), np.full(6, 100.0), np.zeros(6))
    with pytest.raises(RuntimeError, match="no such data"):
        loss_surface(net, fail, plane, [1.0], [0.0])
    assert weights_of(net).tolist() == [1, 2, 3, 4, 5, 6] and net.first.data is array
    with pytest.raises(RuntimeError, match="no such data"):
        path_between(net, fail, weights_of(net), weights_of(net) + 100, [1.0])
    assert weights_of(net).tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("size", [5, 7, 3])
def test_a_plane_of_another_model_is_refused_and_changes_nothing(size):
    net = model()
    with pytest.raises(ValueError):
        loss_surface(net, square, Plane(*np.full((3, size), 9.0)), [0.0], [0.0])
    assert weights_of(net).tolist() == [1, 2, 3, 4, 5, 6], "half the weights are another model's"


# Directions


def network():
    manual_seed(0)
    return Sequential(Conv2d(2, 3, 3), Linear(4, 5), BatchNorm1d(5), Embedding(6, 4))


def parts(model, flat):
    start = 0
    for name, p in model.named_parameters():
        yield name, p, flat[start : start + p.size].reshape(p.shape)
        start += p.size
    assert start == len(flat)


def test_a_random_direction_is_as_long_in_each_row_as_the_weights(rng):
    net = network()
    net[1].weight.data[2] = 0.0
    before = weights_of(net)
    direction = random_direction(net, rng)
    assert direction.shape == before.shape
    np.testing.assert_array_equal(weights_of(net), before)
    for name, p, part in parts(net, direction):
        if p.ndim < 2:
            assert not part.any(), f"{name} is a bias or a norm's, and stays"
            continue
        lengths = [np.linalg.norm(a.reshape(len(p), -1), axis=1) for a in (part, p.data)]
        np.testing.assert_allclose(*lengths, rtol=1e-5, err_msg=f"{name}: |row| of both")
        # Random, and not along the weights themselves: those would only stretch the net.
        cosine = np.sum(part * p.data) / (np.linalg.norm(part) * np.linalg.norm(p.data))
        assert abs(cosine) < 0.9, name


def test_a_filter_has_one_length_for_all_that_is_in_it(rng):
    net = Sequential(Conv2d(2, 3, 3))
    net[0].weight.data[...] = 0.0
    net[0].weight.data[:, 0, 1, 1] = 2.0
    (_, _, kernel), _ = parts(net, random_direction(net, rng))
    assert (kernel != 0).all(), "each filter is stretched as a whole, not channel by channel"


def test_directions_are_random_and_repeatable():
    net = network()
    one, two = (random_direction(net, np.random.default_rng(s)) for s in (0, 1))
    assert (random_direction(net, np.random.default_rng(0)) == one).all() and (one != two).any()
    manual_seed(3)
    default = random_direction(net)
    manual_seed(3)
    np.testing.assert_array_equal(random_direction(net), default)
    plane = random_plane(net, np.random.default_rng(0))
    np.testing.assert_array_equal(plane.origin, weights_of(net))
    np.testing.assert_array_equal(plane.x, one)
    cosine = plane.x @ plane.y / (np.linalg.norm(plane.x) * np.linalg.norm(plane.y))
    assert abs(cosine) < 0.5, "two directions, not one twice"


# Planes through a path


def flat_path(rng, dtype=np.float64, size=50, count=8):
    """Points of a plane through `last`, its axes, and their places in it."""
    basis = np.linalg.qr(rng.normal(size=(size, 2)))[0].T
    places = rng.normal(size=(count, 2)) * [5.0, 1.0]
    places[-1] = 0
    last = rng.normal(size=size)
    return (last + places @ basis).astype(dtype), basis


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_of_a_plane_are_found_in_it(dtype, rng):
    points, basis = flat_path(rng, dtype)
    plane = principal_plane(list(points))
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    axes = np.stack([plane.x, plane.y])
    np.testing.assert_allclose(
        axes @ axes.T, np.eye(2), atol=tolerance, err_msg="length 1, at right angles"
    )
    np.testing.assert_array_equal(plane.origin, points[-1])
    places = plane.coordinates(list(points))
    assert places.shape == (8, 2)
    np.testing.assert_allclose(plane.origin + places @ axes, points, atol=10 * tolerance)
    np.testing.assert_allclose(places[-1], 0, atol=tolerance, err_msg="the last is the origin")
    spread = np.sum(places**2, axis=0)
    assert spread[0] > spread[1], "the first axis is where the points differ most"
    # The largest spread that any axis of the plane could have.
    expected = np.linalg.svd((points - points[-1]).astype(np.float64), compute_uv=False)[:2] ** 2
    np.testing.assert_allclose(spread, expected, rtol=1e-4)


def test_the_plane_is_the_nearest_to_points_that_lie_in_none(rng):
    points = rng.normal(size=(10, 6)) * [9, 5, 1, 1, 1, 1]
    origin = rng.normal(size=6)
    plane = principal_plane(points, origin)
    np.testing.assert_array_equal(plane.origin, origin)

    def missed(plane):
        near = plane.origin + plane.coordinates(points) @ np.stack([plane.x, plane.y])
        return np.sum(np.square(points - near))

    best = np.sum(np.linalg.svd(points - origin, compute_uv=False)[2:] ** 2)
    assert missed(plane) == pytest.approx(best)
    for _ in range(10):
        assert missed(Plane(origin, *rng.normal(size=(2, 6)))) >= best


def test_coordinates_are_right_for_axes_that_are_neither_long_1_nor_orthogonal():
    plane = Plane(np.ones(3), np.array([2.0, 0, 0]), np.array([1.0, 1.0, 0]))
    found = plane.coordinates([np.array([4.0, 2.0, 9.0]), np.ones(3)])
    np.testing.assert_allclose(found, [[1, 1], [0, 0]], atol=1e-12)


def test_points_of_a_line_are_refused_or_still_have_two_axes():
    direction = np.arange(1.0, 31.0) / np.linalg.norm(np.arange(1.0, 31.0))
    try:
        plane = principal_plane([1 + t * direction for t in (5.0, 3.0, 2.0, 0.0)])
    except ValueError:
        return  # also an answer: no plane is nearest to a line
    assert abs(plane.x @ direction) == pytest.approx(1)
    assert np.linalg.norm(plane.y) == pytest.approx(1), "its axes are of length 1"
    assert plane.x @ plane.y == pytest.approx(0, abs=1e-6), "rounding is no second direction"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_points_make_no_plane(count):
    with pytest.raises(ValueError, match=f"three points or more, not {count}"):
        principal_plane([np.ones(4)] * count)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_path_that_diverged_has_no_plane(wrong):
    points = [np.zeros(4), np.ones(4), np.arange(4.0), np.full(4, wrong)]
    with pytest.raises(ValueError, match="diverged"):
        principal_plane(points)


@pytest.mark.parametrize("directions", [0, -1, 1.5])
def test_sharpness_needs_a_direction(directions):
    with pytest.raises(ValueError, match="directions"):
        sharpness(model(), lambda net: 1.0, 0.5, directions)


def test_a_path_goes_from_the_first_to_the_last(rng):
    net = model()
    before = weights_of(net)
    first, last = rng.normal(size=(2, 6))
    shares = [-0.5, 0.0, 0.25, 1.0, 1.5]
    found = path_between(net, square, first, last, shares)
    expected = [np.sum(np.square((1 - s) * first + s * last)) / 2 for s in shares]
    assert found.shape == (5,)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(weights_of(net), before)
