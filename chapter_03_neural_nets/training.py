"""The training loop: forward, backward, step; and whatever makes a long run safe.

A run is a state that each step changes: the parameters, the optimiser's moments, the place in the
data, the random generators, the history. A checkpoint holds all of it and nothing else, so a run
that was killed goes on as if nothing had happened, bit for bit.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from chapter_03_neural_nets.evaluation import ADVICE, quietly
from chapter_03_neural_nets.losses import cross_entropy
from chapter_03_neural_nets.module import Module
from chapter_03_neural_nets.optimizers import Optimizer
from utils import Tensor, no_grad
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.memory import keep_memory
from utils.seeding import generator_state, set_generator_state

Loss = Callable[..., Tensor]


@dataclass
class History:
    """What happened: the loss of every step, and evaluations as {"step": n, metric: value, ...}.

    `best` is the evaluation whose first metric was lowest, None before the first one.
    """

    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None

    @property
    def steps(self) -> int:
        return len(self.losses)


def classification_loss(model: Module, inputs: Any, targets: np.ndarray) -> Tensor:
    """The mean cross-entropy of the model's logits."""
    return cross_entropy(model(inputs), targets)


def train(
    model: Module,
    optimizer: Optimizer,
    batches: Iterator[Sequence],
    steps: int,
    loss: Loss = classification_loss,
    evaluate: Callable[[Module], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
    keep_best: bool = False,
    before_step: Sequence[Callable[[Module], Any]] = (),
    stop: Callable[[History], Any] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 1000,
    settings: Mapping[str, Any] | None = None,
    description: str = "training",
) -> History:
    """Take `steps` optimiser steps, each on the next of `batches`; returns the history.

    `loss(model, *batch)` is minimised. `before_step` functions are called with the model when its
    gradients are complete. Every `evaluate_every` steps and at the end, `evaluate(model)` returns
    metrics, the one to be minimised first; with `keep_best` the model ends with the weights that
    were best, and where `stop(history)` is true the run ends at once. With a `checkpoint` folder,
    the run is saved there every `checkpoint_every` steps and at the end, and goes on from what is
    there; `settings`, which JSON can hold, are saved with it, and say what else the run depends on.
    Raises FloatingPointError, naming the module, where the loss is no finite number, and ValueError
    for a checkpoint of another model, of other data or of other settings.
    """
    for name, value in {"steps": steps, "checkpoint_every": checkpoint_every}.items():
        check_count(name, value, least=0 if name == "steps" else 1)
    evaluate_every = steps if evaluate_every is None else evaluate_every
    check_count("evaluate_every", evaluate_every, least=min(steps, 1))
    if evaluate is None and (keep_best or stop is not None):
        raise ValueError("keep_best and stop need evaluate, which says what is best")
    keep_memory()
    run = Run(model, optimizer, batches, keep_best, settings)
    if checkpoint is not None:
        run.resume(checkpoint)
    history = run.history
    model.train()
    progress = tqdm(total=steps, initial=min(history.steps, steps), desc=description, disable=None)
    stopped = stop is not None and bool(history.evaluations) and stop(history)
    with progress:
        while history.steps < steps and not stopped:
            history.losses.append(train_step(run, loss, before_step))
            step = history.steps
            last = step == steps
            judged = evaluate is not None and (last or step % evaluate_every == 0)
            saved = checkpoint is not None and (last or step % checkpoint_every == 0)
            if last or judged or saved:
                run.check_parameters()
            if judged:
                with quietly():
                    run.record(evaluate(model))
                model.train()
                stopped = stop is not None and stop(history)
            if saved or (stopped and checkpoint is not None):
                run.save(checkpoint)
            progress.update()
            if step % 20 == 0 or last:
                progress.set_postfix(loss=f"{history.losses[-1]:.4f}", lr=f"{optimizer.lr:.2g}")
    if keep_best and run.best_state:
        model.load_state_dict(run.best_state)
    return history


def train_step(run: Run, loss: Loss, before_step: Sequence[Callable]) -> float:
    """One step: the loss of a batch, its gradients, and what the optimiser makes of them."""
    batch = next(run.batches, None)
    if batch is None:
        raise ValueError(f"there is no batch for step {run.history.steps}: the batches have ended")
    run.optimizer.zero_grad()
    with quietly():
        value = loss(run.model, *batch)
        if not np.isfinite(value.data).all():
            run.check_parameters()
            where = find_trouble(run.model, lambda: loss(run.model, *batch))
            raise FloatingPointError(
                f"step {run.history.steps}: the loss is {value.item()}, as {where}; {ADVICE}"
            )
        value.backward()
        for function in before_step:
            function(run.model)
        run.optimizer.step()
    return value.item()


def find_trouble(model: Module, forward: Callable[[], Any]) -> str:
    """Which module's output is the first to hold a NaN or an infinity in a forward pass."""
    found: list[str] = []

    def look(module, args, output):
        if not found and isinstance(output, Tensor) and not np.isfinite(output.data).all():
            name = names[module] or "the model"
            found.append(f"{name} ({type(module).__name__}) gave {_kind_of_trouble(output.data)}")

    names = {module: name for name, module in model.named_modules()}
    handles = [module.register_forward_hook(look) for module in names]
    try:
        with no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "every module gave finite numbers but the loss did not"


def _kind_of_trouble(array: np.ndarray) -> str:
    return "NaN" if np.isnan(array).any() else "infinity"


class Run:
    """Everything that a step changes, and how to save it and bring it back."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        batches: Iterator,
        keep_best: bool,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.optimizer, self.batches = model, optimizer, iter(batches)
        self.keep_best = keep_best
        self.settings = json.loads(json.dumps(settings or {}))  # as a checkpoint gives them back
        self.history = History()
        self.best_state: dict[str, np.ndarray] = {}

    def record(self, metrics: dict[str, float]) -> None:
        """Note an evaluation, and the weights if it is the best."""
        metrics = {name: float(value) for name, value in metrics.items()}
        history, first = self.history, next(iter(metrics))
        history.evaluations.append({"step": history.steps, **metrics})
        lowest = math.inf if history.best is None else history.best[first]
        if metrics[first] < lowest:
            history.best = history.evaluations[-1]
            if self.keep_best:
                state = self.model.state_dict()
                self.best_state = {name: array.copy() for name, array in state.items()}

    def check_parameters(self) -> None:
        """Raise FloatingPointError, naming it, where a step has made a parameter no number."""
        for name, p in self.model.named_parameters():
            if not np.isfinite(p.data).all():
                raise FloatingPointError(
                    f"step {self.history.steps}: the parameter {name} holds "
                    f"{_kind_of_trouble(p.data)} after the last update; {ADVICE}"
                )

    def check_settings(self, saved: Mapping[str, Any]) -> None:
        """Raise ValueError, naming them, where settings are not those that were saved."""
        others = [
            f"{name} was {saved.get(name)}, not {self.settings.get(name)}"
            for name in {**saved, **self.settings}
            if saved.get(name) != self.settings.get(name)
        ]
        if others:
            raise ValueError(", ".join(others))

    def _generators(self) -> dict[str, np.random.Generator | None]:
        """Every generator that a step may draw from, by name; None is the default one."""
        owners = {f"model.{name}": module for name, module in self.model.named_modules()}
        owners["batches"] = self.batches
        own = {name: getattr(owner, "rng", None) for name, owner in owners.items()}
        return {"default": None, **{k: rng for k, rng in own.items() if rng is not None}}

    def save(self, folder: str | os.PathLike) -> None:
        history = self.history
        arrays = {
            **_prefixed("model", self.model.state_dict()),
            **_prefixed("optimizer", self.optimizer.state_dict()),
            **_prefixed("best", self.best_state),
            "losses": np.array(history.losses),
        }
        state = {
            "batches": self.batches.state_dict(),
            "generators": {name: generator_state(g) for name, g in self._generators().items()},
            "evaluations": history.evaluations,
            "best": history.best,
            "settings": self.settings,
        }
        save_checkpoint(folder, history.steps, arrays, state)

    def resume(self, folder: str | os.PathLike) -> None:
        """Bring back the last checkpoint of a folder, if there is one."""
        if not hasattr(self.batches, "state_dict"):
            raise TypeError(
                "a run can only be resumed where its batches can tell their place: "
                f"{type(self.batches).__name__} has no state_dict"
            )
        try:
            saved = load_checkpoint(folder)
        except FileNotFoundError:
            return
        try:
            self.check_settings(saved.state.get("settings", {}))
            self.batches.load_state_dict(saved.state["batches"])
        except ValueError as error:
            raise ValueError(f"{folder} holds another run: {error}") from None
        self.model.load_state_dict(_under("model", saved.arrays))
        self.optimizer.load_state_dict(_under("optimizer", saved.arrays))
        self.best_state = _under("best", saved.arrays)
        generators, states = self._generators(), saved.state["generators"]
        if generators.keys() != states.keys():
            raise ValueError(
                f"{folder} was saved with the generators {', '.join(states)}, but this run has "
                f"{', '.join(generators)}"
            )
        for name, rng in generators.items():
            set_generator_state(states[name], rng)
        losses = saved.arrays["losses"].tolist()
        self.history = History(losses, saved.state["evaluations"], saved.state["best"])


def check_count(name: str, value: Any, least: int) -> None:
    """Raise ValueError where this is no whole number of at least `least`."""
    if not (isinstance(value, (int, np.integer)) and value >= least):
        raise ValueError(f"{name} is a whole number of at least {least}, not {value}")


def _prefixed(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = f"{prefix}."
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}
