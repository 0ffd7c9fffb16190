"""HTTP as it comes off the wire, and what of it is refused before the application sees anything.

uvicorn reads HTTP with h11 and starts the application once the head of a request (its first line
and its headers) is complete. Here the head is looked at first, as it came: how long it is, how long
it takes, and whether it says twice how long the body is, which h11 would pass over and another
server between us and the client might read otherwise. Whatever is refused gets JSON, as all other
errors do, and the connection ends. So does one whose client does not take what is sent to it, and
one whose client has closed its own side: it is taken for gone, as a closed browser looks the same.

Of uvicorn's H11Protocol this uses the asyncio methods, `on_response_complete`, `send_400_response`,
and the attributes `conn`, `connections`, `cycle`, `flow`, `loop` and `transport`.
Source: Fielding, Nottingham, Reschke, 2022, RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import http
import json
import re
from dataclasses import dataclass
from typing import Any, Callable

from chapter_10_production.api_errors import BadRequest, failure_of
from chapter_10_production.front_door import request_id
from chapter_10_production.metrics import INSTALL

try:
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise ImportError(f"the server needs uvicorn ({error}): {INSTALL}") from error

HEAD_END = re.compile(rb"\n\r?\n")
VERSION = re.compile(rb" HTTP/(\d\.\d)\r?$")
LENGTHS = re.compile(rb"^content-length[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
CODING = re.compile(rb"^transfer-encoding[ \t]*:", re.IGNORECASE | re.MULTILINE)
ORIGIN = re.compile(rb"https?://[^/?]*", re.IGNORECASE)


@dataclass(frozen=True)
class WireLimits:
    """What a client may take of the server before its request is known; sizes in bytes, seconds.

    `most_connections` are served at once. As many again are told to come back, the others are cut
    off. A body comes in at most `most_chunks` pieces. `send_timeout` is how long what was sent may
    lie untaken, `linger` how long is read what a refused client still sends, so that it comes to
    read the answer.
    """

    most_line: int = 8_192
    most_head: int = 32_768
    most_headers: int = 100
    most_chunks: int = 4_096
    most_connections: int = 256
    head_timeout: float = 10.0
    send_timeout: float = 20.0
    linger: float = 1.0


def check_head(received: bytes, limits: WireLimits) -> None:
    """Raise RemoteProtocolError, with a status, for a head that is refused, complete or not."""
    line = received.partition(b"\n")[0]
    if len(line) > limits.most_line:
        raise refusal(414, f"the first line of a request has at most {limits.most_line:,} bytes")
    end = HEAD_END.search(received)
    # Without the end of its last line, which may have come while that of the head has not.
    head = (received[: end.start()] if end else received).rstrip(b"\r\n")
    if len(head) > limits.most_head:
        raise refusal(431, f"the headers of a request have at most {limits.most_head:,} bytes")
    if head.count(b"\n") > limits.most_headers:
        raise refusal(431, f"a request has at most {limits.most_headers} headers")
    if end is None:
        return
    version = VERSION.search(line)
    if version and version[1] not in (b"1.0", b"1.1"):
        raise refusal(505, "this server speaks HTTP/1.1")
    lengths = LENGTHS.findall(head)
    if len(lengths) > 1 or b"," in b"".join(lengths):
        raise refusal(400, "Content-Length is given twice")
    if lengths and CODING.search(head):
        raise refusal(400, "Content-Length and Transfer-Encoding exclude one another")


def without_origin(request: h11.Request) -> h11.Request:
    """The request for /path that http://host/path, as clients of a proxy write it, stands for."""
    origin = ORIGIN.match(request.target)
    if origin is None:
        return request
    rest = request.target[origin.end() :]
    return h11.Request(
        method=request.method,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        headers=request.headers,
        http_version=request.http_version,
    )


def refusal(status: int, message: str) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(message, error_status_hint=status)


