"""A server in a thread of its own, and a client that says exactly what a test wants it to say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from typing import NamedTuple

PATIENCE = 20  # seconds: whatever takes longer hangs
JSON = "Content-Type: application/json\r\n"


@contextlib.contextmanager
def served(app, protocol, patient=False, **config):
    """The port of an application that uvicorn serves by a protocol.

    A `patient` server waits for its connections in the end.
    """
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    settings = {"ws": "none", "log_config": None, "access_log": False, "lifespan": "off", **config}
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, **settings))
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
    )
    thread.start()
    begin = time.monotonic()
    while not server.started:
        assert time.monotonic() < begin + PATIENCE, "the server did not start"
        time.sleep(0.005)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit, server.force_exit = True, not patient
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server did not end"


class Answer(NamedTuple):
    """What came back; status 0 where the connection ended without an answer."""

    status: int
    headers: dict
    body: bytes

    @property
    def error(self) -> dict:
        assert self.headers["content-type"] == "application/json"
        found = json.loads(self.body)["error"]
        assert sorted(found) == ["code", "message", "param", "type"], "OpenAI's shape of an error"
        return found


def connect(port: int, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", port))
    return connection


def head(method: str = "GET", path: str = "/", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: here\r\n{more}\r\n".encode()


def post(body: bytes, more: str = JSON, path: str = "/") -> bytes:
    return head("POST", path, f"{more}Content-Length: {len(body)}\r\n") + body


def ask(port: int, raw: bytes) -> Answer:
    """Send bytes over a new connection, and read one answer."""
    with connect(port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(raw)
        return answer(connection)


def answer(connection: socket.socket) -> Answer:
    """The next answer on a connection."""
    with contextlib.suppress(ConnectionError), connection.makefile("rb") as file:
        return read_answer(file)
    return Answer(0, {}, b"")


def read_answer(file) -> Answer:
    line = file.readline()
    if not line:
        return Answer(0, {}, b"")
    status, headers = int(line.split()[1]), {}
    for line in iter(file.readline, b"\r\n"):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if "content-length" in headers:
        return Answer(status, headers, file.read(int(headers["content-length"])))
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        for size in iter(lambda: int(file.readline() or b"0", 16), 0):
            body += file.read(size)
            file.readline()
        file.readline()
    return Answer(status, headers, body)


def is_closed(connection: socket.socket, within: float = PATIENCE) -> bool:
    """Whether the other side ends the connection in so many seconds."""
    connection.settimeout(within)
    try:
        while connection.recv(65536):
            pass
    except socket.timeout:
        return False
    except ConnectionError:
        pass
    return True
