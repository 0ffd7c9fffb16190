"""What every request passes on its way in, and every answer on its way out.

With a key set, the server is for those who send it as `Authorization: Bearer KEY`; nothing is read
of the others' requests. Answers, whoever gives them, are counted, and get a name by which they can
be talked about.
"""

from __future__ import annotations

import hmac
import json
import uuid
from typing import Awaitable, Callable

from chapter_10_production.api_responses import error_body
from chapter_10_production.metrics import Metrics

OPEN_PATHS = ("/", "/health", "/metrics")  # the page, and what monitors ask for

Application = Callable[[dict, Callable, Callable], Awaitable[None]]  # ASGI's


class FrontDoor:
    """ASGI middleware around all others; `key` is None where everybody may come in."""

    def __init__(self, app: Application, key: str | None, metrics: Metrics) -> None:
        self.app, self.key, self.metrics = app, key, metrics

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def labelled(message: dict) -> None:
            if message["type"] == "http.response.start":
                self.metrics.responded(message["status"])
                message = {**message, "headers": [*message["headers"], request_id()]}
            await send(message)

        open_to_all = self.key is None or scope["path"] in OPEN_PATHS
        if open_to_all or is_key(scope["headers"], self.key):
            await self.app(scope, receive, labelled)
        else:
            await refuse(labelled)


def request_id() -> tuple[bytes, bytes]:
    """A header by which an answer can be talked about."""
    return b"x-request-id", uuid.uuid4().hex.encode()


def is_key(headers: list[tuple[bytes, bytes]], key: str) -> bool:
    """Whether the headers hold the key, once."""
    sent = [value for name, value in headers if name.lower() == b"authorization"]
    scheme, _, given = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
    # A comparison that ends at the first wrong letter would tell by its time how far it came.
    same = hmac.compare_digest(given.strip(), key.encode())
    return same and scheme.lower() == b"bearer"


async def refuse(send: Callable) -> None:
    said = "the API key is missing or wrong: send the header Authorization: Bearer KEY"
    body = json.dumps(error_body(said, "invalid_request_error", code="invalid_api_key")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", b"Bearer"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