class CheckedConnection(h11.Connection):
    """h11's connection of a server, which looks at every head before it is read.

    `refused` is the error that ended it, if one did. A `crowded` one refuses all.
    """

    def __init__(self, limits: WireLimits) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.most_head + limits.most_line)
        self.limits = limits
        self.crowded = False
        self.refused: h11.RemoteProtocolError | None = None
        self.chunks = 0  # of the present body

    def next_event(self) -> Any:
        try:
            if self.their_state is h11.IDLE:
                check_head(self.trailing_data[0], self.limits)
            event = super().next_event()
            if isinstance(event, h11.Request):
                self.chunks = 0
                if self.crowded:
                    raise refusal(503, "too many connections are open; try again later")
                event = without_origin(event)
            elif isinstance(event, h11.Data):  # each takes time, though it hold a byte
                self.chunks += 1
                if self.chunks > self.limits.most_chunks:
                    raise refusal(413, f"a body has at most {self.limits.most_chunks:,} chunks")
        except h11.RemoteProtocolError as error:
            self.refused = error
            raise
        return event


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol within limits: Config(http=GuardedProtocol.within(limits))."""

    limits = WireLimits()
    counted: Callable[[int], Any] | None = None

    @classmethod
    def within(
        cls, limits: WireLimits, counted: Callable[[int], Any] | None = None
    ) -> type[GuardedProtocol]:
        """The class with limits of its own, as uvicorn makes the objects.

        `counted` is called with the status of every answer that is given here.
        """
        own = {"limits": limits, "counted": counted and staticmethod(counted)}
        return type(cls.__name__, (cls,), own)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = CheckedConnection(self.limits)
        self.timers: dict[str, Any] = {}  # asyncio.TimerHandle by name

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        open_now, most = len(self.connections), self.limits.most_connections
        self.conn.crowded = open_now > most
        if open_now > 2 * most:
            transport.abort()
            return
        # Whatever the system does not take of us at once counts as not taken.
        transport.set_write_buffer_limits(high=0)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self.timers):
            self._unset(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.conn.refused is None:  # else it is read only so that our answer is
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def shutdown(self) -> None:
        """What uvicorn calls when the server ends; who was refused before ends by itself."""
        if self.conn.refused is not None:
            return
        if self.conn.their_state is h11.SEND_BODY and not self.cycle.response_started:
            self.conn.refused = refusal(503, "the server is about to end and takes nothing new")
            self.send_400_response("")
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set("send", self.limits.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        self._unset("send")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what was refused; uvicorn calls it for all that h11 raises."""
        error = self.conn.refused
        said = str(error).partition(": b")[0]  # behind it h11 quotes the bytes that came
        self.refuse(error.error_status_hint, said)

    def refuse(self, status: int, message: str) -> None:
        """Answer in JSON and end the connection, once the client has had time to read it."""
        self._unset("head")
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            begun, cycle.disconnected = cycle.response_started, True
            cycle.message_event.set()  # the application learns that nobody waits
            if begun:
                self.transport.close()
                return
        if self.counted is not None:
            self.counted(status)
        self.transport.write(answer(status, message))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._set("linger", self.limits.linger, self.transport.abort)

    def _watch(self) -> None:
        """Give a head its time, and a short one to a body that was answered unread."""
        conn = self.conn
        # A head is waited for from its first byte on, the first one from the beginning.
        began = self.cycle is None or bool(conn.trailing_data[0])
        head = conn.their_state is h11.IDLE and began and conn.refused is None
        self._keep("head", head, self.limits.head_timeout, self._head_is_late)
        rest = conn.their_state is h11.SEND_BODY and conn.our_state is h11.DONE
        self._keep("rest", rest, self.limits.linger, self.transport.abort)

    def _head_is_late(self) -> None:
        if not self.conn.trailing_data[0]:
            self.transport.close()  # it was opened and never used
            return
        seconds = self.limits.head_timeout
        self.conn.refused = refusal(408, f"the headers of a request come within {seconds:g} s")
        self.send_400_response("")

    def _keep(self, name: str, wanted: bool, seconds: float, call: Any) -> None:
        """Have a timer run, from now if it does not run yet, or have none."""
        if not wanted:
            self._unset(name)
        elif name not in self.timers:
            self._set(name, seconds, call)

    def _set(self, name: str, seconds: float, call: Any) -> None:
        self._unset(name)
        self.timers[name] = self.loop.call_later(seconds, call)

    def _unset(self, name: str) -> None:
        timer = self.timers.pop(name, None)
        if timer is not None:
            timer.cancel()


def answer(status: int, message: str) -> bytes:
    """A whole response, after which the connection ends."""
    body = json.dumps(failure_of(BadRequest(status, message)).body).encode()
    name, value = (part.decode() for part in request_id())
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
             "content-type: application/json", f"content-length: {len(body)}", f"{name}: {value}",
             "connection: close", *(["retry-after: 5"] if status == 503 else [])]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode() + body
