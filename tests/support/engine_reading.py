"""What a client of the engine's thread does in the tests: ask, read, and wait, but not for ever."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from chapter_10_production.sampling_parameters import SamplingParameters

PATIENCE = 20  # seconds: whatever takes longer hangs


def run(main):
    """Run a coroutine function; what hangs fails."""
    return asyncio.run(asyncio.wait_for(main(), PATIENCE))


async def read(stream):
    """All of a text: its tokens, and how it ended."""
    tokens, reason, pieces = [], None, 0
    async for progress in stream:
        assert reason is None, "nothing comes after the end"
        tokens += progress.tokens
        reason, pieces = progress.finish_reason, pieces + 1
    return SimpleNamespace(tokens=tokens, reason=reason, pieces=pieces)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def words(n, **more):
    return SamplingParameters(max_tokens=n, temperature=0, **more)
