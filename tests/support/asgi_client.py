"""A client of an ASGI application without a network: it sends a request, and may hang up."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

PATIENCE = 20  # seconds: whatever takes longer hangs


def run(work):
    """The result of a coroutine; what hangs fails."""
    return asyncio.run(asyncio.wait_for(work, PATIENCE))


class Reply(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> dict:
        assert sorted(self.json) == ["error"]
        found = self.json["error"]
        assert sorted(found) == ["code", "message", "param", "type"], "OpenAI's shape of an error"
        assert "\n" not in found["message"] and "Traceback" not in found["message"]
        return found

    @property
    def events(self) -> list:
        """The data of server-sent events; [DONE] as it is."""
        assert self.headers["content-type"].startswith("text/event-stream")
        *events, rest = self.body.decode().split("\n\n")
        assert rest == "" and all(event.startswith("data: ") for event in events)
        data = [event[len("data: ") :] for event in events]
        return [line if line == "[DONE]" else json.loads(line) for line in data]


class Exchange:
    """A request on its way to an application, and what has come back so far."""

    def __init__(self, app, method: str, path: str, body: bytes = b"", headers: tuple = ()) -> None:
        self.asked = [{"type": "http.request", "body": body, "more_body": False}]
        self.gone, self.came = asyncio.Event(), asyncio.Event()
        self.status, self.headers, self.body = 0, {}, b""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        self.task = asyncio.ensure_future(app(scope, self.receive, self.send))

    async def receive(self) -> dict:
        if self.asked:
            return self.asked.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message.get("body", b"")
        self.came.set()
        await asyncio.sleep(0)

    def hang_up(self) -> None:
        self.gone.set()

    async def reply(self) -> Reply:
        """All of the answer."""
        await self.task
        return Reply(self.status, self.headers, self.body)


async def ask(app, method: str, path: str, body: Any = b"", headers: tuple = ()) -> Reply:
    """One request; a body that is not bytes is sent as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return await Exchange(app, method, path, body, headers).reply()
