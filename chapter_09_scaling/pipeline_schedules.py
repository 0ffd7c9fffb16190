"""Pipeline schedules: what each stage of a model does in which order, as plain data.

A model is cut into stages one behind the other, and a batch into micro-batches, so that a stage can
work on one while the next works on the one before. The first stages wait at the end, the last ones
at the beginning: the bubble. GPipe sends all micro-batches forward, then all back, and keeps the
activations of all of them; with one forward and one backward in turn (1F1B) the bubble is the same,
but a stage keeps no more micro-batches than there are stages behind it and itself.

Source: Huang et al., 2018, GPipe, arXiv:1811.06965; Narayanan et al., 2019, PipeDream,
arXiv:1806.03377, and, with one update a batch, 2021, arXiv:2104.04473.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Sequence

from chapter_07_attention.config import whole_number


class Action(NamedTuple):
    """One micro-batch through one stage: its `kind` is "forward" or "backward"."""

    kind: str
    micro_batch: int

    def __str__(self) -> str:
        return f"{self.kind} {self.micro_batch}"


class Span(NamedTuple):
    """When a stage did an action: both times in the same unit, whatever it is."""

    stage: int
    kind: str
    micro_batch: int
    begin: float
    end: float


Schedule = Callable[[int, int, int], "list[Action]"]


def gpipe(stage: int, stages: int, micro_batches: int) -> list[Action]:
    """All micro-batches forward, then all backward, the last one first."""
    check(stage, stages, micro_batches)
    forward = [Action("forward", i) for i in range(micro_batches)]
    return forward + [Action("backward", i) for i in reversed(range(micro_batches))]


def one_forward_one_backward(stage: int, stages: int, micro_batches: int) -> list[Action]:
    """As many forward as there are stages behind, then one forward and one backward in turn."""
    check(stage, stages, micro_batches)
    ahead = min(stages - 1 - stage, micro_batches)
    actions = [Action("forward", i) for i in range(ahead)]
    for i in range(micro_batches):
        if ahead + i < micro_batches:
            actions.append(Action("forward", ahead + i))
        actions.append(Action("backward", i))
    return actions


SCHEDULES: dict[str, Schedule] = {"gpipe": gpipe, "1f1b": one_forward_one_backward}


def source(action: Action, stage: int, stages: int) -> int | None:
    """The stage that an action takes something from, None where the batch itself is enough."""
    other = stage - 1 if action.kind == "forward" else stage + 1
    return other if 0 <= other < stages else None


def destination(action: Action, stage: int, stages: int) -> int | None:
    """The stage that needs what an action makes, None where nobody does."""
    other = stage + 1 if action.kind == "forward" else stage - 1
    return other if 0 <= other < stages else None


def timeline(
    plans: Sequence[Sequence[Action]], forward: float = 1.0, backward: float = 2.0
) -> list[Span]:
    """When each action would begin and end, if it took so long and sending took no time.

    `plans` has the actions of each stage. A backward pass costs about two forward ones: it makes
    the gradients of inputs and of weights. Raises ValueError where the stages wait for one another.
    """
    costs = {"forward": forward, "backward": backward}
    ended: dict[tuple[int, Action], float] = {}
    clocks, left = [0.0] * len(plans), [list(plan) for plan in plans]
    spans = []
    while any(left):
        before = len(spans)
        for stage, actions in enumerate(left):
            while actions and all(need in ended for need in needs(actions[0], stage, len(plans))):
                action = actions.pop(0)
                came = [ended[need] for need in needs(action, stage, len(plans))]
                begin = max([clocks[stage], *came])
                clocks[stage] = ended[stage, action] = begin + costs[action.kind]
                spans.append(Span(stage, *action, begin, clocks[stage]))
        if len(spans) == before:
            waiting = [f"stage {s} cannot begin {a[0]}" for s, a in enumerate(left) if a]
            raise ValueError(f"the stages wait for one another: {', '.join(waiting)}")
    return spans


def needs(action: Action, stage: int, stages: int) -> list[tuple[int, Action]]:
    """What must have ended before, as (stage, action)."""
    found = [] if action.kind == "forward" else [(stage, action._replace(kind="forward"))]
    other = source(action, stage, stages)
    return found if other is None else [*found, (other, action)]


def bubble_fraction(spans: Sequence[Span]) -> float:
    """The share of all stages' time, from the first begin to the last end, that they wait."""
    stages = len({span.stage for span in spans})
    whole = max(span.end for span in spans) - min(span.begin for span in spans)
    return 1 - sum(span.end - span.begin for span in spans) / (stages * whole)


def ideal_bubble(stages: int, micro_batches: int) -> float:
    """(p - 1) / (m + p - 1): a stage works on m micro-batches, and waits for p - 1 more."""
    check(0, stages, micro_batches)
    return (stages - 1) / (micro_batches + stages - 1)


def most_alive(actions: Sequence[Action]) -> int:
    """How many micro-batches are forward but not yet backward at once, at most."""
    alive, most = 0, 0
    for action in actions:
        alive += 1 if action.kind == "forward" else -1
        most = max(most, alive)
    return most


def check(stage: int, stages: int, micro_batches: int) -> None:
    whole_number("stages", stages)
    whole_number("micro_batches", micro_batches)
    if type(stage) is not int or not 0 <= stage < stages:
        raise ValueError(f"{stages} stages are 0 to {stages - 1}, not {stage!r}")
