"""The thread that owns the engine: what comes in, what goes out, and who waits for whom."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from engine_reading import PATIENCE, read, run, until, words
from small_engines import CONTEXT, GatedEngine, StumblingEngine, small_decoder, small_tokenizer

from chapter_10_production import engine_thread
from chapter_10_production.engine import Engine
from chapter_10_production.engine_thread import (
    DeadlineExceeded,
    Observer,
    QueueFull,
)
from chapter_10_production.sampling_parameters import SamplingParameters


def test_texts_are_those_that_the_engine_writes_alone(threads):
    prompts = [[i % 20, 3] for i in range(40)]
    each = [SamplingParameters(max_tokens=1 + i % 9, seed=i) for i in range(40)]
    expected = [c.tokens for c in Engine(small_decoder()).generate(prompts, *each)]
    thread = threads(most_waiting=40)

    async def main():
        return await asyncio.gather(*(read(thread.submit(*both)) for both in zip(prompts, each)))

    found = run(main)
    assert [text.tokens for text in found] == expected
    assert {text.reason for text in found} == {"length"}
    assert thread.waiting == thread.running == thread.cache_use == 0


def test_texts_from_before_the_thread_do_not_end_it(threads):
    engine = Engine(small_decoder())
    with pytest.raises(ValueError):
        engine.generate([[1], [999]])  # the first is in the engine by then
    thread = threads(engine)

    async def main():
        return await read(thread.submit([1], words(3)))

    assert run(main).reason == "length"


def test_what_a_slow_reader_missed_comes_as_one_piece(threads):
    thread = threads(Engine(small_decoder(), small_tokenizer()))

    async def main():
        stream = thread.submit([1], words(30, logprobs=1))
        begin = time.monotonic()
        while thread.engine.written < 30 and time.monotonic() < begin + PATIENCE:
            time.sleep(0.01)  # the event loop sleeps too
        progress = await stream.__anext__()
        rest = [piece async for piece in stream]
        return progress, rest

    progress, rest = run(main)
    assert len(progress.tokens) + sum(len(p.tokens) for p in rest) == 30
    assert len(rest) <= 1, "what comes while nobody reads is kept together"
    assert len(progress.logprobs) == len(progress.tokens)
    assert progress.text == small_tokenizer().decode(progress.tokens)


def test_a_full_queue_refuses_and_has_room_again(threads):
    thread = threads(GatedEngine(small_decoder(), most_running=1), most_waiting=2)

    async def main():
        thread.engine.gate.clear()
        taken = [thread.submit([i], words(2)) for i in range(3)]
        with pytest.raises(QueueFull) as caught:
            thread.submit([4], words(2))
        assert caught.value.retry_after >= 1
        thread.engine.gate.set()
        await read(taken[0])  # who sees the end finds room
        taken.append(thread.submit([4], words(2)))
        await asyncio.gather(*map(read, taken[1:]))
        return [await read(text) for text in taken[3:]]

    assert run(main)[0].tokens == [], "it was read to its end before"


def test_a_burst_is_taken_as_far_as_there_is_room(threads):
    thread = threads(GatedEngine(small_decoder(), most_running=3), most_waiting=4)
    taken = []

    async def main():
        for _ in range(20):
            try:
                taken.append(thread.submit([1], words(3)))
            except QueueFull:
                break
        return [await read(text) for text in taken]

    assert len(run(main)) >= 7, "3 run and 4 wait"


def test_retry_after_is_the_queue_at_the_speed_of_late(threads, monkeypatch):
    now = [100.0]

    class Clocked(GatedEngine):
        def step(self):
            now[0] += 1  # second
            return super().step()

    monkeypatch.setattr(engine_thread, "time", SimpleNamespace(monotonic=lambda: now[0]))
    thread = threads(Clocked(small_decoder(), most_running=1), most_waiting=4)

    async def main():
        for _ in range(4):
            await read(thread.submit([1], words(6)))
        now[0] += 1000  # in which nothing is asked
        thread.engine.gate.clear()
        streams = [thread.submit([1], words(1)) for _ in range(5)]
        with pytest.raises(QueueFull) as caught:
            thread.submit([1], words(1))
        thread.engine.gate.set()
        for stream in streams:
            await read(stream)
        return caught.value.retry_after

    # Five seconds from the first to the last of six tokens; four wait, or five if none runs yet.
    assert 4 * 5 <= run(main) <= 5 * 5


def test_cancelled_before_the_first_step_twice_and_after_the_end(threads):
    thread = threads()

    async def main():
        thread.engine.gate.clear()
        early = thread.submit([1], words(40))
        early.cancel()
        early.cancel()
        thread.engine.gate.set()
        first = await read(early)
        late = thread.submit([1], words(2))
        second = await read(late)
        late.cancel()
        late.cancel()
        return first, second, await read(thread.submit([1], words(2)))

    first, second, third = run(main)
    assert (first.tokens, first.reason) == ([], "cancelled")
    assert second.reason == third.reason == "length"


def test_cancelling_frees_a_running_text(threads):
    thread = threads(GatedEngine(small_decoder(), most_running=1))

    async def main():
        running, waiting = thread.submit([1], words(40)), thread.submit([2], words(2))
        await running.__anext__()
        running.cancel()
        return await read(running), await read(waiting)

    ended, served = run(main)
    assert ended.reason in ("cancelled", "length")
    assert served.reason == "length"
    assert thread.engine.pool.held == 0


@pytest.mark.parametrize("most_running", [1, 8], ids=["in the queue", "in the writing"])
def test_a_deadline_ends_a_text_and_frees_its_slot(threads, most_running):
    thread = threads(GatedEngine(small_decoder(), most_running=most_running))

    async def main():
        thread.engine.gate.clear()
        first = thread.submit([1], words(3))
        late = thread.submit([2], words(40), deadline=0.05)
        begin = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
            await read(late)
        passed = time.monotonic() - begin
        thread.engine.gate.set()
        assert (await read(first)).reason == "length"
        await until(lambda: thread.running == thread.waiting == 0)
        return passed

    assert run(main) < 2, "a deadline does not wait for the engine"
    assert thread.engine.pool.held == 0
    assert thread.engine.written < 10, "a text that is late is not written to its end"


def test_a_text_that_ends_in_time_is_not_ended_by_its_deadline(threads):
    thread = threads()

    async def main():
        stream = thread.submit([1], words(2), deadline=0.2)
        found = await read(stream)
        await asyncio.sleep(0.3)
        return found, await read(stream)

    found, again = run(main)
    assert found.reason == "length"
    assert again.tokens == [], "reading on after the end gives nothing"


def test_nothing_waits_for_a_step(threads):
    thread = threads()

    async def main():
        await read(thread.submit([1], words(1)))
        thread.engine.gate.clear()
        begin = time.monotonic()
        streams = [thread.submit([1], words(5)) for _ in range(10)]
        await asyncio.sleep(0.05)  # the thread is within a step now
        streams += [thread.submit([1], words(5)) for _ in range(10)]
        for stream in streams[:5]:
            stream.cancel()
        drained = thread.drain()
        passed = time.monotonic() - begin
        assert thread.waiting + thread.running == 20
        thread.engine.gate.set()
        await drained
        return passed

    assert run(main) < 5, "a lock is held while the model works"


def test_a_text_that_fails_ends_alone(threads):
    thread = threads(StumblingEngine(small_decoder()))
    alone = Engine(small_decoder()).generate([[5, 6]], words(10))[0].tokens

    async def main():
        both = thread.submit([0, 6], words(10)), thread.submit([5, 6], words(10))
        return await asyncio.gather(*map(read, both))

    failed, served = run(main)
    assert failed.reason == "error" and len(failed.tokens) == 2
    assert served.reason == "length" and served.tokens == alone
    assert thread.alive


def test_bad_prompts_are_refused_at_once_and_harm_nobody(threads):
    thread = threads(GatedEngine(small_decoder(), cached_tokens=16))

    async def main():
        for prompt in ([], [99], [-1], [0] * CONTEXT):
            with pytest.raises(ValueError, match="prompt"):
                thread.submit(prompt, words(3))
        with pytest.raises(ValueError, match="pages"):
            await read(thread.submit([1], words(40)))
        assert thread.waiting == 0
        return await read(thread.submit([1], words(3)))

    assert run(main).reason == "length"


class Notes(Observer):
    def __init__(self) -> None:
        self.events = []

    def submitted(self) -> None:
        self.events.append(("submitted",))

    def rejected(self) -> None:
        self.events.append(("rejected",))

    def first_token(self, seconds) -> None:
        self.events.append(("first_token", seconds))

    def tokens(self, count, seconds) -> None:
        self.events.append(("tokens", count, seconds))

    def finished(self, reason) -> None:
        self.events.append(("finished", reason))

    def of(self, name):
        return [event[1:] for event in self.events if event[0] == name]


def test_an_observer_is_told_everything_once(threads):
    notes = Notes()
    thread = threads(GatedEngine(small_decoder(), most_running=1), most_waiting=0, observer=notes)

    async def main():
        thread.engine.gate.clear()
        stream = thread.submit([1], words(5))
        with pytest.raises(QueueFull):
            thread.submit([1], words(5))
        thread.engine.gate.set()
        await read(stream)
        with pytest.raises(DeadlineExceeded):
            await read(thread.submit([1], words(40), deadline=0))
        await until(lambda: len(notes.of("finished")) == 2)

    run(main)
    assert len(notes.of("submitted")) == 2 and len(notes.of("rejected")) == 1
    assert notes.of("finished") == [("length",), ("deadline",)]
    assert notes.of("first_token")[0][0] > 0
    counts = notes.of("tokens")[:5]
    assert counts[0] == (1, None) and all(c == 1 and seconds > 0 for c, seconds in counts[1:])


def test_an_observer_that_fails_does_not_end_the_engine(threads):
    class Broken(Observer):
        def tokens(self, count, seconds) -> None:
            raise ZeroDivisionError

    thread = threads(observer=Broken())

    async def main():
        return await read(thread.submit([1], words(3)))

    assert run(main).reason == "length"
    assert thread.alive
