"""Softmax and what is built on it: by hand, most of the gradient cancels.

With p = softmax(x): for softmax itself dx = p (g - sum(g p)), for its logarithm dx = g - p sum(g),
and for the cross-entropy of a target dx = p - onehot(target), whatever happened in between.
"""

from __future__ import annotations

import numpy as np

import chapter_03_neural_nets as chapter_03
from chapter_02_text_generation import log_softmax as log_softmax_composed
from chapter_02_text_generation import softmax as softmax_composed
from chapter_03_neural_nets.losses import IGNORED, check_targets
from utils import Tensor, kernel
from utils.primitives import total

TOO_LITTLE = 1e-9  # of a row's exponentials: its digits would be lost beside the shift


def exponentials(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x less a number that keeps exponentials in range, the exponentials, their sum over the axis.

    That number may be the largest of all, which is found fast. Where it leaves too little of some
    row, every row takes its own largest.
    """
    with np.errstate(invalid="ignore"):  # -inf - -inf, where all are
        shifted = x - x.max(initial=-np.inf)
        e = np.exp(shifted)
        norm = total(e, axis=axis, keepdims=True)
        if not norm.min(initial=np.inf) >= TOO_LITTLE:
            shifted = x - x.max(axis=axis, keepdims=True)
            e = np.exp(shifted)
            norm = total(e, axis=axis, keepdims=True)
    return shifted, e, norm


@kernel(composed=softmax_composed)
def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) along the axis."""
    _, y, norm = exponentials(x, axis)
    y /= norm

    def backward(g, wanted):
        dx = g - total(g * y, axis=axis, keepdims=True)
        dx *= y
        return (dx,)

    return y, backward


@kernel(composed=log_softmax_composed)
def log_softmax(x, axis=-1):
    """log(exp(x) / sum(exp(x))) along the axis."""
    y, p, norm = exponentials(x, axis)
    y -= np.log(norm)
    p /= norm

    def backward(g, wanted):
        dx = p * -total(g, axis=axis, keepdims=True)
        dx += g
        return (dx,)

    return y, backward


@kernel(composed=chapter_03.cross_entropy)
def mean_cross_entropy(logits, targets, *, ignore_index=IGNORED):
    """The mean of -log p(target): logits (..., classes), whole-number targets (...)."""
    targets, classes = check_targets(logits, targets, ignore_index)
    rows, targets = logits.reshape(targets.size, classes), targets.ravel()
    (counted,) = (targets != ignore_index).nonzero()
    if len(counted) == 0:
        raise ValueError("cross_entropy: the mean of no targets does not exist")
    places = counted, targets[counted]
    shifted, e, norm = exponentials(rows, 1)
    losses = np.log(norm[counted, 0]) - shifted[places]
    y = (np.add.reduce(losses, dtype=np.float64) / len(losses)).astype(logits.dtype)

    def backward(g, wanted):
        share = g / len(counted)
        dx = e * (share / norm)
        dx[places] -= share
        if len(counted) < len(targets):
            dx[targets == ignore_index] = 0
        return dx.reshape(logits.shape), None

    return y, backward


def cross_entropy(
    logits: Tensor,
    targets,
    weight=None,
    ignore_index: int = IGNORED,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Chapter 3's loss; on the kernel where it is a plain mean."""
    if weight is None and label_smoothing == 0 and reduction == "mean":
        return mean_cross_entropy(logits, targets, ignore_index=ignore_index)
    return chapter_03.cross_entropy(
        logits, targets, weight, ignore_index, label_smoothing, reduction
    )


class Softmax(chapter_03.Softmax):
    """Chapter 3's module, on the kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, axis=self.dim)


class LogSoftmax(chapter_03.LogSoftmax):
    """Chapter 3's module, on the kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(x, axis=self.dim)
