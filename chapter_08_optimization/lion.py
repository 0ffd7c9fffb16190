"""Lion: only the sign counts, so that every number moves by the learning rate, up or down.

The update was found by a search over programs. It needs one running mean where Adam needs two.
"""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from chapter_03_neural_nets import Optimizer
from chapter_03_neural_nets.optimizers import LearningRate, check_betas


class Lion(Optimizer):
    """p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), then m = beta2 m + (1 - beta2) g.

    Its steps are larger than Adam's: take a third to a tenth of the rate, and as much more decay.
    Source: Chen et al., 2023, arXiv:2302.06675.
    """

    state_names = ("exp_avg",)

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 1e-4,
        betas: Sequence[float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas=tuple(betas), weight_decay=weight_decay)

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_betas(options["betas"])

    def update(self, p, g, state, lr, group):
        beta1, beta2 = group["betas"]
        if not state:
            state["exp_avg"] = np.zeros_like(g)
        mean = state["exp_avg"]
        p.data *= 1 - lr * group["weight_decay"]
        p.data -= lr * np.sign(beta1 * mean + (1 - beta1) * g)
        mean += (1 - beta2) * (g - mean)
