"""Two numbers instead of a million: where optimisers differ can be seen as paths on a map.

A ravine is steep across and flat along. A learning rate small enough not to leap from wall to wall
hardly moves along the floor: that is what momentum, and a rate for every number, are for. Along the
axes a rate for every number makes the ravine round; a valley that bends is harder.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import numpy as np

from chapter_03_neural_nets import SGD, Adam, Optimizer
from chapter_03_neural_nets.evaluation import quietly
from chapter_08_optimization.adaptive import RMSprop
from chapter_08_optimization.lion import Lion
from chapter_08_optimization.sam import SAM
from utils import Tensor

Surface = Callable[[Any, Any], Any]  # of two numbers, or of two arrays alike


def ravine(x: Any, y: Any, along: float = 1.0, across: float = 40.0) -> Any:
    """(along x^2 + across y^2) / 2: lowest at (0, 0), and across / along is how hard it is."""
    return 0.5 * (along * (x * x) + across * (y * y))


def rosenbrock(x: Any, y: Any, across: float = 100.0) -> Any:
    """(1 - x)^2 + across (y - x^2)^2: a valley along a parabola, lowest at (1, 1).

    Source: Rosenbrock, 1960, doi:10.1093/comjnl/3.3.175.
    """
    ahead, aside = 1 - x, y - x * x
    return ahead * ahead + across * (aside * aside)


class Valley(NamedTuple):
    """A function of two numbers, the map that is drawn of it, and the paths that are walked there.

    `rates` are good ones for the optimisers in WALKERS; `lowest` is where the function is least.
    """

    title: str
    function: Surface
    x: tuple[float, float]
    y: tuple[float, float]
    lowest: tuple[float, float]
    start: tuple[float, float]
    steps: int
    rates: Mapping[str, float]


WALKERS: Mapping[str, Callable[..., Optimizer]] = {
    "SGD": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "RMSprop": partial(RMSprop, alpha=0.9),
    "Adam": Adam,
    "Lion": Lion,
}
VALLEYS: Mapping[str, Valley] = {
    "ravine": Valley(
        "A straight ravine",
        ravine,
        x=(-9.0, 3.0),
        y=(-1.8, 1.8),
        lowest=(0.0, 0.0),
        start=(-8.0, 1.5),
        steps=80,
        rates={"SGD": 0.045, "momentum": 0.01, "RMSprop": 0.2, "Adam": 0.5, "Lion": 0.12},
    ),
    "rosenbrock": Valley(
        "Rosenbrock's valley",
        rosenbrock,
        x=(-1.8, 1.4),
        y=(-0.4, 2.2),
        lowest=(1.0, 1.0),
        start=(-1.5, 1.5),
        steps=300,
        rates={"SGD": 0.0013, "momentum": 0.0009, "RMSprop": 0.05, "Adam": 0.2, "Lion": 0.03},
    ),
}


def path_on(
    function: Surface,
    make_optimizer: Callable[[list[Tensor]], Optimizer],
    start: Sequence[float],
    steps: int,
) -> np.ndarray:
    """Where an optimiser of two numbers goes from `start`: (steps + 1, 2), float64.

    `make_optimizer` gets a list with one Tensor (2,). A path that diverges ends in infinities or
    NaN. Raises ValueError for a start that is not two finite numbers.
    """
    place = np.array(start, dtype=np.float64)
    if place.shape != (2,) or not np.isfinite(place).all():
        raise ValueError(f"a path starts at two finite numbers, not at {start}")
    point = Tensor(place, requires_grad=True)
    loss = lambda: function(point[0], point[1])
    optimizer, path = make_optimizer([point]), [place.copy()]
    with quietly():
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            if isinstance(optimizer, SAM):
                optimizer.step(loss)
            else:
                optimizer.step()
            path.append(point.data.copy())
    return np.array(path)


def walks(valley: Valley) -> dict[str, np.ndarray]:
    """The paths of all walkers in a valley, (steps + 1, 2) each."""
    return {
        name: path_on(valley.function, partial(WALKERS[name], lr=lr), valley.start, valley.steps)
        for name, lr in valley.rates.items()
    }
