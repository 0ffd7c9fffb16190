"""Optimisers made of optimisers: several for one model, and one that adds to another."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from chapter_03_neural_nets import Optimizer
from utils import Tensor


class Combined(Optimizer):
    """Several optimisers as one: each steps on its own parameters, with its own learning rate.

    The groups and the learning rate that others see are those of all, and of the first.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        # Not Optimizer's own: what that keeps is kept by the parts.
        self.optimizers = list(optimizers)
        if not self.optimizers:
            raise ValueError("Combined got no optimisers")
        for part in self.optimizers:
            if not isinstance(part, Optimizer):
                raise TypeError(f"{type(self).__name__} is made of optimisers, not of {type(part)}")
        given = [id(p) for p in self.parameters()]
        if len(set(given)) < len(given):
            raise ValueError("a parameter is given to two optimisers")

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.optimizers for group in part.param_groups]

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        return {p: state for part in self.optimizers for p, state in part.state.items()}

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        raise TypeError(f"give the group to one of {type(self).__name__}'s optimizers")

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
        before = [part.state_dict() for part in self.optimizers]
        try:
            for part, state in zip(self.optimizers, states):
                part.load_state_dict(state)
        except ValueError:
            for part, state in zip(self.optimizers, before):
                part.load_state_dict(state)
            raise

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.optimizers))


class Wrapper(Combined):
    """Base of what is put around one optimiser; `kept` is one array more for each parameter."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__([optimizer])
        self.kept = [p.data.copy() for p in self.parameters()]

    @property
    def keys(self) -> list[str]:
        """What its arrays are called in a state."""
        return [f"{type(self).__name__}.{i}" for i in range(len(self.kept))]

    def state_dict(self) -> dict[str, np.ndarray]:
        return {**super().state_dict(), **dict(zip(self.keys, self.kept))}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        own = {key: np.array(saved[key]) for key in self.keys if key in saved}
        shapes = {key: array.shape for key, array in zip(self.keys, self.kept)}
        if {key: array.shape for key, array in own.items()} != shapes:
            raise ValueError(f"this is not the state of {type(self).__name__}: {shapes} is needed")
        super().load_state_dict({key: value for key, value in saved.items() if key not in own})
        self.kept = list(own.values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.optimizers[0]!r})"
