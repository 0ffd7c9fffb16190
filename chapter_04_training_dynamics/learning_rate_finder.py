"""Finding a learning rate: try them all in one short run, and look where the loss falls fastest.

The rate grows from far too small to far too large, by the same factor each step. At first nothing
happens, then the loss falls, then it explodes. Afterwards the model is what it was before.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np

from chapter_03_neural_nets import SGD, Module, Optimizer
from chapter_03_neural_nets.training import Loss, Run, classification_loss, train_step
from utils.seeding import generator_state, set_generator_state

DIVERGED = 4.0  # times the first loss: after such a rise there is no need to look further


class LearningRateCurve(NamedTuple):
    """The rates tried, the loss at each, the same smoothed, and where that falls fastest."""

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float


def find_learning_rate(
    model: Module,
    batches: Iterator[Sequence],
    loss: Loss = classification_loss,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    optimizer: Callable[..., Optimizer] = SGD,
) -> LearningRateCurve:
    """Train for `steps` steps with rates from `lowest` to `highest`, then undo it all.

    `optimizer(parameters, lr=...)` makes the optimiser. The run ends early when the loss has
    risen by four times what it was at first. Parameters, buffers, gradients, modes, random
    generators, and the place in `batches` (if it has a state_dict) are exactly what they were.
    Raises ValueError for an impossible range, and where the loss falls at none of the rates.
    Source: L. Smith, 2015, arXiv:1506.01186.
    """
    if not (0 < lowest < highest < np.inf and steps >= 10):
        raise ValueError(
            f"find_learning_rate goes from a rate above 0 to a higher one in 10 steps or more, not "
            f"from {lowest:g} to {highest:g} in {steps}"
        )
    rates = np.geomspace(lowest, highest, steps)
    losses: list[float] = []
    with unchanged(model, batches):
        run = Run(
            model.train(), optimizer(model.parameters(), lr=lambda i: rates[i]), batches, False
        )
        best = np.inf
        # An infinite loss is an end as well; it comes as FloatingPointError.
        with contextlib.suppress(FloatingPointError):
            for _ in rates:
                losses.append(train_step(run, loss, ()))
                recent = float(np.mean(losses[-3:]))
                best = min(best, recent)
                if recent - best > DIVERGED * abs(losses[0]):
                    break
    seen, tried = np.array(losses), rates[: len(losses)]
    # Capped, as one loss of 1e12 would raise the means of all steps around it.
    smoothed = smooth(np.minimum(seen, seen[0] + DIVERGED * abs(seen[0])), steps / 30)
    if smoothed.argmin() == 0 or not seen.min() < seen[0]:
        raise ValueError(f"the loss falls at no learning rate from {lowest:g} to {highest:g}")
    return LearningRateCurve(tried, seen, smoothed, float(tried[steepest_fall(smoothed)]))


def steepest_fall(curve: np.ndarray) -> int:
    """Where a curve falls fastest on its way down to its lowest point.

    Noise falls as well, but comes back: the way begins where nine tenths are still to fall. Beyond
    the lowest point the loss jumps about, and falls from where it has jumped.
    """
    bottom = int(curve.argmin())
    nearly_unchanged = curve[0] - 0.1 * (curve[0] - curve[bottom])
    start = int(np.flatnonzero(curve[:bottom] >= nearly_unchanged)[-1])
    return start + int(np.gradient(curve)[start : bottom + 1].argmin())


def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Means weighted by a bell curve of standard deviation `width` around each place.

    It looks to both sides, so that nothing is shifted, as a running mean would be.
    """
    places = np.arange(len(values))
    weights = np.exp(-0.5 * np.square((places[:, None] - places) / width))
    return weights @ values / weights.sum(axis=1)


@contextlib.contextmanager
def unchanged(model: Module, batches: Any = None) -> Iterator[None]:
    """Let anything happen to a model and its batches inside; afterwards it never did."""
    arrays = {name: array.copy() for name, array in _arrays(model).items()}
    gradients = [(p, p.grad) for p in model.parameters() if p.requires_grad]
    modes = [(module, module.training) for module in model.modules()]
    rngs = [None, *(getattr(owner, "rng", None) for owner in (batches, *model.modules()))]
    states = [(rng, generator_state(rng)) for rng in rngs]
    place = batches.state_dict() if hasattr(batches, "state_dict") else None
    try:
        yield
    finally:
        for name, array in _arrays(model).items():
            array[...] = arrays[name]
        for p, g in gradients:
            p.grad = g
        for module, mode in modes:
            module.training = mode
        if place is not None:
            batches.load_state_dict(place)
        for rng, state in states:
            set_generator_state(state, rng)


def _arrays(model: Module) -> dict[str, np.ndarray]:
    return {**{n: p.data for n, p in model.named_parameters()}, **dict(model.named_buffers())}
