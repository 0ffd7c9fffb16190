"""Schedules: the rate at the start, at the corners, at the end and beyond; what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Parameter
from chapter_08_optimization import cosine, inverse_sqrt, linear, one_cycle, warm_up, wsd

FALLING = {
    "linear": lambda steps: linear(2.0, steps, 0.5),
    "cosine": lambda steps: cosine(2.0, steps, 0.5),
    "wsd": lambda steps: wsd(2.0, steps, rise=0, fall=0.5, least=0.5),
}
ENDING = {**FALLING, "one_cycle": lambda steps: one_cycle(2.0, steps)}


def values(schedule, steps):
    return np.array([schedule(step) for step in range(steps)])


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (linear(2.0, 10), {0: 2, 1: 1.8, 5: 1, 9: 0.2, 10: 0, 11: 0, 10**6: 0}),
        (linear(2.0, 10, 1.0), {0: 2, 5: 1.5, 10: 1, 11: 1, 10**6: 1}),
        (linear(1.0, 1), {0: 1, 1: 0}),
        (cosine(2.0, 12), {0: 2, 4: 1.5, 6: 1, 8: 0.5, 12: 0, 13: 0, 10**6: 0}),
        (cosine(2.0, 12, 1.0), {0: 2, 4: 1.75, 6: 1.5, 12: 1, 13: 1, 10**6: 1}),
        (inverse_sqrt(2.0, 4), {0: 0.5, 1: 1, 3: 2, 15: 1, 63: 0.5, 399: 0.2}),
        # 0.3 * 10 - 1 steps up from 1 / 25, 7 down to 1 / 25 / 1e4.
        (one_cycle(1.0, 10), {0: 0.04, 1: 0.52, 2: 1, 5.5: 0.500002, 9: 4e-6, 10: 4e-6, 99: 4e-6}),
        (one_cycle(1.0, 9, 1 / 3, 10.0, 10.0), {0: 0.1, 1: 0.55, 2: 1, 5: 0.505, 8: 0.01}),
        (warm_up(3.0, 3), {0: 1, 1: 2, 2: 3, 3: 3, 10**6: 3}),
        (warm_up(3.0, 1), {0: 3, 1: 3}),
        (warm_up(3.0, 0), {0: 3, 1: 3}),
        (warm_up(linear(4.0, 8), 4), {0: 1, 1: 1.75, 2: 2.25, 3: 2.5, 4: 2, 8: 0, 9: 0}),
    ],
)
def test_the_rate_at_the_corners(schedule, expected):
    for step, rate in expected.items():
        assert schedule(step) == pytest.approx(rate, abs=1e-12), f"at step {step}"


@pytest.mark.parametrize(
    "schedule, expected",
    [
        # Up for 4 steps, level until 20 - 10, down with 1 - sqrt.
        (wsd(2.0, 20, 4, 0.5), {0: 0.5, 1: 1, 3: 2, 4: 2, 10: 2, 12.5: 1, 20: 0, 25: 0}),
        (wsd(2.0, 100, 0, 0.25, 1.0), {0: 2, 75: 2, 76: 2 - 0.2, 84: 2 - 0.6, 100: 1, 200: 1}),
    ],
)
def test_wsd_at_its_corners(schedule, expected):
    for step, rate in expected.items():
        assert schedule(step) == pytest.approx(rate, abs=1e-12), f"at step {step}"


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("name", FALLING)
def test_it_falls_from_the_highest_to_the_least_and_stays(name, steps):
    rates = values(FALLING[name](steps), 2 * steps + 5)
    assert rates[0] == 2 and (np.diff(rates) <= 1e-12).all(), f"{name} rises somewhere"
    np.testing.assert_allclose(rates[steps:], 0.5, err_msg=f"{name}, after the end")


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("rise", [0.01, 0.3, 0.9])
def test_one_cycle_rises_once_and_falls_once(steps, rise):
    rates = values(one_cycle(2.0, steps, rise), steps + 3)
    assert (rates >= 0).all() and rates.max() <= 2 + 1e-12
    top = int(np.argmax(rates))
    assert (np.diff(rates[: top + 1]) > 0).all(), "it falls before the top"
    assert (np.diff(rates[top:]) <= 1e-12).all(), "it rises after the top"
    if steps > 1:
        assert rates[steps - 1] == pytest.approx(2 / 25 / 1e4), "the last step's rate"
    assert rates[steps] == pytest.approx(rates[steps + 2]), "beyond the end it stays"


def test_wsd_does_not_ask_for_the_end_before_the_fall():
    short, long = wsd(1.0, 100, rise=10), wsd(1.0, 10**6, rise=10)
    np.testing.assert_array_equal(values(short, 80), values(long, 80))
    assert (values(short, 101)[10:81] == 1).all() and short(81) < 1
    fall = -np.diff(values(short, 101)[80:])
    assert (np.diff(fall) < 1e-12).all() and fall[0] > fall[-1], "1 - sqrt is steep at first"


def test_a_fall_over_the_whole_run_and_a_rise_longer_than_the_run():
    assert wsd(1.0, 100, rise=0, fall=1.0)(25) == pytest.approx(0.5)
    rates = values(wsd(1.0, 10, rise=100, fall=0.2), 12)
    assert rates[0] == pytest.approx(0.01) and rates[10] == 0 and rates.max() <= 0.1


def test_inverse_sqrt_is_highest_when_it_has_risen():
    rates = values(inverse_sqrt(1.0, 10), 1000)
    assert np.argmax(rates) == 9 and rates[9] == 1, "the rise takes 10 steps: 0 to 9"
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[9:]) < 0).all()


def test_a_warm_up_ends_in_the_schedule_itself():
    schedule = cosine(1.0, 50)
    warmed = warm_up(schedule, 10)
    assert warmed(0) == pytest.approx(schedule(0) / 10), "the first step is not one of length 0"
    assert (values(warmed, 60)[9:] == values(schedule, 60)[9:]).all()
    assert (np.diff(values(warm_up(1.0, 10), 10)) > 0).all()


@pytest.mark.parametrize("name", ENDING)
def test_an_optimiser_takes_them_and_asking_changes_nothing(name):
    schedule = warm_up(ENDING[name](5), 2)
    expected = values(schedule, 8)
    p = Parameter(np.zeros(1))
    optimizer = SGD([p], lr=schedule)
    steps = []
    for _ in range(8):
        before, p.grad = p.data.copy(), np.ones(1)
        assert optimizer.lr == optimizer.lr
        optimizer.step()
        steps.append((before - p.data).item())
    np.testing.assert_allclose(steps, expected, atol=1e-12)
    assert all(isinstance(rate, float) for rate in map(schedule, range(8)))
    assert schedule(3) == expected[3], "a schedule remembers nothing"


BAD = [
    *[
        (make, name, value)
        for make in (linear, cosine, wsd, one_cycle, inverse_sqrt)
        for name, value in [("highest", -1.0), ("highest", math.nan), ("highest", math.inf)]
    ],
    *[
        (make, "steps", value)
        for make in (linear, cosine, wsd, one_cycle)
        for value in (0, -1, math.nan)
    ],
    *[(make, "least", value) for make in (linear, cosine, wsd) for value in (-0.1, math.nan)],
    *[(one_cycle, "pct_start", value) for value in (0.0, 1.0, -0.1, math.nan)],
    *[
        (one_cycle, name, value)
        for name in ("div_factor", "final_div_factor")
        for value in (0.0, -1.0, math.nan)
    ],
    *[(wsd, "fall", value) for value in (0.0, 1.1, -0.1, math.nan)],
    *[(wsd, "rise", value) for value in (-1, math.nan)],
    *[(inverse_sqrt, "rise", value) for value in (0, -1, math.nan)],
    *[(warm_up, "steps", value) for value in (-1, math.nan)],
]


@pytest.mark.parametrize("make, name, value", BAD)
def test_bad_arguments_are_named(make, name, value):
    usual = {
        linear: {"highest": 1.0, "steps": 10},
        cosine: {"highest": 1.0, "steps": 10},
        wsd: {"highest": 1.0, "steps": 10},
        one_cycle: {"highest": 1.0, "steps": 10},
        inverse_sqrt: {"highest": 1.0, "rise": 10},
        warm_up: {"schedule": 1.0, "steps": 10},
    }[make]
    with pytest.raises(ValueError, match=f"{name} .*{value:g}"):
        make(**{**usual, name: value})


@pytest.mark.parametrize("rate", [-1.0, math.nan])
def test_a_warm_up_to_a_bad_number_is_refused_like_any_other(rate):
    with pytest.raises(ValueError, match=str(rate)):
        warm_up(rate, 10)
