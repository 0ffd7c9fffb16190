"""Schedules: the learning rate as a plain function of the number of steps taken.

Each maker returns `lr(step)`, for step 0, 1, ..., which every optimiser takes in place of a number.
Large rates find the valley and keep out of narrow ones; the loss falls at the end, when the rate
does. How far ahead the end must be known is what tells the schedules apart.
"""

from __future__ import annotations

import math
from typing import Callable

from chapter_03_neural_nets.optimizers import in_range
from chapter_03_neural_nets.training import check_count

Schedule = Callable[[int], float]


def warm_up(schedule: Schedule | float, steps: int) -> Schedule:
    """`steps` steps up to the schedule in a straight line, whose first is lr(0) / steps.

    Adam's means are guesses at first, and its steps then are as long as later ones.
    Source: Goyal et al., 2017, arXiv:1706.02677.
    """
    check_count("steps", steps, least=0)
    if not callable(schedule):
        in_range("schedule", schedule)

    def lr(step: int) -> float:
        rate = schedule(step) if callable(schedule) else schedule
        return rate * min(1.0, (step + 1) / max(steps, 1))

    return lr


def linear(highest: float, steps: int, least: float = 0.0) -> Schedule:
    """In a straight line from `highest` at step 0 to `least` at `steps`, and there it stays."""
    _check(highest, steps, least)
    return lambda step: highest + (least - highest) * min(step / steps, 1.0)


def cosine(highest: float, steps: int, least: float = 0.0) -> Schedule:
    """Half a wave of the cosine from `highest` at step 0 to `least` at `steps`, and there it stays.

    Source: Loshchilov, Hutter, 2016, arXiv:1608.03983, without restarts.
    """
    _check(highest, steps, least)
    return lambda step: _half_wave(highest, least, step / steps)


def _half_wave(first: float, last: float, share: float) -> float:
    return first + (last - first) * (1 - math.cos(math.pi * min(share, 1.0))) / 2


def one_cycle(
    highest: float,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up from highest / div_factor for a share `pct_start` of the steps, then down to near 0.

    Both ways are halves of a cosine; the last step's rate is the first's over `final_div_factor`.
    Source: Smith, Topin, 2017, arXiv:1708.07120; names and numbers are PyTorch's.
    """
    _check(highest, steps, 0.0)
    if not 0 < pct_start < 1:
        raise ValueError(f"pct_start is a share of the steps, above 0 and below 1, not {pct_start}")
    for name, value in {"div_factor": div_factor, "final_div_factor": final_div_factor}.items():
        if in_range(name, value) == 0:
            raise ValueError(f"{name} divides the rate: it cannot be 0")
    first, top, last = highest / div_factor, pct_start * steps - 1, steps - 1

    def lr(step: int) -> float:
        if step < top:
            return _half_wave(first, highest, step / top)
        begin = max(top, 0)
        gone = (step - begin) / (last - begin) if last > begin else 1.0
        return _half_wave(highest, first / final_div_factor, gone)

    return lr


def wsd(
    highest: float, steps: int, rise: int = 100, fall: float = 0.2, least: float = 0.0
) -> Schedule:
    """Warm-up, stable, decay: up for `rise` steps, level, and down over the last share `fall`.

    Until the fall begins nothing depends on `steps`: one long level run ends in as many models as
    falls are branched off from it. The fall is 1 - sqrt, steep at first, and ends at `least` for
    good. The rise is a factor, as `warm_up`'s is, also where the fall has begun already.
    Source: Hu et al., 2024, arXiv:2404.06395; its shape: Hägele et al., 2024, arXiv:2405.18392.
    """
    _check(highest, steps, least)
    check_count("rise", rise, least=0)
    if not 0 < fall <= 1:
        raise ValueError(f"fall is a share of the steps, above 0 and at most 1, not {fall}")
    begin = (1 - fall) * steps

    def lr(step: int) -> float:
        gone = min(max((step - begin) / max(steps - begin, 1e-9), 0.0), 1.0)
        return (least + (highest - least) * (1 - math.sqrt(gone))) * min(
            1, (step + 1) / max(rise, 1)
        )

    return lr


def inverse_sqrt(highest: float, rise: int) -> Schedule:
    """Up for `rise` steps, then down as 1 / sqrt(step): it needs no end.

    Source: Vaswani et al., 2017, arXiv:1706.03762.
    """
    in_range("highest", highest)
    check_count("rise", rise, least=1)
    return lambda step: highest * min((step + 1) / rise, math.sqrt(rise / (step + 1)))


def _check(highest: float, steps: int, least: float) -> None:
    in_range("highest", highest)
    in_range("least", least)
    check_count("steps", steps, least=1)
