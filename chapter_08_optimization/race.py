"""A fair race: every optimiser gets the rate that suits it, found the same way for all.

An optimiser that is tried at one rate has its rate compared, not itself. So each begins at a rate
that is usual for it, and goes up or down by a factor of about three until the best of what it has
tried has a worse one on either side.
"""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Iterable, Mapping, NamedTuple

import numpy as np

from chapter_03_neural_nets import SGD, Adam, Linear, Module, Optimizer, train
from chapter_05_gradient_mastery import AdamW
from chapter_08_optimization.adafactor import Adafactor
from chapter_08_optimization.adaptive import Adagrad, NAdam, RMSprop
from chapter_08_optimization.lamb import LAMB
from chapter_08_optimization.lion import Lion
from chapter_08_optimization.lookahead import Lookahead
from chapter_08_optimization.recipe import muon_and_adamw
from chapter_08_optimization.sam import SAM, watched
from chapter_08_optimization.schedules import Schedule, linear, warm_up
from utils import manual_seed

FACTOR = math.sqrt(10)
MOST = 7  # rates tried


class Contestant(NamedTuple):
    """How an optimiser is made from a model and a learning rate, and where its search begins."""

    make: Callable[[Module, Schedule], Optimizer]
    usual: float


def _of(kind: Callable[..., Optimizer], usual: float, **options: Any) -> Contestant:
    return Contestant(lambda model, lr: kind(model.parameters(), lr, **options), usual)


CONTESTANTS: Mapping[str, Contestant] = {
    "SGD": _of(SGD, 0.1),
    "momentum": _of(SGD, 0.1, momentum=0.9, nesterov=True),
    "Adagrad": _of(Adagrad, 0.01),
    "RMSprop": _of(RMSprop, 1e-3),
    "Adam": _of(Adam, 3e-3, betas=(0.9, 0.99)),
    "AdamW": _of(AdamW, 3e-3, betas=(0.9, 0.99), weight_decay=0.1),
    "NAdam": _of(NAdam, 3e-3, betas=(0.9, 0.99)),
    "Adafactor": _of(Adafactor, 0.03),
    "Lion": _of(Lion, 3e-4, weight_decay=0.3),
    "LAMB": _of(LAMB, 0.01, weight_decay=0.1),
    "Muon": Contestant(
        lambda model, lr: muon_and_adamw(
            model, lr, lr, last_linear(model), adjust_lr_fn="match_rms_adamw"
        ),
        3e-3,
    ),
    "SAM": Contestant(lambda model, lr: SAM(AdamW(model.parameters(), lr), 0.05), 3e-3),
    "Lookahead": Contestant(lambda model, lr: Lookahead(AdamW(model.parameters(), lr)), 3e-3),
}


def last_linear(model: Module) -> Module:
    """What makes the logits."""
    return [module for module in model.modules() if isinstance(module, Linear)][-1]


class Task(NamedTuple):
    """What is raced on: the same model and the same batches for all."""

    title: str
    model: Callable[[], Module]
    batches: Callable[[], Iterable]
    loss: Callable[..., Any]
    judge: Callable[[Module], Mapping[str, float]]
    steps: int


class Run(NamedTuple):
    """What a rate led to: the losses of all steps, when each had its gradient, and the judgement.

    Seconds are counted from the first. A run that diverged has infinite losses, and no seconds.
    """

    lr: float
    losses: np.ndarray
    seconds: np.ndarray
    judged: Mapping[str, float]

    @property
    def loss(self) -> float:
        return self.judged["loss"]

    @property
    def seconds_a_step(self) -> float:
        """The median; NaN for a run that diverged."""
        return float(np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else math.nan


def run(task: Task, contestant: Contestant, lr: float, seed: int = 0) -> Run:
    """Train once: a twentieth of the steps up to the rate, then down to 0 in a straight line."""
    manual_seed(seed)
    model = task.model()
    schedule = warm_up(linear(lr, task.steps), max(task.steps // 20, 1))
    optimizer = contestant.make(model, schedule)
    clock: list[float] = []
    try:
        history = train(
            model,
            optimizer,
            task.batches(),
            task.steps,
            loss=watched(optimizer, task.loss),
            evaluate=task.judge,
            before_step=[lambda model: clock.append(time.perf_counter())],
            description=f"{task.title}, {lr:.2g}",
        )
    except FloatingPointError:
        return Run(lr, np.full(task.steps, np.inf), np.zeros(0), {"loss": math.inf})
    return Run(lr, np.array(history.losses), np.array(clock) - clock[0], history.evaluations[-1])


def tuned(attempt: Callable[[float], Run], usual: float) -> list[Run]:
    """Runs at rates around the usual one, lowest first, until a worse one is on either side."""
    runs = [attempt(usual / FACTOR), attempt(usual), attempt(usual * FACTOR)]
    while len(runs) < MOST:
        best = best_of(runs)
        if best is runs[0]:
            runs.insert(0, attempt(best.lr / FACTOR))
        elif best is runs[-1]:
            runs.append(attempt(best.lr * FACTOR))
        else:
            break
    return runs


def best_of(runs: Iterable[Run]) -> Run:
    return min(runs, key=lambda run: run.loss)
