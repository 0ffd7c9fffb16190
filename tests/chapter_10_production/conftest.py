"""What the tests of chapter 10 share: threads of engines, which end with the test."""

from __future__ import annotations

import pytest
from engine_reading import PATIENCE
from small_engines import GatedEngine, small_decoder

from chapter_10_production.engine_thread import EngineThread


@pytest.fixture
def threads():
    """Starts threads, and stops them when the test is over."""
    started = []

    def start(engine=None, **options):
        thread = EngineThread(GatedEngine(small_decoder()) if engine is None else engine, **options)
        started.append(thread)
        thread.start()
        return thread

    yield start
    for thread in started:
        if isinstance(thread.engine, GatedEngine):
            thread.engine.gate.set()
        thread.stop(PATIENCE)
        assert not thread.alive, "stop ends the thread"
