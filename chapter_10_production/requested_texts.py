"""The texts of one request: taken in all or none, written side by side, ended together."""

from __future__ import annotations

import asyncio
from typing import AsyncIterator, Iterable, Sequence

from chapter_10_production.api_errors import BadRequest, ModelFailed
from chapter_10_production.engine_thread import EngineThread
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.sequence import Progress
from chapter_10_production.streams import merged


class RequestedTexts:
    """`async for index, progress in texts`, as they come; whoever stops before the end cancels.

    Raises BadRequest for more texts than the thread ever takes, what its `submit` does, and while
    it is read what its streams do; then, too, all texts are cancelled.
    """

    def __init__(
        self,
        thread: EngineThread,
        texts: Iterable[tuple[Sequence[int], SamplingParameters]],
        deadline: float | None = None,
    ) -> None:
        self.streams, texts = [], list(texts)
        if len(texts) > thread.most:
            raise BadRequest(400, f"{len(texts)} texts are asked for; this server writes at most "
                             f"{thread.most} at once", "n", "invalid_value")  # fmt: skip
        try:
            for left, (prompt, parameters) in zip(range(len(texts), 0, -1), texts):
                self.streams.append(thread.submit(prompt, parameters, deadline, left))
        except BaseException:
            self.cancel()
            raise

    def __len__(self) -> int:
        return len(self.streams)

    def cancel(self) -> None:
        """End all of them; harmless for those that have ended."""
        for stream in self.streams:
            stream.cancel()

    async def __aiter__(self) -> AsyncIterator[tuple[int, Progress]]:
        nexts = {}

        def await_next(index: int) -> None:
            nexts[asyncio.ensure_future(self.streams[index].__anext__())] = index

        try:
            for index in range(len(self)):
                await_next(index)
            while nexts:
                done, _ = await asyncio.wait(nexts, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=nexts.__getitem__):
                    index, progress = nexts.pop(task), news_of(task)
                    yield index, progress
                    if progress.finish_reason is None:
                        await_next(index)
        finally:
            self.cancel()
            for task in nexts:
                task.cancel()
            asyncio.gather(*nexts, return_exceptions=True)  # their errors are known to one of us

    async def whole(self) -> list[Progress]:
        """All texts, each as one progress, once all have ended."""
        found: list[list[Progress]] = [[] for _ in self.streams]
        async for index, progress in self:
            found[index].append(progress)
        return [merged(news) for news in found]


def news_of(task: asyncio.Future) -> Progress:
    try:
        progress = task.result()
    except ValueError as error:  # the engine has no room for such a text, ever
        raise BadRequest(400, str(error), "max_tokens", "text_too_long") from None
    if progress.finish_reason == "error":
        raise ModelFailed
    return progress
