"""The event loop's end of a text that another thread writes.

A stream is read with `async for`. The writer never waits for its reader: what was written since the
reader last looked comes as one piece, so a slow reader gets fewer and larger pieces, and the memory
it costs is that of its text.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Callable, Sequence

from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.sequence import Progress, Text

if TYPE_CHECKING:
    from chapter_10_production.engine_thread import EngineThread


class EngineDied(Exception):
    """The engine ended before the text did."""


class ServerStopped(EngineDied):
    """The engine was ended before the text was, and nothing is wrong with either."""


class DeadlineExceeded(Exception):
    """The text took longer than it may, in the queue or in the writing."""


class Stream:
    """A text on its way: `async for progress in stream`, then an end or an exception.

    The last progress has a finish_reason. Raises EngineDied, ServerStopped or
    DeadlineExceeded, and ValueError for a text that the engine has no room for. Whoever stops
    reading before the end calls `cancel`.
    """

    def __init__(
        self, thread: EngineThread, prompt: Sequence[int], parameters: SamplingParameters
    ) -> None:
        self.thread, self.prompt, self.parameters = thread, prompt, parameters
        self.loop = asyncio.get_running_loop()
        self.submitted = time.monotonic()
        self.began: float | None = None  # when its first token came
        self.wrote: float | None = None  # and its last one so far
        self.text: Text | None = None  # the engine's; made and read by its thread
        self.expired = False
        self.timer: asyncio.TimerHandle | None = None  # of its deadline
        self._news: list[Progress] = []
        self._error: Exception | None = None
        self._ended = False
        self._changed = asyncio.Event()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Progress:
        while not self._news:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        news, self._news = self._news, []
        return merged(news)

    def cancel(self) -> None:
        """End the text before the engine's next step; harmless where it has ended."""
        self.thread.cancel(self)

    def push(self, progress: Progress) -> None:
        """Add what is new; nothing is added to what has ended."""
        if not self._ended:
            self._news.append(progress)
            self._wake(ended=progress.finish_reason is not None)

    def fail(self, error: Exception) -> None:
        """End with an error, once what was written has been read."""
        if not self._ended:
            self._error = error
            self._wake(ended=True)

    def _wake(self, ended: bool) -> None:
        self._ended = ended
        if ended and self.timer is not None:
            self.timer.cancel()
        self._changed.set()

    def post(self, call: Callable[[], object]) -> bool:
        """Have something called in the stream's event loop; False where that is closed."""
        return call_in(self.loop, call)


def call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(call)
        return True
    return False


def push_all(parcel: Sequence[tuple[Stream, Progress]]) -> None:
    for stream, progress in parcel:
        stream.push(progress)


def end_all(streams: Sequence[Stream], cause: BaseException | None) -> None:
    for stream in streams:
        if cause is None:
            error = ServerStopped("the server has stopped before the text was finished")
        else:
            error = EngineDied("the engine has died of an error before the text was finished")
        error.__cause__ = cause
        stream.fail(error)


def merged(news: Sequence[Progress]) -> Progress:
    """Several steps of a text as one."""
    if len(news) == 1:
        return news[0]
    tokens = [token for progress in news for token in progress.tokens]
    logprobs = [logprob for progress in news for logprob in progress.logprobs]
    text = "".join(progress.text for progress in news)
    return Progress(news[0].request, tokens, text, logprobs, news[-1].finish_reason)
