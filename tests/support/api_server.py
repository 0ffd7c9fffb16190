"""The whole server, in a thread of the test or as the script that a reader starts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from live_server import JSON, PATIENCE, ask, connect, head, post, read_answer
from small_engines import SlowEngine, small_decoder, small_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "chapter_10_production" / "serve.py"


class Api:
    """A server's port, and the requests that tests make of it."""

    def __init__(self, port: int, thread=None, server=None) -> None:
        self.port, self.thread, self.server = port, thread, server

    def get(self, path: str):
        return ask(self.port, head(path=path))

    def complete(self, more: str = JSON, **fields):
        """The answer to a completion; it has `error` or, if all is well, is JSON in `body`."""
        return ask(self.port, self.completion(more, **fields))

    @staticmethod
    def completion(more: str = JSON, **fields) -> bytes:
        body = {"model": "small", "prompt": "ab", "max_tokens": 3, "temperature": 0, **fields}
        return post(json.dumps(body).encode(), more, "/v1/completions")

    def stream(self, **fields):
        """A connection on which a stream has begun: its first event was read."""
        connection = connect(self.port)
        connection.sendall(self.completion(stream=True, **fields))
        begun = b""
        while b"data: " not in begun:
            piece = connection.recv(4096)
            if not piece:
                connection.close()
                raise AssertionError(f"the stream ends before it begins: {begun!r}")
            begun += piece
        return connection


@contextlib.contextmanager
def api_served(engine=None, most_waiting=64, settings=None, send_buffer=None, **limits):
    """The API of an engine, by default a slow one with a context of 2,000 tokens."""
    from chapter_10_production.app import Settings, make_app
    from chapter_10_production.engine_thread import EngineThread
    from chapter_10_production.graceful_server import GracefulServer
    from chapter_10_production.limits import BodyLimits, LimitBodies
    from chapter_10_production.metrics import Metrics
    from chapter_10_production.protocol import WireLimits

    tokenizer = small_tokenizer()
    engine = SlowEngine(small_decoder(2000), tokenizer) if engine is None else engine
    thread = EngineThread(engine, most_waiting, Metrics())
    body_limits = BodyLimits(timeout=0.5, linger=0.2)
    app = make_app(thread, tokenizer, "small", Settings() if settings is None else settings,
                   middleware=[lambda app: LimitBodies(app, body_limits)])  # fmt: skip
    wire = WireLimits(**{"head_timeout": 0.5, "send_timeout": 0.5, "linger": 0.2, **limits})
    ready = threading.Event()
    server = GracefulServer(app, thread, 5, wire, ready.set)
    listener = socket.socket()
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    thread.start()
    serving = threading.Thread(
        target=lambda: asyncio.run(server.serve_until_asked(listener)), daemon=True
    )
    serving.start()
    assert ready.wait(PATIENCE), "the server did not start"
    try:
        yield Api(listener.getsockname()[1], thread, server)
    finally:
        engine.gate.set()
        thread.stop(PATIENCE)
        server.end()
        server.end()
        serving.join(PATIENCE)
        assert not serving.is_alive(), "the server did not end"


class Script(Api):
    """serve.py in a process of its own; `log` is what it wrote to standard error."""

    def __init__(self, process, port: int, said: str, log: Path) -> None:
        super().__init__(port)
        self.process, self.said, self._log = process, said, log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def end(self, sign=signal.SIGTERM) -> int:
        self.process.send_signal(sign)
        return self.process.wait(PATIENCE)


def command(*flags) -> list:
    return [sys.executable, str(SCRIPT), *map(str, flags)]


@contextlib.contextmanager
def script_served(folder: Path, *flags, start=(), **environment):
    """The script, once it says that it serves; `start` is what its command begins with."""
    log = folder / f"log-{time.monotonic_ns()}"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment}
    with open(log, "w") as errors:
        process = subprocess.Popen(
            [*start, *command("--port", 0, *flags)], cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    with process:
        try:
            said = process.stdout.readline()
            found = re.search(r":(\d+) ", said)
            assert found, f"it said {said!r}, and {log.read_text()!r}"
            yield Script(process, int(found[1]), said, log)
        finally:
            process.kill()


def read_stream(connection) -> tuple[list, bool]:
    """The rest of a stream that has begun: its finish_reasons, and whether it ended."""
    with connection.makefile("rb") as file:
        raw = file.read()
    lines = re.findall(rb"data: (\{.*?\})\n", raw)
    reasons = [choice["finish_reason"] for line in lines for choice in
               json.loads(line).get("choices", [])]  # fmt: skip
    return [reason for reason in reasons if reason], b"[DONE]" in raw


__all__ = ["Api", "Script", "api_served", "command", "read_answer", "read_stream", "script_served"]
