"""The learning rate over a run: up while Adam's moments are guesses, then down to nothing.

Large steps find the valley, small ones its floor. Chapter 8 compares schedules; until then this one
serves every script.
"""

from __future__ import annotations

from typing import Callable


def rise_and_fall(highest: float, steps: int, rise: int = 100) -> Callable[[int], float]:
    """A function of the step: in a straight line up for `rise` steps, and down to 0 at `steps`."""

    def lr(step: int) -> float:
        return highest * min((step + 1) / rise, max(1 - step / steps, 0))

    return lr
