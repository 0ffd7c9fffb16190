"""The one default generator of random numbers, how to seed it, and how to keep its place."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Iterator

import numpy as np

_default = np.random.default_rng()


class _Own(threading.local):
    """A thread's own default generator, None where it uses the one of all."""

    rng: np.random.Generator | None = None


_own = _Own()


def manual_seed(seed: int) -> None:
    """Seed the default generator: the same seed gives the same numbers, bit for bit."""
    _default.bit_generator.state = np.random.PCG64(seed).state


def generator(rng: np.random.Generator | None = None) -> np.random.Generator:
    """`rng` itself, or the default generator where none is given."""
    if rng is None:
        rng = _own.rng
    return _default if rng is None else rng


@contextlib.contextmanager
def own_generator(seed: int | np.random.Generator) -> Iterator[None]:
    """Inside the block, this thread's default generator is one of its own, begun at `seed`."""
    before, _own.rng = _own.rng, np.random.default_rng(seed)
    try:
        yield
    finally:
        _own.rng = before


def generator_state(rng: np.random.Generator | None = None) -> dict[str, Any]:
    """Where a generator (the default one where none is given) stands, as JSON can hold it."""
    return _without_arrays(generator(rng).bit_generator.state)


def set_generator_state(state: dict[str, Any], rng: np.random.Generator | None = None) -> None:
    """Let a generator go on where `generator_state` was taken of one of its kind."""
    generator(rng).bit_generator.state = state


def _without_arrays(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _without_arrays(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state
