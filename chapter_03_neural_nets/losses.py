"""Losses: one number that says how wrong a network is, and whose gradient says what to change.

All take predictions first, then targets, and a `reduction`: "mean", "sum", or "none" for every
element's own loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_02_text_generation import log_softmax
from utils import Tensor
from utils.promotion import plain

IGNORED = -100  # a target that takes no part, unless another number is given


def cross_entropy(
    logits: Tensor,
    targets: Any,
    weight: Any = None,
    ignore_index: int = IGNORED,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """-log p(target) in nats: logits (..., classes), integer targets (...).

    Chapter 2's, with three additions. `weight` (classes) counts some classes more: the mean is over
    weights. Targets equal to `ignore_index` take no part. `label_smoothing` mixes the target with
    the uniform distribution, so that no logit is driven to infinity (Szegedy et al., 2015,
    arXiv:1512.00567). Classes are the last axis, whatever the number of dimensions.
    Raises ValueError for targets of another shape or outside the classes, and where the mean is
    over nothing.
    """
    targets, classes = check_targets(logits, targets, ignore_index)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is a share from 0 to 1, not {label_smoothing}")
    weights = _class_weights(weight, classes, logits.dtype)
    log_p = np.reshape(log_softmax(logits), (-1, classes))
    counted = np.flatnonzero(targets != ignore_index)
    wanted = targets.ravel()[counted]
    if len(wanted) < targets.size:
        log_p = log_p[counted]
    losses, norm = -log_p[np.arange(len(wanted)), wanted], len(wanted)
    if weights is not None:
        losses, norm = losses * weights[wanted], weights[wanted].sum()
    if label_smoothing > 0:
        spread = -np.sum(log_p if weights is None else log_p * weights, axis=1)
        losses = (1 - label_smoothing) * losses + label_smoothing / classes * spread
    if reduction == "none":
        places = np.cumsum(targets.ravel() != ignore_index) - 1
        each = losses[places] if len(wanted) else np.zeros(targets.size, logits.dtype)
        return np.where(targets == ignore_index, 0, np.reshape(each, targets.shape))
    if reduction == "mean" and not norm > 0:
        raise ValueError("cross_entropy: the mean of no targets does not exist")
    return np.sum(losses) / norm if reduction == "mean" else _reduced(losses, reduction)


def mse_loss(predictions: Tensor, targets: Any, reduction: str = "mean") -> Tensor:
    """The square of the difference: its best constant prediction is the mean."""
    difference = _difference("mse_loss", predictions, targets)
    return _reduced(np.square(difference), reduction)


def l1_loss(predictions: Tensor, targets: Any, reduction: str = "mean") -> Tensor:
    """The absolute difference: its best constant prediction is the median."""
    return _reduced(np.abs(_difference("l1_loss", predictions, targets)), reduction)


def huber_loss(
    predictions: Tensor, targets: Any, delta: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Half the square up to `delta`, beyond it a straight line: outliers pull with bounded force.

    Source: P. Huber, 1964, doi:10.1214/aoms/1177703732.
    """
    if not 0 < delta < np.inf:
        raise ValueError(f"huber_loss: delta must be a number above 0, not {delta}")
    size = np.abs(_difference("huber_loss", predictions, targets))
    inner = np.minimum(size, delta)
    return _reduced(inner * (size - 0.5 * inner), reduction)


def binary_cross_entropy_with_logits(
    logits: Tensor,
    targets: Any,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """-t log p - (1 - t) log(1 - p) with p = sigmoid(logit): yes-or-no questions, t from 0 to 1.

    -log p is log(1 + e^-x), which no logit makes overflow. `pos_weight` counts positive targets
    more, `weight` any elements; both broadcast.
    """
    name = "binary_cross_entropy_with_logits"
    targets = _like(name, logits, targets)
    values = plain(targets)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"{name}: targets are from 0 to 1, not {values.min()} to {values.max()}")
    yes, no = np.logaddexp(0, -logits) * targets, np.logaddexp(0, logits) * (1 - targets)
    if pos_weight is not None:
        yes = yes * _broadcast(name, "pos_weight", pos_weight, logits)
    losses = yes + no
    if weight is not None:
        losses = losses * _broadcast(name, "weight", weight, logits)
    return _reduced(losses, reduction)


def check_targets(
    logits: Tensor, targets: Any, ignore_index: int = IGNORED
) -> tuple[np.ndarray, int]:
    """The targets as an array and the number of classes; ValueError where they do not fit."""
    targets = plain(targets)
    if logits.ndim == 0 or targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: logits of shape {logits.shape} need targets of shape "
            f"{logits.shape[:-1]}, not {targets.shape}"
        )
    classes = logits.shape[-1]
    if targets.dtype.kind not in "iu" and targets.size:
        raise ValueError(f"cross_entropy: targets are whole numbers, not {targets.dtype}")
    if targets.size and not (targets.min() >= 0 and targets.max() < classes):
        wrong = targets[((targets < 0) | (targets >= classes)) & (targets != ignore_index)]
        if len(wrong) == 0:
            return targets, classes
        raise ValueError(
            f"cross_entropy: targets must be from 0 to {classes - 1} or {ignore_index} "
            f"(ignored), not {wrong[0]}"
        )
    return targets, classes


def _class_weights(weight: Any, classes: int, dtype: np.dtype) -> np.ndarray | None:
    if weight is None:
        return None
    weights = plain(weight).astype(dtype)
    if weights.shape != (classes,) or not (weights >= 0).all():
        raise ValueError(
            f"cross_entropy: weight must be {classes} numbers from 0 up, one a class, not "
            f"{weights.tolist()}"
        )
    return weights


def _difference(name: str, predictions: Tensor, targets: Any) -> Tensor:
    return predictions - _like(name, predictions, targets)


def _like(name: str, predictions: Tensor, targets: Any) -> Any:
    """The targets, unless their shape would broadcast: that is a mistake more often than a wish."""
    if not isinstance(targets, Tensor):
        floating = predictions.dtype.kind == "f"
        targets = np.asarray(targets, predictions.dtype if floating else np.float32)
    if targets.shape != predictions.shape:
        raise ValueError(
            f"{name}: predictions of shape {predictions.shape} and targets of shape "
            f"{targets.shape} must be alike"
        )
    return targets


def _broadcast(name: str, what: str, weights: Any, losses: Tensor) -> np.ndarray:
    """Weights in the losses' dtype; ValueError where they would change the losses' shape."""
    weights = plain(weights).astype(losses.dtype)
    if np.broadcast(weights, plain(losses)).shape != losses.shape:
        raise ValueError(f"{name}: {what} of shape {weights.shape} does not fit {losses.shape}")
    return weights


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return np.sum(losses)
    if reduction != "mean":
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    if losses.size == 0:
        raise ValueError(f"the mean of no losses does not exist: their shape is {losses.shape}")
    return np.mean(losses)
