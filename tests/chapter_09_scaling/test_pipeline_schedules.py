"""Pipeline schedules: their order, the bubble, what is kept, and that nobody waits for ever."""

from __future__ import annotations

import itertools

import pytest

from chapter_09_scaling.pipeline_schedules import (
    SCHEDULES,
    Action,
    Span,
    bubble_fraction,
    destination,
    gpipe,
    ideal_bubble,
    most_alive,
    one_forward_one_backward,
    source,
    timeline,
)

SIZES = list(itertools.product(range(1, 9), range(1, 13)))  # stages, micro-batches


def plans(schedule, stages: int, micro_batches: int) -> list:
    return [schedule(stage, stages, micro_batches) for stage in range(stages)]


def said(actions) -> str:
    return " ".join(f"{action.kind[0].upper()}{action.micro_batch}" for action in actions)


def test_gpipe_by_hand():
    for stage in range(3):
        assert said(gpipe(stage, 3, 3)) == "F0 F1 F2 B2 B1 B0"


def test_one_forward_one_backward_by_hand():
    found = [said(actions) for actions in plans(one_forward_one_backward, 3, 4)]
    assert found == [
        "F0 F1 F2 B0 F3 B1 B2 B3",
        "F0 F1 B0 F2 B1 F3 B2 B3",
        "F0 B0 F1 B1 F2 B2 F3 B3",
    ]


def test_fewer_micro_batches_than_stages():
    assert said(one_forward_one_backward(0, 5, 2)) == "F0 F1 B0 B1"
    assert said(one_forward_one_backward(3, 5, 2)) == "F0 F1 B0 B1"
    assert said(one_forward_one_backward(4, 5, 2)) == "F0 B0 F1 B1"


def test_the_timeline_of_two_stages_by_hand():
    # F0 F1 . B0     B1      time 0 1 2 ...: forward 1, backward 2
    #    F0 B0    F1 B1
    spans = timeline(plans(one_forward_one_backward, 2, 2))
    assert sorted(spans) == [
        Span(0, "backward", 0, 4.0, 6.0),
        Span(0, "backward", 1, 7.0, 9.0),
        Span(0, "forward", 0, 0.0, 1.0),
        Span(0, "forward", 1, 1.0, 2.0),
        Span(1, "backward", 0, 2.0, 4.0),
        Span(1, "backward", 1, 5.0, 7.0),
        Span(1, "forward", 0, 1.0, 2.0),
        Span(1, "forward", 1, 4.0, 5.0),
    ]
    assert bubble_fraction(spans) == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_micro_batch_goes_forward_and_then_backward_once(name):
    for stages, micro_batches in SIZES:
        for actions in plans(SCHEDULES[name], stages, micro_batches):
            assert len(set(actions)) == len(actions) == 2 * micro_batches
            for i in range(micro_batches):
                order = actions.index(Action("forward", i)), actions.index(Action("backward", i))
                assert order[0] < order[1], f"micro-batch {i} is backward before forward"


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("forward", "backward"), [(1.0, 2.0), (1.0, 1.0), (3.0, 1.0)])
def test_the_bubble_is_that_of_the_theory(name, forward, backward):
    for stages, micro_batches in SIZES:
        spans = timeline(plans(SCHEDULES[name], stages, micro_batches), forward, backward)
        last = max(span.end for span in spans)
        assert last == pytest.approx((micro_batches + stages - 1) * (forward + backward))
        bubble = bubble_fraction(spans)
        theory = (stages - 1) / (micro_batches + stages - 1)
        assert bubble == pytest.approx(theory), (
            f"{name}, {stages} stages, {micro_batches} micro-batches: stages wait {bubble:.3f} of "
            f"the time, where (p - 1) / (m + p - 1) = {theory:.3f} would do"
        )
        assert ideal_bubble(stages, micro_batches) == pytest.approx(theory)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_timeline_is_possible(name):
    for stages, micro_batches in SIZES:
        spans = timeline(plans(SCHEDULES[name], stages, micro_batches))
        when = {(span.stage, span.kind, span.micro_batch): span for span in spans}
        for span in spans:
            before = span.stage + (-1 if span.kind == "forward" else 1)
            if 0 <= before < stages:
                assert when[before, span.kind, span.micro_batch].end <= span.begin
        for stage in range(stages):
            own = sorted((span.begin, span.end) for span in spans if span.stage == stage)
            assert all(a[1] <= b[0] for a, b in zip(own, own[1:])), "two actions at once"


