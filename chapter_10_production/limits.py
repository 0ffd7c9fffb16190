"""What is refused of a request's body, before the application sees it, and a log of requests.

Middleware in ASGI's own terms: an application is a function of a request's `scope`, of `receive`,
which gives the body piece by piece, and of `send`. A middleware is one that calls another, and may
hand it a `receive` and a `send` of its own.

A body is refused by its headers where these say enough, and read here otherwise, within a size and
a time, so that the application gets all of it at once or nothing. The sizes of heads, and readers
who do not read, are the business of `protocol.py`.
Source: ASGI specification 3.0, asgi.readthedocs.io.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import Any, Awaitable, Callable

from chapter_10_production.api_errors import BadRequest, failure_of

log = logging.getLogger(__name__)

Scope = dict  # type, method, path, headers, ...
Receive = Callable[[], Awaitable[dict]]
Send = Callable[[dict], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG = 128  # connections that the system holds until they are accepted
WITH_BODY = ("POST", "PUT", "PATCH")


@dataclass(frozen=True)
class BodyLimits:
    """At most `most_body` bytes, within `timeout` seconds; the rest is thrown away in `linger`."""

    most_body: int = 1 << 20
    timeout: float = 20.0
    linger: float = 1.0


class LimitBodies:
    """Middleware: JSON bodies only, of limited size, within a limited time."""

    def __init__(self, app: Application, limits: BodyLimits | None = None) -> None:
        self.app = app
        self.limits = BodyLimits() if limits is None else limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            if check_headers(scope, self.limits.most_body):
                receive = await self.read(receive)
        except BadRequest as refused:
            await self.refuse(refused, receive, send)
        except ClientGone:
            return
        else:
            await self.app(scope, receive, send)

    async def read(self, receive: Receive) -> Receive:
        """Read the body; what is returned gives it again, in one piece."""
        body, end = bytearray(), time.monotonic() + self.limits.timeout
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), end - time.monotonic())
            except asyncio.TimeoutError:
                seconds = self.limits.timeout
                raise BadRequest(408, f"a body comes within {seconds:g} s") from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > self.limits.most_body:
                raise too_large(self.limits.most_body)
            more = message.get("more_body", False)
        whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> dict:
            return whole.pop() if whole else await receive()

        return again

    async def refuse(self, refused: BadRequest, receive: Receive, send: Send) -> None:
        """Answer, and take for a moment what still comes: who is writing does not read."""
        body = json.dumps(failure_of(refused).body).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        end = time.monotonic() + self.limits.linger
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), end - time.monotonic())
            except asyncio.TimeoutError:
                break
            more = message["type"] == "http.request" and message.get("more_body", False)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class ClientGone(Exception):
    """The client has left in the middle of its request."""


def check_headers(scope: Scope, most_body: int) -> bool:
    """Whether there is a body to read; raises BadRequest for one that is not to be read."""
    headers = scope["headers"]
    lengths = values(headers, b"content-length")
    length = int(lengths[0]) if lengths else 0
    has_body = length > 0 or bool(values(headers, b"transfer-encoding"))
    if length > most_body:
        raise too_large(most_body)
    if not has_body:
        return False
    codings = values(headers, b"content-encoding")
    if any(coding.strip().lower() != "identity" for coding in codings):
        raise BadRequest(415, f"a body comes as it is, not in Content-Encoding {codings[0]!r}")
    if scope["method"] in WITH_BODY:
        kinds = values(headers, b"content-type")
        if len(kinds) != 1 or not is_json(kinds[0]):
            said = f"not {kinds[0]!r}" if kinds else "which the header Content-Type has to say"
            raise BadRequest(415, f"a body is application/json in UTF-8, {said}")
    return True


def too_large(most_body: int) -> BadRequest:
    return BadRequest(413, f"a body has at most {most_body:,} bytes")


def is_json(kind: str) -> bool:
    """Whether a Content-Type is that of JSON, in UTF-8 if it says in what."""
    name, *parameters = (part.strip().lower() for part in kind.split(";"))
    charsets = [p for p in parameters if p.startswith("charset=")]
    utf8 = all(p.partition("=")[2].strip('" ') in ("utf-8", "utf8") for p in charsets)
    return name == "application/json" and utf8


def values(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name.lower() == wanted]


class LogRequests:
    """Middleware: one line a request, without its query, its headers and its body."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status, whole = time.monotonic(), 0, False

        async def noted(message: dict[str, Any]) -> None:
            nonlocal status, whole
            await send(message)
            status = message.get("status", status)
            whole = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            await self.app(scope, receive, noted)
        finally:
            client = (scope.get("client") or ["-"])[0]
            path = ascii(scope["path"])[1:-1]  # no line ends, nothing that a terminal obeys
            end = status if whole else f"{status or '-'} cut off"
            seconds = time.monotonic() - begin
            log.info("%s %s %s %s %.2f s", client, scope["method"], path, end, seconds)
