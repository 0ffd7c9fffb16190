"""The thread that owns the engine: every way in which it can end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from engine_reading import PATIENCE, read, run, words
from small_engines import GatedEngine, small_decoder

from chapter_10_production.engine_thread import (
    EngineThread,
    QueueFull,
    Unavailable,
)
from chapter_10_production.streams import EngineDied, ServerStopped


def test_draining_finishes_what_waits_and_takes_nothing_new(threads):
    thread = threads(GatedEngine(small_decoder(), most_running=1), most_waiting=9)

    async def main():
        thread.engine.gate.clear()
        streams = [thread.submit([i], words(3)) for i in range(4)]
        drained = thread.drain()
        with pytest.raises(Unavailable, match="about to end"):
            thread.submit([9], words(3))
        assert not drained.done()
        thread.engine.gate.set()
        await drained
        assert thread.draining and thread.alive
        await thread.drain()  # again, when nothing is left
        return [await read(stream) for stream in streams]

    assert [text.reason for text in run(main)] == ["length"] * 4


FAULTS = [RuntimeError("a bug"), SystemExit(3), KeyboardInterrupt(), MemoryError()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_when_the_engine_dies_nobody_waits_for_ever(threads, fault):
    thread = threads(GatedEngine(small_decoder(), most_running=2), most_waiting=9)

    async def main():
        thread.engine.gate.clear()
        streams = [thread.submit([i], words(3)) for i in range(6)]
        drained = thread.drain()
        thread.engine.fault = fault
        thread.engine.gate.set()
        for stream in streams:
            with pytest.raises(EngineDied) as caught:
                await read(stream)
            assert caught.value.__cause__ is fault
        await drained
        assert not thread.alive
        assert thread.running == thread.waiting == thread.cache_use == 0
        with pytest.raises(Unavailable, match="engine has stopped"):
            thread.submit([1], words(3))
        streams[0].cancel()

    run(main)


def test_texts_that_come_while_the_engine_dies_are_answered_too():
    """Whoever is let in gets an end; nobody is let in and forgotten."""

    async def main():
        for round_ in range(20):
            thread = EngineThread(GatedEngine(small_decoder()), most_waiting=200)
            thread.start()
            answers, thread_died = [], asyncio.get_running_loop().time() + 0.002 * round_
            while thread.alive:
                try:
                    answers.append(asyncio.ensure_future(read(thread.submit([1], words(40)))))
                except Unavailable:
                    break
                except QueueFull:
                    thread.engine.fault = RuntimeError("now")
                if asyncio.get_running_loop().time() > thread_died:
                    thread.engine.fault = RuntimeError("now")
                await asyncio.sleep(0.0002)
            ended = await asyncio.gather(*answers, return_exceptions=True)
            assert all(isinstance(e, (EngineDied, SimpleNamespace)) for e in ended), ended
            thread.stop(PATIENCE)

    run(main)


def test_stopping_ends_all_texts(threads):
    thread = threads()

    async def main():
        thread.engine.gate.clear()
        streams = [thread.submit([1], words(40)) for _ in range(3)]
        thread.stop(0)
        thread.engine.gate.set()
        for stream in streams:
            with pytest.raises(ServerStopped, match="server has stopped"):
                await read(stream)
        with pytest.raises(Unavailable):
            thread.submit([1], words(40))

    run(main)


def test_an_event_loop_that_closes_takes_its_texts_with_it(threads):
    thread = threads()

    async def leave():
        thread.engine.gate.clear()
        for _ in range(5):
            thread.submit([1], words(40))

    run(leave)
    thread.engine.gate.set()

    async def come():
        return await read(thread.submit([2], words(40)))

    assert run(come).reason == "length"
    begin = time.monotonic()
    while thread.engine.busy and time.monotonic() < begin + PATIENCE:
        time.sleep(0.01)
    assert thread.running == thread.waiting == 0
    assert thread.engine.written < 6 * 40, "texts that nobody can read end early"
    assert thread.alive


ENDS = """
import asyncio, time
from small_engines import GatedEngine, small_decoder
from chapter_10_production import engine_thread
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.streams import EngineDied

engine_thread.PARTING = 0.2
engine = GatedEngine(small_decoder())
thread = engine_thread.EngineThread(engine)
thread.start()

async def main():
    engine.gate.clear()
    thread.submit([1], SamplingParameters())
    await asyncio.sleep(0.1)  # the thread is within a step that does not end

asyncio.run(main())
"""


def test_the_program_ends_though_the_engine_is_at_work():
    folder = Path(__file__).resolve().parents[1] / "support"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", ENDS], env=environment, timeout=PATIENCE,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
