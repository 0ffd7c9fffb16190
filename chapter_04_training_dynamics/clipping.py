"""Clipping: a gradient may say where to go, but not how far, when it is larger than it should be.

One steep place in the loss can throw a network out of everything it has learnt. Clipping by norm
shortens the whole gradient and keeps its direction; clipping by value bends it.
"""

from __future__ import annotations

from typing import Iterable

import numpy as np

from utils import Tensor


def clip_grad_norm(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Shorten all gradients together to `max_norm`, in place, where they are longer.

    Returns the norm before, over all elements of all gradients; `norm_type` inf is the largest of
    them. Parameters without a gradient are left out. Where the norm is no finite number, raises
    FloatingPointError if `error_if_nonfinite`.
    Source: Pascanu, Mikolov, Bengio, 2012, arXiv:1211.5063.
    """
    if not norm_type > 0:
        raise ValueError(f"norm_type must be a number above 0, or inf, not {norm_type}")
    gradients = _gradients(parameters)
    total = _norm(gradients, norm_type)
    if error_if_nonfinite and not np.isfinite(total):
        raise FloatingPointError(f"the norm of the gradients is {total}: they cannot be clipped")
    shorten(gradients, total, max_norm)
    return total


def shorten(gradients: Iterable[np.ndarray], norm: float, max_norm: float) -> None:
    """Multiply gradients whose norm is known, in place, so that it is at most `max_norm`."""
    if not max_norm >= 0:
        raise ValueError(f"max_norm must be a number from 0 up, not {max_norm}")
    coefficient = max_norm / (norm + 1e-6)
    if not coefficient >= 1:
        with np.errstate(invalid="ignore"):
            for g in gradients:
                g *= coefficient


def grad_norm(parameters: Tensor | Iterable[Tensor]) -> float:
    """The length of all gradients together."""
    return _norm(_gradients(parameters), 2.0)


def _norm(gradients: list[np.ndarray], norm_type: float) -> float:
    # In float64, as the squares of an exploding gradient are the first to leave float32.
    norms = [np.linalg.norm(g.ravel().astype(np.float64), norm_type) for g in gradients if g.size]
    return float(np.linalg.norm(norms, norm_type)) if norms else 0.0


def clip_grad_value(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every element of every gradient into [-clip_value, clip_value], in place."""
    if not clip_value >= 0:
        raise ValueError(f"clip_value must be a number from 0 up, not {clip_value}")
    for g in _gradients(parameters):
        np.clip(g, -clip_value, clip_value, out=g)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[np.ndarray]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in parameters if p.grad is not None]
