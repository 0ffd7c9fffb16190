"""One thread owns the engine; requests reach it through a lock that nobody holds for long.

The server answers many clients in one event loop, which must never wait for the model. So the model
works in a thread of its own. Requests, and the wish to end them, are left where the thread finds
them between two steps; what a step wrote goes back to the event loop in one call, however many
texts it is about. Only the thread touches the engine, and it holds no lock while the model works.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections import deque
from typing import Sequence

from chapter_10_production.engine import Engine
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.sequence import Progress, Text
from chapter_10_production.streams import (
    DeadlineExceeded,
    Stream,
    call_in,
    end_all,
    push_all,
)

log = logging.getLogger(__name__)

SHORTEST_RETRY, LONGEST_RETRY = 1.0, 60.0  # seconds that a refused client is told to wait
REMEMBERED = 64  # texts, from which it is known how long one takes
PARTING = 2.0  # seconds that the end of the program waits for a step to end


class QueueFull(Exception):
    """As many texts wait as may; there may be room in `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many requests wait already; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class Unavailable(Exception):
    """No text is taken: the server ends, or its engine has died."""


class Observer:
    """Is told what happens, in the event loop or in the engine's thread; here it does nothing."""

    def submitted(self) -> None:
        """A text was taken in."""

    def rejected(self) -> None:
        """A text was refused, as too many wait."""

    def first_token(self, seconds: float) -> None:
        """A text has its first token, so long after it came."""

    def tokens(self, count: int, seconds: float | None) -> None:
        """A text has so many more tokens, so long after those before; None where these begin it."""

    def finished(self, reason: str) -> None:
        """A text ended: its finish_reason, or "deadline", or "died" with the engine."""


class EngineThread:
    """Serves texts of an event loop by an engine that nobody else may touch from now on.

    As many texts run as the engine can, and `most_waiting` more wait. `observer` is told what
    happens; gauges are `waiting`, `running` and `cache_use`.
    """

    def __init__(
        self, engine: Engine, most_waiting: int = 64, observer: Observer | None = None
    ) -> None:
        if type(most_waiting) is not int or most_waiting < 0:
            raise ValueError(f"most_waiting is a whole number from 0 up, not {most_waiting!r}")
        self.engine, self.most_waiting = engine, most_waiting
        self.observer = Observer() if observer is None else observer
        self.draining = False
        self._streams: dict[Text, Stream] = {}  # the thread's own
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._changed = threading.Condition()  # its lock guards what follows
        self._arrived: list[Stream] = []
        self._unwanted: list[Stream] = []
        self._open: set[Stream] = set()  # all that have not ended
        self._took: deque[float] = deque(maxlen=REMEMBERED)  # seconds, from first token to end
        self._drains: list[asyncio.Future] = []
        self._serves = self._stopping = False

    @property
    def alive(self) -> bool:
        """Whether texts are written; False for ever once the thread has ended for any reason."""
        return self._serves and self._thread.is_alive()

    @property
    def most(self) -> int:
        """How many texts run and wait at most."""
        return self.engine.scheduler.most_running + self.most_waiting

    @property
    def running(self) -> int:
        """How many texts are being written."""
        return len(self.engine.scheduler.running) if self.alive else 0

    @property
    def waiting(self) -> int:
        """How many texts wait."""
        return max(0, len(self._open) - self.running)

    @property
    def cache_use(self) -> float:
        """The share of the cache's pages that texts hold, 0 to 1."""
        return self.engine.pool.held / self.engine.pool.pages if self.alive else 0.0

    def start(self) -> None:
        """Begin; a thread starts once."""
        self._serves = True
        atexit.register(self.stop, PARTING)
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """End after the present step, and with it all texts; waits so many seconds for that."""
        atexit.unregister(self.stop)
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def submit(
        self,
        prompt: Sequence[int],
        parameters: SamplingParameters,
        deadline: float | None = None,
        count: int = 1,
    ) -> Stream:
        """Take a text in; `deadline` seconds from now it ends, finished or not.

        `count` texts are to come, of which this is the first: it needs room for all of them.
        For the event loop, in which the stream is to be read. Raises QueueFull, Unavailable, and
        ValueError for a prompt that the engine refuses.
        """
        prompt = self.engine.checked(prompt)
        stream = Stream(self, prompt, parameters)
        with self._changed:
            if not self.alive or self._stopping:
                raise Unavailable("the engine has stopped: nothing can be written any more")
            if self.draining:
                raise Unavailable("the server is about to end and takes nothing new")
            full = len(self._open) + count > self.most
            if not full:
                self._open.add(stream)
                self._arrived.append(stream)
                self._changed.notify()
        if full:
            self._tell("rejected")
            raise QueueFull(self._retry_after())
        self._tell("submitted")
        if deadline is not None:
            stream.timer = stream.loop.call_later(deadline, self._expire, stream, deadline)
        return stream

    def drain(self) -> asyncio.Future:
        """Take nothing new; what is returned can be awaited, and is done when all have ended."""
        done = asyncio.get_running_loop().create_future()
        with self._changed:
            self.draining = True
            if self._open and self.alive:
                self._drains.append(done)
            else:
                done.set_result(None)
        return done

    def cancel(self, stream: Stream) -> None:
        """End a text before the next step; nothing happens to one that has ended."""
        with self._changed:
            if stream in self._open:
                self._unwanted.append(stream)
                self._changed.notify()

    def _expire(self, stream: Stream, deadline: float) -> None:
        stream.expired = True
        stream.fail(DeadlineExceeded(f"the text was not finished within {deadline:g} s"))
        self.cancel(stream)

    def _retry_after(self) -> float:
        """How long the queue takes to be worked off, if texts take as long as the last ones did."""
        with self._changed:
            took, waiting = list(self._took), self.waiting
        one = sum(took) / len(took) if took else 0.0
        seconds = one * waiting / self.engine.scheduler.most_running
        return min(max(seconds, SHORTEST_RETRY), LONGEST_RETRY)

    # What follows runs in the engine's thread.

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while self._take_in():
                self._deliver(self.engine.step())
        except BaseException as caught:  # whatever it is, somebody waits for an answer
            error = caught
            log.exception("the engine has died")
        self._close(error)

    def _take_in(self) -> bool:
        """Wait for work, and hand the engine what came; False where the thread is to end."""
        with self._changed:
            while not (self._arrived or self._unwanted or self._stopping or self.engine.busy):
                self._changed.wait()
            arrived, self._arrived = self._arrived, []
            unwanted, self._unwanted = self._unwanted, []
            if self._stopping:
                return False
        for stream in arrived:
            try:
                stream.text = self.engine.add(stream.prompt, stream.parameters)
            except ValueError as error:
                self._end([(stream, "error")])
                stream.post(lambda stream=stream, error=error: stream.fail(error))
            else:
                self._streams[stream.text] = stream
        for stream in unwanted:
            if stream.text is not None:
                self.engine.cancel(stream.text)
        return True

    def _deliver(self, news: list[Progress]) -> None:
        """Hand what is new to the event loops, in one call each."""
        now, ended = time.monotonic(), []
        parcels: dict[asyncio.AbstractEventLoop, list] = {}
        for progress in news:
            stream = self._streams.get(progress.request)
            if stream is None:  # a text that the engine had before it got a thread
                continue
            self._measure(stream, len(progress.tokens), now)
            if progress.finish_reason is not None:
                del self._streams[progress.request]
                reason = "deadline" if stream.expired else progress.finish_reason
                ended.append((stream, reason))
            parcels.setdefault(stream.loop, []).append((stream, progress))
        self._end(ended)  # first: who learns of an end finds room for the next text
        for parcel in parcels.values():
            if not parcel[0][0].post(lambda parcel=parcel: push_all(parcel)):
                for stream, _ in parcel:
                    self.engine.cancel(stream.text)  # nobody is left to read it

    def _measure(self, stream: Stream, count: int, now: float) -> None:
        if count:
            if stream.wrote is None:
                self._tell("first_token", now - stream.submitted)
                stream.began = now
            self._tell("tokens", count, None if stream.wrote is None else now - stream.wrote)
            stream.wrote = now

    def _end(self, ended: list[tuple[Stream, str]]) -> None:
        with self._changed:
            for stream, _ in ended:
                self._open.discard(stream)
                if stream.wrote is not None:
                    self._took.append(stream.wrote - stream.began)
            drains = []
            if not self._open:
                drains, self._drains = self._drains, []
        for _, reason in ended:
            self._tell("finished", reason)
        for done in drains:
            call_in(done.get_loop(), lambda done=done: done.done() or done.set_result(None))

    def _close(self, error: BaseException | None) -> None:
        """Leave nobody waiting: all texts end with the thread."""
        with self._changed:
            self._serves = False
            left, self._arrived, self._unwanted = list(self._open), [], []
        atexit.unregister(self.stop)
        self._streams.clear()
        self._end([(stream, "died") for stream in left])
        for loop in {stream.loop for stream in left}:
            own = [stream for stream in left if stream.loop is loop]
            call_in(loop, lambda own=own: end_all(own, error))

    def _tell(self, event: str, *facts) -> None:
        try:
            getattr(self.observer, event)(*facts)
        except Exception:  # an observer that fails must not end what it observes
            log.exception("the observer failed at %s", event)
