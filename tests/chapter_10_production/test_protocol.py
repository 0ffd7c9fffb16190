"""HTTP on the wire: what is refused, how it is said, and that the next request is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")

from live_server import (  # noqa: E402
    answer,
    ask,
    connect,
    head,
    is_closed,
    post,
    read_answer,
    served,
)

from chapter_10_production.limits import LimitBodies  # noqa: E402
from chapter_10_production.protocol import GuardedProtocol, WireLimits, check_head  # noqa: E402


class Quick(GuardedProtocol):
    limits = WireLimits(head_timeout=0.4, send_timeout=0.4, linger=0.3, most_connections=8)


seen = []  # how streams ended


async def app(scope, receive, send):
    """Answers with what it got; /endless streams until its client is gone; /slow takes a while."""
    body, more = b"", scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            seen.append("gone before the end of the body")
            return
        body += message["body"]
        more = message["more_body"]
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            await asyncio.sleep(0)
        seen.append("gone")
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    said = json.dumps({"path": scope["path"], "length": len(body)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@pytest.fixture(scope="module")
def port():
    limited = LimitBodies(app)

    async def both(scope, receive, send):
        await (app if scope["path"] == "/unread" else limited)(scope, receive, send)

    with served(both, Quick) as port:
        yield port


def check_served(port):
    found = ask(port, head(path="/next"))
    assert found.status == 200 and b"/next" in found.body, "the next request must be served"


def many(n):
    return "".join(f"X-{i}: 1\r\n" for i in range(n))


LENGTH_5 = "Content-Length: 5\r\n"
REFUSED = {
    "not HTTP": (400, b"hello\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
    "no target": (400, b"GET HTTP/1.1\r\nHost: here\r\n\r\n"),
    "space in target": (400, b"GET /a b HTTP/1.1\r\nHost: here\r\n\r\n"),
    "byte in target": (400, b"GET /\xff HTTP/1.1\r\nHost: here\r\n\r\n"),
    "empty line": (400, b"\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "space before colon": (400, head(more="Bad : 1\r\n")),
    "NUL in a header": (400, head(more="Bad: a\0b\r\n")),
    "line without colon": (400, head(more="nothing\r\n")),
    "HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "negative length": (400, head("POST", more="Content-Length: -5\r\n")),
    "length not a number": (400, head("POST", more="Content-Length: five\r\n")),
    "endless length": (400, head("POST", more=f"Content-Length: {'9' * 40}\r\n")),
    "two lengths": (400, head("POST", more=LENGTH_5 + "Content-Length: 6\r\n") + b"hello"),
    "two equal lengths": (400, head("POST", more=LENGTH_5 + LENGTH_5) + b"hello"),
    "two lengths in other cases": (
        400,
        head("POST", more=LENGTH_5 + "X: 1\r\n" + LENGTH_5.upper()) + b"hello",
    ),
    "two lengths in one": (400, head("POST", more="Content-Length: 5, 5\r\n") + b"hello"),
    "length and chunks": (
        400,
        head("POST", more=LENGTH_5 + "Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
    ),
    "compressed transfer": (501, head("POST", more="Transfer-Encoding: gzip, chunked\r\n")),
    "bad chunk": (
        400,
        head("POST", more="Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n")
        + b"zz\r\n",
    ),
    "a body in 5,000 chunks": (
        413,
        head("POST", more="Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n")
        + b"1\r\n \r\n" * 5_000
        + b"0\r\n\r\n",
    ),
    "70 KB target": (414, head(path="/" + "a" * 70_000)),
    "70 KB of a first line that does not end": (414, b"GET /" + b"a" * 70_000),
    "101 headers": (431, head(more=many(100))),
    "101 headers that do not end": (431, head(more=many(101))[:-2]),
    "40 KB of headers": (431, head(more=f"X: {'a' * 40_000}\r\n")),
    "40 KB of a header that does not end": (431, head(more=f"X: {'a' * 40_000}")[:-2]),
    "1 MB of headers": (431, head(more=f"X: {'a' * 1_000_000}\r\n")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_json_and_the_next_is_served(port, name):
    status, raw = REFUSED[name]
    found = ask(port, raw)
    assert found.status == status, found
    error = found.error
    assert error["message"] and "\n" not in error["message"] and len(error["message"]) < 200
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    assert found.headers["connection"] == "close"
    check_served(port)


def test_refusals_do_not_say_again_what_was_sent(port):
    found = ask(port, head(more="Authorization Bearer secret\r\n"))
    assert found.status == 400 and b"secret" not in found.body


def test_what_no_one_codes_is_named_whole(port):
    found = ask(port, head("POST", more="Transfer-Encoding: gzip, chunked\r\n"))
    assert found.error["message"] == "Only Transfer-Encoding: chunked is supported"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://here/a", "/a"),
        ("HTTPS://here:80/a/b", "/a/b"),
        ("http://here", "/"),
        ("http://here?q=1", "/"),
        ("/http://here/a", "/http://here/a"),
    ],
)
def test_a_whole_address_is_a_target_too(port, target, path):
    """As a proxy is asked; every server must understand it (RFC 9112, 3.2.2)."""
    found = ask(port, head(path=target))
    assert found.status == 200 and json.loads(found.body)["path"] == path


def test_refusals_are_counted_and_named():
    statuses = []
    with served(app, GuardedProtocol.within(WireLimits(), statuses.append)) as port:
        names = {ask(port, raw).headers["x-request-id"] for _, raw in REFUSED.values()}
    assert statuses == [status for status, _ in REFUSED.values() if status != 415]
    assert len(names) == len(REFUSED), "each answer has a name of its own"


def test_what_is_just_within_the_limits_is_served(port):
    assert ask(port, head(more=many(99))).status == 200  # and Host
    assert ask(port, head(path="/" + "a" * 8_000)).status == 200
    assert ask(port, head(more=f"X: {'a' * 30_000}\r\n")).status == 200


def test_a_head_in_pieces_is_the_same_head(port):
    raw = post(b"hello")
    with connect(port) as connection:
        for i in range(len(raw)):
            connection.sendall(raw[i : i + 1])
        found = answer(connection)
    assert found.status == 200 and json.loads(found.body)["length"] == 5


def test_keep_alive(port):
    with connect(port) as connection, connection.makefile("rb") as file:
        for i in range(5):
            connection.sendall(post(b"x" * i) if i % 2 else head(path=f"/{i}"))
            assert read_answer(file).status == 200


def test_pipelined_requests_are_answered_in_order(port):
    with connect(port) as connection, connection.makefile("rb") as file:
        connection.sendall(head(path="/slow") + post(b"four") + head(path="/2"))
        found = [json.loads(read_answer(file).body) for _ in range(3)]
    assert [f["path"] for f in found] == ["/slow", "/", "/2"]
    assert found[1]["length"] == 4


def test_a_bad_head_behind_a_good_request_is_refused_after_it(port):
    bad = head("POST", more=LENGTH_5 + LENGTH_5)
    for first in (head(path="/slow"), post(b"four"), head()):
        with connect(port) as connection, connection.makefile("rb") as file:
            connection.sendall(first + bad)
            assert read_answer(file).status == 200
            assert read_answer(file).status == 400
            assert file.read() == b""
    check_served(port)


def test_a_body_that_nobody_reads_must_end_soon(port):
    """An answer came before it; whoever goes on sending then is cut off."""
    for more in (f"Content-Length: {1 << 40}\r\n", "Transfer-Encoding: chunked\r\n"):
        with connect(port) as connection, connection.makefile("rb") as file:
            connection.sendall(head("POST", "/unread", more))
            assert read_answer(file).status == 200
            begin = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < begin + 5:
                    connection.sendall(b"5\r\nhello\r\n")
                    time.sleep(0.05)
            assert time.monotonic() < begin + 3
    with connect(port) as connection, connection.makefile("rb") as file:
        connection.sendall(head("POST", "/unread", LENGTH_5))
        assert read_answer(file).status == 200
        connection.sendall(b"hello" + head(path="/behind"))
        assert b"/behind" in read_answer(file).body, "a short one is passed over"


def test_a_head_that_hides_behind_an_unread_body_is_looked_at(port):
    """The first is refused before its body is read; what follows is no request then."""
    with connect(port) as connection, connection.makefile("rb") as file:
        connection.sendall(post(b"body", more="") + head(path="/hidden"))
        assert read_answer(file).status == 415
        assert file.read() == b""


def test_expect_100_continue(port):
    with connect(port) as connection, connection.makefile("rb") as file:
        connection.sendall(head("POST", more="Content-Type: application/json\r\n"
                                "Content-Length: 5\r\nExpect: 100-continue\r\n"))  # fmt: skip
        assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
        while file.readline() != b"\r\n":
            pass
        connection.sendall(b"hello")
        assert read_answer(file).status == 200


def test_slow_headers_are_cut_off_while_others_are_served(port):
    with connect(port) as slow, connect(port) as silent:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        begin = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(5):
                time.sleep(0.1)
                slow.sendall(b"X")
                check_served(port)
        assert answer(slow).status == 408
        assert is_closed(silent), "who says nothing is let go"
        assert time.monotonic() - begin < 3


def test_a_pipelined_head_that_does_not_end_is_cut_off(port):
    with connect(port) as connection, connection.makefile("rb") as file:
        connection.sendall(head() + b"GET /late")
        assert read_answer(file).status == 200
        assert read_answer(file).status == 408


def test_a_reader_who_does_not_read_is_cut_off(port):
    seen.clear()
    with connect(port) as connection:
        connection.sendall(head(path="/endless"))
        begin = time.monotonic()
        while not seen and time.monotonic() < begin + 10:
            check_served(port)
            time.sleep(0.05)
        assert seen == ["gone"], "the application must learn of it"


def test_a_reader_who_reads_slowly_is_served(port):
    """What counts is that something is taken from time to time."""
    with connect(port) as connection:
        connection.sendall(head(path="/endless"))
        end, taken = time.monotonic() + 1.5, 0
        while time.monotonic() < end:
            taken += len(connection.recv(1 << 20))
            time.sleep(0.02)
    assert taken > 1 << 20


def test_a_body_that_breaks_off_reaches_the_application_as_an_end(port):
    with connect(port) as connection:
        connection.sendall(head("POST", more="Content-Type: application/json\r\n"
                                "Content-Length: 50\r\n") + b"half")  # fmt: skip
    check_served(port)


def test_too_many_connections_get_json_and_far_too_many_are_cut_off(port):
    time.sleep(0.3)  # connections of earlier tests end
    with contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(connect(port)) for _ in range(20)]
        time.sleep(0.1)
        for connection in open_ones[8:16]:
            connection.sendall(head())
            found = answer(connection)
            assert found.status == 503 and "connections" in found.error["message"]
            assert int(found.headers["retry-after"]) >= 1
        assert all(is_closed(connection, 5) for connection in open_ones[16:])
        open_ones[0].sendall(head())
        assert answer(open_ones[0]).status == 200, "who came before is served"
    begin = time.monotonic()
    while ask(port, head()).status != 200:
        assert time.monotonic() < begin + 5, "there is room again when they have gone"


def test_the_server_ends_while_a_refused_client_lingers():
    limits = WireLimits(most_connections=1, linger=0.5)
    with contextlib.ExitStack() as stack:
        with served(app, GuardedProtocol.within(limits), patient=True) as port:
            first = stack.enter_context(connect(port))
            time.sleep(0.1)
            second = stack.enter_context(connect(port))
            second.sendall(head())
            assert answer(second).status == 503
        assert is_closed(first), "whatever is open is closed"


def test_a_body_that_is_still_to_come_does_not_keep_the_server():
    statuses = []
    protocol = GuardedProtocol.within(WireLimits(linger=0.5), statuses.append)
    with contextlib.ExitStack() as stack:
        with served(app, protocol, patient=True) as port:
            client = stack.enter_context(connect(port))
            client.sendall(head("POST", more="Content-Length: 50\r\n") + b"half")
            time.sleep(0.1)
            begin = time.monotonic()
        assert time.monotonic() < begin + 4, "nobody waits for the rest"
        found = answer(client)
    assert found.status == 503 and "about to end" in found.error["message"]
    assert statuses == [503], "and it is counted"


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("more", [many(99), f"X: {'a' * 32_000}\r\n"], ids=["headers", "bytes"])
def test_a_head_counts_the_same_however_it_is_cut(more, missing):
    whole = head(more=more)
    limits = WireLimits(most_head=len(whole) - 4)
    check_head(whole[: len(whole) - missing], limits)
    with pytest.raises(Exception, match="at most"):
        check_head(head(more=more + "Y: 1\r\n")[: -missing or None], limits)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n"])
def test_heads_end_as_h11_has_them_end(end):
    """Else a second length could stand where one looks and the other does not."""
    two = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5"
    check_head(two, WireLimits())  # not complete yet
    with pytest.raises(Exception, match="twice"):
        check_head(two + end, WireLimits())
