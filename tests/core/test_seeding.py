"""The default generator, and the place of any generator: kept as JSON and gone back to."""

from __future__ import annotations

import json

import numpy as np
import pytest

from utils import manual_seed
from utils.seeding import generator, generator_state, set_generator_state

KINDS = [
    getattr(np.random, name)
    for name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
    if hasattr(np.random, name)
]


@pytest.fixture(autouse=True)
def own_place():
    """The default generator's place is back after each test."""
    state = generator().bit_generator.state
    yield
    generator().bit_generator.state = state


def draws(rng):
    """Numbers of every kind; an odd number of 32-bit ones leaves half a draw in a buffer."""
    return [
        rng.random(3).tolist(),
        rng.normal(size=3).tolist(),
        rng.random(3, np.float32).tolist(),
        rng.integers(1000, size=3, dtype=np.int32).tolist(),
        rng.permutation(5).tolist(),
    ]


def test_the_same_seed_gives_the_same_numbers():
    found = []
    for seed in (7, 7, 8):
        manual_seed(seed)
        found.append(draws(generator()))
    assert found[0] == found[1] != found[2]


def test_seeding_is_that_of_numpy_and_keeps_the_generator():
    before = generator()
    manual_seed(7)
    assert generator() is before, "who holds the default generator must see the new seed"
    assert draws(generator()) == draws(np.random.default_rng(7))


def test_a_given_generator_is_used_itself():
    rng = np.random.default_rng(0)
    assert generator(rng) is rng and generator(None) is generator()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [0, 1, 7, 700])
def test_a_place_goes_through_json_and_back(kind, before):
    rng, other = np.random.Generator(kind(1)), np.random.Generator(kind(2))
    rng.integers(1000, size=before, dtype=np.int32)
    state = json.loads(json.dumps(generator_state(rng)))
    other.random(5)
    set_generator_state(state, other)
    assert draws(other) == draws(rng)
    set_generator_state(state, other)
    set_generator_state(state, rng)
    assert draws(other) == draws(rng), "the state is still what it was"


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_stays_when_the_generator_moves_on(kind):
    rng = np.random.Generator(kind(1))
    state = generator_state(rng)
    expected = draws(rng)
    draws(rng)
    set_generator_state(state, rng)
    assert draws(rng) == expected


def test_without_a_generator_the_default_one_is_meant():
    state = generator_state()
    expected = draws(generator())
    set_generator_state(json.loads(json.dumps(state)))
    assert draws(generator()) == expected


def test_the_place_of_another_kind_is_refused():
    rng = np.random.Generator(np.random.MT19937(0))
    before = generator_state(rng)
    with pytest.raises(ValueError, match="MT19937"):
        set_generator_state(generator_state(np.random.default_rng(0)), rng)
    assert generator_state(rng) == before
