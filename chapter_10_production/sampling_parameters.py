"""What a request may ask of the writing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SamplingParameters:
    """How to continue a text; the names are the field's, the filters those of chapter 2.

    At most `max_tokens` are written, None meaning as many as the context holds. `temperature` 0
    takes the likeliest token. `seed` makes the text the same whenever and beside whomever it is
    written; None draws one. Writing ends before any of the `stop` strings. `logprobs` asks for the
    log-probability of each token and of so many of the likeliest in its place. Raises ValueError,
    by name, for what is out of range.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "max_tokens", least=1)
        check_whole(self, "top_k", least=1)
        check_whole(self, "seed", least=0)
        check_whole(self, "logprobs", least=0)
        check_number(self, "temperature", lambda x: 0 <= x < math.inf, "at least 0 and finite")
        check_number(self, "top_p", lambda x: 0 < x <= 1, "above 0 and up to 1", optional=True)
        check_number(self, "min_p", lambda x: 0 <= x <= 1, "from 0 to 1", optional=True)
        several = isinstance(self.stop, (tuple, list))
        if not several or not all(isinstance(s, str) and s for s in self.stop):
            raise ValueError(f"stop holds texts that are not empty, not {self.stop!r}")


def check_whole(holder: Any, name: str, least: int) -> None:
    value = getattr(holder, name)
    if value is not None and (type(value) is not int or value < least):
        raise ValueError(f"{name} is a whole number from {least} up, not {value!r}")


def check_number(holder: Any, name: str, fits: Any, said: str, optional: bool = False) -> None:
    value = getattr(holder, name)
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
        raise ValueError(f"{name} is a number {said}, not {value!r}")
