"""What may be asked of the writing, and how what may not is refused."""

from __future__ import annotations

import dataclasses
import math

import pytest

from chapter_10_production import SamplingParameters

GOOD = {
    "max_tokens": [None, 1, 10**9],
    "temperature": [0, 0.0, 1, 2.5, 1e-6, 1e6],
    "top_k": [None, 1, 10**9],
    "top_p": [None, 1e-9, 0.5, 1, 1.0],
    "min_p": [None, 0, 0.0, 0.5, 1],
    "seed": [None, 0, 1, 2**64 - 1, 2**64, 2**200],
    "stop": [(), ("a",), ("a", "bcd"), ("é\n",)],
    "logprobs": [None, 0, 1, 20],
}
BAD = {
    "max_tokens": [0, -1, 1.0, True, "3", math.nan],
    "temperature": [-1e-9, math.nan, math.inf, None, "1", True],
    "top_k": [0, -1, 2.0, True, "3", math.nan],
    "top_p": [0, -0.1, 1.1, math.nan, "1", True],
    "min_p": [-0.1, 1.1, math.nan, math.inf, "1", True],
    "seed": [-1, 1.0, True, "1", math.nan],
    "stop": [("",), ("a", ""), (3,), "abc", (None,), 7],
    "logprobs": [-1, 1.0, True, "1", math.nan],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_in_range_is_kept(name):
    for value in GOOD[name]:
        assert getattr(SamplingParameters(**{name: value}), name) == value


@pytest.mark.parametrize("name", BAD)
def test_what_is_out_of_range_is_refused_by_name(name):
    for value in BAD[name]:
        with pytest.raises(ValueError, match=name):
            SamplingParameters(**{name: value})
            pytest.fail(f"{name}={value!r} was taken")


def test_the_defaults_say_nothing_but_temperature_1():
    values = dataclasses.asdict(SamplingParameters())
    assert values.pop("temperature") == 1.0
    assert values.pop("stop") == ()
    assert set(values.values()) == {None}


def test_a_list_of_stop_strings_is_as_good_as_a_tuple():
    how = SamplingParameters(stop=["a", "b"])
    assert tuple(how.stop) == ("a", "b")


def test_they_cannot_be_changed_while_a_text_is_written():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingParameters().temperature = 0.5
