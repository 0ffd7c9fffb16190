"""Early stopping: what learns by heart is best before it has done so."""

from __future__ import annotations

import math
from typing import Callable

from chapter_03_neural_nets import History
from chapter_03_neural_nets.optimizers import in_range
from chapter_03_neural_nets.training import check_count


def early_stopping(patience: int, min_delta: float = 0.0) -> Callable[[History], bool]:
    """Whether the last `patience` evaluations were no better than the best one before them.

    For `train(..., stop=early_stopping(5), keep_best=True)`, which then ends with the best weights.
    Better is lower by more than `min_delta`, in the metric that is evaluated first. It depends on
    nothing but the history, so a resumed run stops where the whole one does.
    Source: Prechelt, 1998, Early Stopping - But When?, doi:10.1007/3-540-49430-8_3.
    """
    check_count("patience", patience, least=1)
    in_range("min_delta", min_delta)

    def stop(history: History) -> bool:
        values = [evaluation[metric_of(evaluation)] for evaluation in history.evaluations]
        values = [math.inf if math.isnan(value) else value for value in values]
        if len(values) <= patience:
            return False
        return min(values[-patience:]) >= min(values[:-patience]) - min_delta

    return stop


def metric_of(evaluation: dict[str, float]) -> str:
    """The first of its metrics, which is to be minimised."""
    return next(name for name in evaluation if name != "step")
