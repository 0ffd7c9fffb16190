"""Many clients in one thread: each asks for a text, reads it as it comes, and asks for the next.

A load test must not be slower than what it tests. So a client is a coroutine that speaks HTTP/1.1
over a socket of its own, which it keeps from one request to the next, and writes down when what
arrived. Some hang up in the middle, as people do; whoever is told that the server is full waits as
long as it says.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import numpy as np

WORDS = ["the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "with"]
BEGINNING = "this is the one that was in the world "  # of every other prompt
PATIENCE = 120.0  # seconds for an answer to go on
CANCELLED = 0.15  # share of texts that nobody reads to the end
LONGEST_TEXT = 64  # tokens that are asked for at most


@dataclass
class Record:
    """One request: when it was sent and when each piece of its text came, in seconds."""

    sent: float
    status: int = 0
    pieces: list[float] = field(default_factory=list)
    tokens: int = 0
    ended: float = 0.0
    cancelled: bool = False
    error: str | None = None


class Connection:
    """A connection to a server, opened when it is needed; `body` is read before the next `ask`."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"the server's address is like http://127.0.0.1:8000, not {url!r}")
        self.host, self.port, self.key = parts.hostname, parts.port or 80, key
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str]]:
        """Send a request; its answer's status and headers."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if self.key is not None:
            lines.append(f"Authorization: Bearer {self.key}")
        if data:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        status = int((await self.line()).split()[1])
        self.headers = {}
        while True:
            name, _, value = (await self.line()).decode("latin-1").partition(":")
            if not value:
                return status, self.headers
            self.headers[name.lower()] = value.strip()

    async def body(self) -> AsyncIterator[bytes]:
        """The body, piece by piece."""
        if self.headers.get("transfer-encoding") != "chunked":
            yield await self.arrived(self.reader.readexactly(int(self.headers["content-length"])))
        else:
            while True:
                size = int(await self.line(), 16)
                data = await self.arrived(self.reader.readexactly(size + 2))
                if size == 0:
                    break
                yield data[:-2]
        if self.headers.get("connection") == "close":
            self.close()

    async def whole(self) -> bytes:
        return b"".join([data async for data in self.body()])

    async def line(self) -> bytes:
        return (await self.arrived(self.reader.readuntil(b"\n"))).strip()

    async def arrived(self, coming: Awaitable[bytes]) -> bytes:
        """What comes, in time; ConnectionError otherwise."""
        try:
            return await asyncio.wait_for(coming, PATIENCE)
        except asyncio.TimeoutError:
            raise ConnectionError(f"nothing came for {PATIENCE:g} s") from None
        except asyncio.IncompleteReadError:
            raise ConnectionError("the server has closed the connection") from None

    def close(self) -> None:
        """Hang up."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


async def events(connection: Connection) -> AsyncIterator[dict[str, Any]]:
    """The objects of server-sent events, up to [DONE]; ConnectionError where that does not come."""
    received, done = b"", False
    async for data in connection.body():
        *lines, received = (received + data).split(b"\n\n")
        for line in lines:
            done = line == b"data: [DONE]"
            if not done:
                yield json.loads(line[len(b"data: ") :])
    if not done:
        raise ConnectionError("the text broke off")


def wish(rng: np.random.Generator, model: str, context: int) -> dict[str, Any]:
    """A request: a prompt of any length up to half the context, short ones more often."""
    length = int(2 ** rng.uniform(2, np.log2(context // 2)))
    words = " ".join(rng.choice(WORDS, size=length))
    shared = BEGINNING if rng.random() < 0.5 else ""
    most = min(LONGEST_TEXT, context // 2)
    return {
        "model": model,
        "prompt": (shared + words)[:length].strip(),
        "max_tokens": int(rng.integers(most // 4, most, endpoint=True)),
        "seed": int(rng.integers(2**31)),
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def read_text(connection: Connection, body: dict, record: Record, most: float) -> None:
    """Ask for a text and read it, at most so many pieces of it."""
    record.status, headers = await connection.ask("POST", "/v1/completions", body)
    if record.status != 200:
        said = await connection.whole()
        if record.status == 429:
            record.ended = time.monotonic()
            await asyncio.sleep(float(headers.get("retry-after", 1)))
        else:
            record.error = f"status {record.status}: {json.loads(said)['error']['message']}"
        return
    async for event in events(connection):
        if "error" in event:
            record.error = event["error"]["message"]
            return  # it was the last event
        if event["choices"]:
            if event["choices"][0]["text"]:
                record.pieces.append(time.monotonic())
            if len(record.pieces) >= most:
                record.cancelled, record.tokens = True, len(record.pieces)
                connection.close()
                return
        else:
            record.tokens = event["usage"]["completion_tokens"]


async def use(
    connection: Connection,
    wishes: Callable[[], dict[str, Any]],
    rng: np.random.Generator,
    records: list[Record],
    end: float,
) -> None:
    """Be a client until `end`, by time.monotonic(): text after text, each in the records."""
    while time.monotonic() < end:
        body = wishes()
        gone = rng.random() < CANCELLED
        most = rng.integers(1, body["max_tokens"], endpoint=True) if gone else float("inf")
        record = Record(time.monotonic())
        try:
            await read_text(connection, body, record, most)
        except (OSError, ValueError, KeyError, IndexError) as error:
            record.error = f"{type(error).__name__}: {error}"
        if record.error is not None:
            connection.close()
            await asyncio.sleep(0.1)  # whatever is wrong may still be so
        record.ended = record.ended or time.monotonic()
        records.append(record)
    connection.close()
