"""Lookahead: fast weights explore, and slow ones go part of the way to where these arrived."""

from __future__ import annotations

from chapter_03_neural_nets import Optimizer
from chapter_03_neural_nets.optimizers import in_range
from chapter_03_neural_nets.training import check_count
from chapter_08_optimization.wrapper import Wrapper


class Lookahead(Wrapper):
    """Every k steps of the other optimiser: slow += alpha (p - slow); p = slow.

    A step that only went to and fro is averaged away, so the other may take larger ones.
    Source: Zhang, Lucas, Hinton, Ba, 2019, arXiv:1907.08610.
    """

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(optimizer)
        check_count("k", k, least=1)
        if in_range("alpha", alpha) > 1:
            raise ValueError(f"alpha is a share, at most 1, not {alpha}")
        self.k, self.alpha = k, alpha

    def step(self) -> None:
        super().step()
        if self.steps % self.k == 0:
            for p, slow in zip(self.parameters(), self.kept):
                slow += self.alpha * (p.data - slow)
                p.data[...] = slow
