"""Between two examples lies a third: pictures are mixed, and so are their labels.

A network that has learnt from crossings of a 3 and an 8 must say "60 % a 3" there, and cannot be
certain of everything, which is what learning by heart looks like.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from chapter_03_neural_nets import Module
from utils import Tensor
from utils.seeding import generator


class Mixed(NamedTuple):
    """Inputs that are `share` of examples with `targets` and otherwise of some with `others`."""

    inputs: np.ndarray
    targets: np.ndarray
    others: np.ndarray
    share: float

    def loss(self, loss: Callable[..., Tensor], model: Module) -> Tensor:
        """The mean of loss(outputs, targets) and loss(outputs, others), weighted by the share."""
        outputs = model(self.inputs)
        return self.share * loss(outputs, self.targets) + (1 - self.share) * loss(
            outputs, self.others
        )


def mixup(
    inputs: np.ndarray,
    targets: np.ndarray,
    alpha: float = 0.2,
    rng: np.random.Generator | None = None,
) -> Mixed:
    """share x + (1 - share) x', for each example x and a partner x' of the batch.

    inputs (B, ...) of floats, targets (B, ...); the share is drawn from Beta(alpha, alpha), mostly
    near 0 or 1 for a small alpha. Source: Zhang et al., 2017, arXiv:1710.09412.
    """
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    share, partner, rng = _draw(inputs, targets, alpha, rng)
    part = inputs.dtype.type(share)
    mixed = part * inputs + (1 - part) * inputs[partner]
    return Mixed(mixed, targets, targets[partner], share)


def cutmix(
    inputs: np.ndarray,
    targets: np.ndarray,
    alpha: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Mixed:
    """Each picture with a rectangle of a partner's in it; the share is that of its own pixels.

    inputs (B, ..., H, W), targets (B, ...); one rectangle for the batch, whose area is drawn from
    Beta(alpha, alpha) and whose centre may be anywhere, so that borders cut it; its sides are to
    each other as the picture's. Raises ValueError, which names their shape, for inputs that are no
    pictures.
    Source: Yun et al., 2019, arXiv:1905.04899.
    """
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    if inputs.ndim < 3 or 0 in inputs.shape:
        raise ValueError(f"cutmix is for pictures (B, ..., H, W), not {inputs.shape}")
    share, partner, rng = _draw(inputs, targets, alpha, rng)
    height, width = inputs.shape[-2:]
    top, bottom = _span(height, np.sqrt(1 - share), rng)
    left, right = _span(width, np.sqrt(1 - share), rng)
    mixed = inputs.copy()
    mixed[..., top:bottom, left:right] = inputs[partner][..., top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return Mixed(mixed, targets, targets[partner], share)


def _draw(inputs, targets, alpha, rng) -> tuple[float, np.ndarray, np.random.Generator]:
    if not inputs.shape[:1] == targets.shape[:1] != ():
        raise ValueError(
            f"inputs {inputs.shape} and targets {targets.shape} are not as many examples"
        )
    if inputs.dtype.kind != "f":
        raise TypeError(f"examples are mixed as floats, not as {inputs.dtype}")
    if not (alpha > 0 and np.isfinite(alpha)):
        raise ValueError(f"alpha must be above 0 and finite, not {alpha}")
    rng = generator(rng)
    return float(rng.beta(alpha, alpha)), rng.permutation(len(inputs)), rng


def _span(size: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """The part of `size` that a piece of that share covers around a place drawn at random."""
    centre, half = rng.integers(size), share * size / 2
    return max(round(centre - half), 0), min(round(centre + half), size)
