"""OpenAI's API in front of the engine: each handler reads a request, and answers it.

Texts are handed to the engine's thread and awaited, so that one event loop serves everyone. A
client that hangs up is noticed while it is waited for, and its texts end before the next step of
the engine: nobody computes what nobody reads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, AsyncIterator, Awaitable, Callable, Sequence

from chapter_02_text_generation import Tokenizer
from chapter_10_production.api_errors import ANSWERED, RETRY_AFTER, BadRequest, failure_of
from chapter_10_production.api_requests import AskedFor, RequestLimits, RequestReader
from chapter_10_production.api_responses import (
    DONE,
    Answer,
    ChatAnswer,
    CompletionAnswer,
    event,
    model_body,
    usage_body,
)
from chapter_10_production.engine_thread import EngineThread
from chapter_10_production.front_door import Application, FrontDoor
from chapter_10_production.metrics import CONTENT_TYPE, INSTALL, Metrics
from chapter_10_production.requested_texts import RequestedTexts

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
    from starlette.routing import BaseRoute, Route
except ImportError as error:
    raise ImportError(f"the server needs Starlette ({error}): {INSTALL}") from error

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("playground.html")


@dataclass(frozen=True)
class Settings:
    """What the server asks of requests; `deadline` is the seconds after which a text ends."""

    api_key: str | None = field(default=None, repr=False)
    deadline: float | None = 120.0
    limits: RequestLimits = RequestLimits()

    def __post_init__(self) -> None:
        if self.api_key is not None and not self.api_key.strip():
            raise ValueError("an empty API key protects nothing: leave it out, or give one")
        if self.api_key is not None and not self.api_key.isprintable():
            raise ValueError("an API key is one line of letters: no client can send this one")


class Api:
    """The handlers of all routes, around one model."""

    def __init__(
        self,
        thread: EngineThread,
        tokenizer: Tokenizer,
        model_name: str,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self.thread, self.tokenizer, self.metrics = thread, tokenizer, metrics
        self.deadline = settings.deadline
        config = thread.engine.model.config
        self.reader = RequestReader(
            model_name, tokenizer, config.block_size, config.vocab_size, settings.limits
        )
        self.model = model_body(model_name, int(time.time()), config.block_size)

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.one_model),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
            Route("/health", self.health),
            Route("/metrics", self.exposition),
            Route("/", self.playground),
        ]

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.model]})

    async def one_model(self, request: Request) -> Response:
        self.reader.check_model(request.path_params["name"])
        return JSONResponse(self.model)

    async def completions(self, request: Request) -> Response:
        return await self.answer(request, self.reader.completion, CompletionAnswer)

    async def chat_completions(self, request: Request) -> Response:
        return await self.answer(request, self.reader.chat, ChatAnswer)

    async def health(self, request: Request) -> Response:
        """200 while texts are taken in, else 503 with the reason."""
        reason = "the engine has stopped" if not self.thread.alive else None
        if reason is None and self.thread.draining:
            reason = "the server finishes its texts and takes no new ones"
        if reason is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable", "reason": reason}, 503, RETRY_AFTER)

    async def exposition(self, request: Request) -> Response:
        return Response(self.metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    async def playground(self, request: Request) -> Response:
        if not PAGE.is_file():
            raise HTTPException(404)
        return FileResponse(PAGE)

    async def answer(
        self, request: Request, read: Callable[[bytes], AskedFor], shape: type[Answer]
    ) -> Response:
        """What both kinds of completion have in common: everything but reading and shape."""
        # Reading a long prompt takes a while, in which others want to be served.
        asked = await run_in_threadpool(read, await request.body())
        texts = RequestedTexts(self.thread, asked.texts(), self.deadline)
        logprobs = asked.parameters.logprobs is not None
        answer = shape(self.model["id"], self.tokenizer, logprobs)
        if asked.stream:
            return EventStream(events(asked, texts, answer), texts)
        try:
            whole = await unless_gone(request, texts.whole())
        finally:
            texts.cancel()
        written = sum(len(text.tokens) for text in whole)
        return JSONResponse(answer.whole(whole, usage_body(asked.prompt_tokens, written)))


async def events(asked: AskedFor, texts: RequestedTexts, answer: Answer) -> AsyncIterator[bytes]:
    """The answer as it comes. A failure is an event too, as the status is out already."""
    written = 0
    try:
        for chunk in answer.beginnings(len(texts)):
            yield event(chunk)
        async for index, progress in texts:
            written += len(progress.tokens)
            if progress.text or progress.logprobs or progress.finish_reason:
                yield event(answer.chunk(index, progress))
        if asked.include_usage:
            yield event(answer.usage_chunk(usage_body(asked.prompt_tokens, written)))
        yield DONE
    except Exception as error:
        failure = failure_of(error)
        if failure.status >= 500:
            log.error("a stream has ended with %s: %s", type(error).__name__, error)
        yield event(failure.body)


class EventStream(StreamingResponse):
    """Server-sent events, whose texts end with them, however they end."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], texts: RequestedTexts) -> None:
        super().__init__(content, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self.texts = texts

    async def __call__(self, scope: Any, receive: Callable, send: Callable) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.texts.cancel()


async def unless_gone(request: Request, work: Awaitable) -> Any:
    """What `work` comes to; ClientDisconnect, and the end of the work, if the client hangs up."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(hung_up(request))
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def failed(request: Request, error: Exception) -> Response:
    """The answer to a request that raised an exception."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # nobody reads it, but it is counted
    headers = {}
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
        path = ascii(request.url.path)[:100]
        said = f"{path} has no {request.method}" if status == 405 else f"there is nothing at {path}"
        error = BadRequest(
            status, said, code="method_not_allowed" if status == 405 else "not_found"
        )
    failure = failure_of(error)
    return JSONResponse(failure.body, failure.status, {**headers, **failure.headers})


def make_app(
    thread: EngineThread,
    tokenizer: Tokenizer,
    model_name: str,
    settings: Settings | None = None,
    extra_routes: Sequence[BaseRoute] = (),
    middleware: Sequence[Callable[[Application], Application]] = (),
) -> Application:
    """The server as an ASGI application, for a thread that is started by the caller.

    Metrics are those of the thread's observer, if that is a `Metrics`. `middleware` goes around the
    routes, the first outermost, behind the API key.
    """
    settings = Settings() if settings is None else settings
    metrics = thread.observer if isinstance(thread.observer, Metrics) else Metrics()
    metrics.watch(thread)
    routes = Api(thread, tokenizer, model_name, settings, metrics).routes()
    handlers = dict.fromkeys((*ANSWERED, HTTPException, ClientDisconnect, Exception), failed)
    app = Starlette(routes=[*routes, *extra_routes], exception_handlers=handlers)
    app.router.redirect_slashes = False  # /health/ is not /health
    for wrap in reversed(middleware):
        app = wrap(app)
    return FrontDoor(app, settings.api_key, metrics)