def test_what_is_kept():
    for stages, micro_batches in SIZES:
        for stage in range(stages):
            assert most_alive(gpipe(stage, stages, micro_batches)) == micro_batches
            kept = most_alive(one_forward_one_backward(stage, stages, micro_batches))
            assert kept == min(stages - stage, micro_batches), (
                f"stage {stage} of {stages} keeps {kept} of {micro_batches} micro-batches: it "
                "needs as many as there are stages from itself to the last"
            )


def rendezvous(plans: list) -> list[str]:
    """Ranks whose messages only travel while both ends wait for them: who never comes to an end.

    Between two actions, a stage sends what the first has made while it receives what the second
    needs, and goes on when both are done: what `Pipeline.pass_on` does, with no memory in between.
    """
    stages = len(plans)
    calls = [[] for _ in plans]  # of each stage, sets of ("send" or "take", other stage, action)
    for stage, actions in enumerate(plans):
        for last, action in zip((None, *actions), (*actions, None)):
            call = set()
            if last is not None and destination(last, stage, stages) is not None:
                call.add(("send", destination(last, stage, stages), last))
            if action is not None and source(action, stage, stages) is not None:
                call.add(("take", source(action, stage, stages), action))
            calls[stage].append(call)
    moved = True
    while moved:
        moved = False
        for stage in range(stages):
            while calls[stage] and not calls[stage][0]:
                calls[stage].pop(0)
                moved = True
            for way, other, action in list(calls[stage][0]) if calls[stage] else []:
                end = ("take", stage, action)
                if way == "send" and calls[other] and end in calls[other][0]:
                    calls[stage][0].remove((way, other, action))
                    calls[other][0].remove(end)
                    moved = True
    return [f"stage {stage}: {left[0]}" for stage, left in enumerate(calls) if left]


@pytest.mark.parametrize("name", SCHEDULES)
def test_nobody_waits_for_ever_even_where_nothing_is_sent_ahead(name):
    for stages, micro_batches in SIZES:
        assert rendezvous(plans(SCHEDULES[name], stages, micro_batches)) == []


def test_the_check_above_finds_stages_that_wait_for_one_another():
    crossed = [[Action("forward", 0), Action("forward", 1)],
               [Action("forward", 1), Action("forward", 0)]]  # fmt: skip
    assert len(rendezvous(crossed)) == 2
    # The simulation has memory between stages, so that only a missing action holds it up.
    assert len(timeline(crossed)) == 4
    with pytest.raises(ValueError, match="stage 1 cannot begin forward 1"):
        timeline([[Action("forward", 0)], [Action("forward", 1)]])
    with pytest.raises(ValueError, match="stage 0 cannot begin backward 0"):
        timeline([[Action("backward", 0), Action("forward", 0)]])


@pytest.mark.parametrize("schedule", [*SCHEDULES.values(), lambda s, p, m: ideal_bubble(p, m)])
@pytest.mark.parametrize("sizes", [(0, 2, 0), (0, 2, -1), (0, 0, 1), (0, 2, True), (0, 2, 1.5),
                                   (0, 2, float("nan"))])  # fmt: skip
def test_sizes_that_cannot_be(schedule, sizes):
    with pytest.raises(ValueError, match="whole number from 1 up"):
        schedule(*sizes)


@pytest.mark.parametrize("stage", [-1, 2, 0.5, False])
def test_stages_that_do_not_exist(stage):
    with pytest.raises(ValueError, match="2 stages are 0 to 1"):
        gpipe(stage, 2, 3)
