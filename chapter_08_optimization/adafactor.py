"""Adafactor: of the squares of a matrix's gradients, the sums of rows and columns are enough.

Adam keeps two numbers for each parameter. Adafactor keeps none but n + m for an n x m matrix: the
mean square of each row and of each column, whose product is the best guess of rank one.
"""

from __future__ import annotations

import math
from typing import Any, Iterable, Mapping

import numpy as np

from chapter_03_neural_nets import Optimizer
from chapter_03_neural_nets.optimizers import LearningRate, in_range
from utils.primitives import total


class Adafactor(Optimizer):
    """p -= alpha u / max(1, rms(u) / d), where u = g / sqrt(v) and v has rank one.

    For a matrix v = r c / max(mean(r), eps1), with running means r and c of the squares of rows and
    columns that forget less and less, by t^beta2_decay; of more axes the last two are a matrix, and
    without two v is the running mean of the squares themselves. Steps are relative to the
    parameter: alpha = max(eps2, rms(p)) min(lr, 1 / sqrt(t)). eps1 is also the least root of v, by
    default the dtype's smallest step from 1. Weight decay takes lr weight_decay p.
    Source: Shazeer, Stern, 2018, arXiv:1804.04235.
    """

    state_names = ("step", "row_var", "col_var", "variance")

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, lr, beta2_decay=beta2_decay, eps=tuple(eps), d=d, weight_decay=weight_decay
        )

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if not -math.inf < options["beta2_decay"] <= 0:
            raise ValueError(f"beta2_decay is a power of at most 0, not {options['beta2_decay']}")
        if len(options["eps"]) != 2 or options["eps"][1] is None:
            raise ValueError(f"eps is None or a number, and a number, not {options['eps']}")
        for eps in options["eps"]:
            in_range("eps", 0.0 if eps is None else eps)
        if in_range("d", options["d"]) < 1:
            raise ValueError(f"d clips steps whose root mean square is above it: at least 1, "
                             f"not {options['d']}")  # fmt: skip

    def kept_for(self, p, group):
        return ("step", "row_var", "col_var") if p.ndim > 1 else ("step", "variance")

    def state_shape(self, p, name):
        shape = {"row_var": (*p.shape[:-1], 1), "col_var": (*p.shape[:-2], 1, *p.shape[-1:])}
        return shape.get(name, super().state_shape(p, name))

    def update(self, p, g, state, lr, group):
        if not state:
            names = self.kept_for(p, group)
            state.update({name: np.zeros(self.state_shape(p, name), g.dtype) for name in names})
            state["step"] = 0
        state["step"] = t = state["step"] + 1
        least_root, least_scale = group["eps"]
        least_root = float(np.finfo(g.dtype).eps) if least_root is None else least_root
        alpha = max(least_scale, _rms(p.data)) * min(lr, 1 / math.sqrt(t))
        if group["weight_decay"]:
            p.data *= 1 - lr * group["weight_decay"]
        v = self.second_moment(np.square(g), state, t ** group["beta2_decay"], least_root)
        u = g / np.sqrt(np.maximum(v, least_root**2))
        p.data -= alpha / max(1.0, _rms(u) / group["d"]) * u

    @staticmethod
    def second_moment(squares, state, share, least) -> np.ndarray:
        """The running mean of the squares, which `share` of the new ones enters."""
        if squares.ndim < 2:
            state["variance"] += share * (squares - state["variance"])
            return state["variance"]
        rows, columns = state["row_var"], state["col_var"]
        rows += share * (total(squares, axis=-1, keepdims=True) / squares.shape[-1] - rows)
        columns += share * (total(squares, axis=-2, keepdims=True) / squares.shape[-2] - columns)
        mean = total(rows, axis=-2, keepdims=True) / rows.shape[-2]
        return rows * columns / np.maximum(mean, least)


def _rms(a: np.ndarray) -> float:
    """The root of the mean square of all numbers."""
    return float(np.linalg.norm(a)) / math.sqrt(max(a.size, 1))
