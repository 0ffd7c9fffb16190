"""Optimisers made of optimisers: several for one model, and one that adds to another."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from chapter_03_neural_nets import Optimizer


class Combined(Optimizer):
    """Several optimisers as one: each steps on its own parameters, with its own learning rate.

    The groups and the learning rate that others see are those of all, and of the first.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        # Not Optimizer's own: what that keeps is kept by the parts.
        self.optimizers = list(optimizers)
        if not self.optimizers:
            raise ValueError("Combined got no optimisers")
        given = [id(p) for p in self.parameters()]
        if len(set(given)) < len(given):
            raise ValueError("a parameter is given to two optimisers")

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.optimizers for group in part.param_groups]

    @property
    def steps(self) -> int:
        return self.optimizers[0].steps

    @property
    def lr(self) -> float:
        return self.optimizers[0].lr

    def step(self) -> None:
        for part in self.optimizers:
            part.step()

    def state_dict(self) -> dict[str, np.ndarray]:
        return {
            f"{i}.{name}": array
            for i, part in enumerate(self.optimizers)
            for name, array in part.state_dict().items()
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        states: list[dict[str, Any]] = [{} for _ in self.optimizers]
        for key, value in saved.items():
            number, _, name = key.partition(".")
            if not (number.isdigit() and int(number) < len(states)):
                raise ValueError(f"{key} belongs to none of the {len(states)} optimisers")
            states[int(number)][name] = value
        for part, state in zip(self.optimizers, states):
            part.load_state_dict(state)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.optimizers))


class Wrapper(Combined):
    """Base of what is put around one optimiser; `kept` is one array more for each parameter."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__([optimizer])
        self.kept = [p.data.copy() for p in self.parameters()]

    def state_dict(self) -> dict[str, np.ndarray]:
        own = {f"kept.{i}": array for i, array in enumerate(self.kept)}
        return {**super().state_dict(), **own}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        own = [
            saved[name] for name in (f"kept.{i}" for i in range(len(self.kept))) if name in saved
        ]
        shapes = [np.shape(array) for array in own], [array.shape for array in self.kept]
        if shapes[0] != shapes[1]:
            raise ValueError(f"this is not the state of {type(self).__name__}: what it keeps has "
                             f"the shapes {shapes[1]}, not {shapes[0]}")  # fmt: skip
        super().load_state_dict({k: v for k, v in saved.items() if not k.startswith("kept.")})
        self.kept = [np.array(array) for array in own]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.optimizers[0]!r})"
