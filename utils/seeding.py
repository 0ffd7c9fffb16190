"""The one default generator of random numbers, and how to seed it."""

from __future__ import annotations

import numpy as np

_default = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Seed the default generator: the same seed gives the same numbers, bit for bit."""
    _default.bit_generator.state = np.random.PCG64(seed).state


def generator(rng: np.random.Generator | None = None) -> np.random.Generator:
    """`rng` itself, or the default generator where none is given."""
    return _default if rng is None else rng
