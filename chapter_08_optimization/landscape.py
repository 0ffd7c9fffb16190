"""The loss on a plane through the weights: what a minimum looks like, and how it was reached.

A network has as many directions as parameters. Two of them make a picture. Random ones, as long in
each filter as its weights are (else a net of small weights looks sharp and means nothing by it),
show the valley; the two along which the points of a path differ most show the path.
"""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator, NamedTuple, Sequence

import numpy as np

from chapter_03_neural_nets import Module
from chapter_03_neural_nets.training import check_count
from utils import no_grad
from utils.seeding import generator


def weights_of(model: Module) -> np.ndarray:
    """All parameters side by side, as one copy: (N,)."""
    return np.concatenate([p.data.ravel() for p in model.parameters()])


@contextlib.contextmanager
def weights_set(model: Module, flat: np.ndarray) -> Iterator[None]:
    """The model with other weights (N,); its own come back afterwards."""
    own = weights_of(model)
    if np.shape(flat) != own.shape:
        raise ValueError(f"the model has {len(own)} weights, not an array {np.shape(flat)} of them")
    try:
        _put(model, flat)
        yield
    finally:
        _put(model, own)


def _put(model: Module, flat: np.ndarray) -> None:
    start = 0
    for p in model.parameters():
        p.data[...] = flat[start : start + p.size].reshape(p.shape)
        start += p.size


def random_direction(model: Module, rng: np.random.Generator | None = None) -> np.ndarray:
    """A random direction whose part in each row or filter is as long as that is: (N,).

    Biases and the weights of norms stay. Source: Li et al., 2017, arXiv:1712.09913.
    """
    rng, parts = generator(rng), []
    for p in model.parameters():
        direction = rng.standard_normal(p.shape)
        if p.ndim < 2:
            direction[...] = 0
        axes = tuple(range(1, p.ndim))
        length, own = (
            np.sqrt(np.sum(a * a, axis=axes, keepdims=True)) for a in (direction, p.data)
        )
        parts.append((direction * own / np.maximum(length, 1e-12)).ravel())
    return np.concatenate(parts)


class Plane(NamedTuple):
    """The points origin + a x + b y of the weights' space, all (N,)."""

    origin: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def coordinates(self, points: Sequence[np.ndarray]) -> np.ndarray:
        """(a, b) of the points of the plane nearest to these: (number of points, 2)."""
        axes = np.stack([self.x, self.y], axis=1).astype(np.float64)
        offsets = np.stack(points).astype(np.float64) - self.origin
        return np.linalg.lstsq(axes, offsets.T, rcond=None)[0].T


def random_plane(model: Module, rng: np.random.Generator | None = None) -> Plane:
    """A plane through the model's weights in two random directions."""
    return Plane(weights_of(model), random_direction(model, rng), random_direction(model, rng))


def principal_plane(points: Sequence[np.ndarray], origin: np.ndarray | None = None) -> Plane:
    """The plane through the last point, or another origin, that is nearest to all points.

    Its axes are the first two principal directions, of length 1. Source: Li et al., 2017,
    arXiv:1712.09913.
    """
    if len(points) < 3:
        raise ValueError(f"a plane goes through three points or more, not {len(points)}")
    if not np.isfinite(points).all():
        raise ValueError("a point is NaN or infinite: a path that diverged lies in no plane")
    origin = points[-1] if origin is None else origin
    offsets = np.stack(points).astype(np.float64) - origin
    _, vectors = np.linalg.eigh(offsets @ offsets.T)  # few points, many weights
    axes = [offsets.T @ vectors[:, -i] for i in (1, 2)]
    first, second = (np.linalg.norm(axis) for axis in axes)
    if not second > 1e-6 * first:
        raise ValueError("the points lie on a line, through which there are many planes")
    return Plane(origin, axes[0] / first, axes[1] / second)


def loss_surface(
    model: Module,
    loss: Callable[[Module], float],
    plane: Plane,
    a: np.ndarray,
    b: np.ndarray,
) -> np.ndarray:
    """The loss at origin + a x + b y for all pairs: (len(b), len(a)); the weights come back.

    `loss` should judge in evaluation mode, or running statistics change.
    """
    surface = np.empty((len(b), len(a)))
    with no_grad(), np.errstate(over="ignore", invalid="ignore"), weights_set(model, plane.origin):
        for i, j in np.ndindex(*surface.shape):
            _put(model, plane.origin + a[j] * plane.x + b[i] * plane.y)
            surface[i, j] = loss(model)
    return surface


def path_between(
    model: Module,
    loss: Callable[[Module], float],
    first: np.ndarray,
    last: np.ndarray,
    shares: np.ndarray,
) -> np.ndarray:
    """The loss along the straight line: at (1 - share) first + share last, for each share.

    Source: Goodfellow, Vinyals, Saxe, 2014, arXiv:1412.6544.
    """
    plane = Plane(first, last - first, np.zeros_like(first))
    return loss_surface(model, loss, plane, np.asarray(shares), np.zeros(1))[0]


def sharpness(
    model: Module,
    loss: Callable[[Module], float],
    distance: float,
    directions: int = 20,
    rng: np.random.Generator | None = None,
) -> float:
    """How much higher the loss is, on average, so many filters' lengths away at random."""
    check_count("directions", directions, least=1)
    rng, here = generator(rng), weights_of(model)
    ends = (here + random_direction(model, rng) for _ in range(directions))
    rises = (np.diff(path_between(model, loss, here, end, [0, distance])) for end in ends)
    return float(np.mean(list(rises)))
