"""Judging a network: in evaluation mode, without a graph, and on data it has not learnt from."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Iterator

import numpy as np

from chapter_03_neural_nets.losses import IGNORED, cross_entropy
from chapter_03_neural_nets.module import Module
from utils import no_grad

ADVICE = "lower the learning rate, clip the gradients, or look at the data"


def quietly() -> np.errstate:
    """No warnings of numbers that overflow: the losses and parameters are looked at themselves."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


@contextlib.contextmanager
def eval_mode(model: Module) -> Iterator[Module]:
    """The model in evaluation mode; its parts' modes come back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[Module]:
    """The model in evaluation mode and without gradients, for as long as it is judged."""
    with eval_mode(model), no_grad():
        yield model


def predict(model: Module, inputs: Any, batch_size: int = 1024) -> np.ndarray:
    """The model's outputs for all inputs, batch by batch: logits (N, ...).

    Raises ValueError where there are no inputs.
    """
    if len(inputs) == 0:
        raise ValueError("there is nothing to predict: no inputs")
    with evaluating(model):
        starts = range(0, len(inputs), batch_size)
        return np.concatenate([model(inputs[i : i + batch_size]).data for i in starts])


def evaluate(
    model: Module, inputs: Any, targets: np.ndarray, batch_size: int = 1024
) -> dict[str, float]:
    """The mean cross-entropy ("loss", nats) and the share of targets that are likeliest.

    Targets of -100 count for neither. Raises ValueError where there is nothing to be judged on, and
    FloatingPointError where the loss is no finite number.
    """
    if len(inputs) == 0:
        raise ValueError("there is nothing to evaluate: no inputs")
    targets, loss, right, counted = np.asarray(targets), 0.0, 0, 0
    with evaluating(model), quietly():
        for start in range(0, len(inputs), batch_size):
            rows = slice(start, start + batch_size)
            logits, wanted = model(inputs[rows]), targets[rows]
            loss += cross_entropy(logits, wanted, reduction="sum").item()
            right += int((logits.data.argmax(axis=-1) == wanted).sum())
            counted += int((wanted != IGNORED).sum())
    if counted == 0:
        raise ValueError("there is nothing to evaluate: all targets are ignored")
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss of what the model is judged on is {loss}; {ADVICE}")
    return {"loss": loss / counted, "accuracy": right / counted}


def confusion_matrix(predicted: Any, targets: Any, classes: int) -> np.ndarray:
    """How often each class (row) was taken for each (column): (classes, classes).

    Raises ValueError for different numbers of both, and for what is no class.
    """
    taken, true = np.ravel(predicted), np.ravel(targets)
    if len(taken) != len(true):
        raise ValueError(f"{len(taken)} predictions for {len(true)} targets")
    for labels in (taken, true):
        whole = labels.dtype.kind in "iu" or labels.size == 0
        if not whole or ((labels < 0) | (labels >= classes)).any():
            raise ValueError(f"classes are whole numbers from 0 to {classes - 1}, not {labels}")
    pairs = true.astype(np.int64) * classes + taken.astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
