"""Bodies: what is refused unread, what while it is read, and what comes through whole."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from chapter_10_production.limits import BodyLimits, LimitBodies, LogRequests, is_json

pytest.importorskip("starlette", reason="needs the extra serve")

JSON = [(b"content-type", b"application/json")]


class Wire:
    """A client that sends these pieces, with pauses, and keeps what it gets."""

    def __init__(self, *pieces, pause=0.0, then_gone=False) -> None:
        self.pieces, self.pause, self.then_gone = list(pieces), pause, then_gone
        self.asked, self.sent = 0, []

    async def receive(self):
        self.asked += 1
        await asyncio.sleep(self.pause)
        if self.pieces:
            body = self.pieces.pop(0)
            more = bool(self.pieces) or self.then_gone
            return {"type": "http.request", "body": body, "more_body": more}
        if not self.then_gone:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None

    @property
    def error(self):
        return json.loads(b"".join(m.get("body", b"") for m in self.sent))["error"]


bodies = []


async def app(scope, receive, send):
    """Reads its body as Starlette does, and keeps it."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    bodies.append(body)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def scope(headers=(), method="POST", path="/v1/completions"):
    return {"type": "http", "method": method, "path": path, "headers": list(headers),
            "query_string": b"key=secret", "client": ("127.0.0.1", 5)}  # fmt: skip


def ask(wire, headers=(), method="POST", limits=None):
    bodies.clear()
    limits = BodyLimits(most_body=10, timeout=0.3, linger=0.1) if limits is None else limits
    limited = LimitBodies(app, limits)
    asyncio.run(limited(scope(headers, method), wire.receive, wire.send))
    return wire


def length(n):
    return [*JSON, (b"content-length", str(n).encode())]


CHUNKED = [*JSON, (b"transfer-encoding", b"chunked")]


def test_a_body_comes_whole():
    wire = ask(Wire(b"hello", b"", b"there"), CHUNKED)
    assert wire.status == 200 and bodies == [b"hellothere"]
    assert ask(Wire(b"0123456789"), length(10)).status == 200


def test_after_the_body_the_application_hears_that_the_client_left():
    heard = []

    async def listening(scope, receive, send):
        heard.append((await receive())["body"])
        heard.append((await receive())["type"])

    async def main():
        messages = [{"type": "http.request", "body": b"{}", "more_body": False},
                    {"type": "http.disconnect"}]  # fmt: skip

        async def receive():
            return messages.pop(0)

        await LimitBodies(listening)(scope(length(2)), receive, None)

    asyncio.run(main())
    assert heard == [b"{}", "http.disconnect"]


def test_what_announces_too_much_is_refused_unread():
    wire = Wire(b"01234567890", then_gone=True)
    ask(wire, length(11), limits=BodyLimits(most_body=10, linger=0))
    assert wire.status == 413 and "10 bytes" in wire.error["message"]
    assert bodies == []
    assert (b"connection", b"close") in wire.sent[0]["headers"]


def test_what_turns_out_to_be_too_much_is_refused_too():
    wire = ask(Wire(*[b"123456"] * 100), CHUNKED)
    assert wire.status == 413 and bodies == []


def test_an_endless_body_is_taken_for_a_moment_only():
    wire = ask(Wire(*[b"123456"] * 10_000, pause=0.01), CHUNKED)
    assert wire.status == 413
    assert wire.asked < 100, "what is thrown away after a refusal has a time too"


def test_a_slow_body_is_refused():
    wire = ask(Wire(*[b"1"] * 100, pause=0.05), CHUNKED)
    assert wire.status == 408 and bodies == []
    assert ask(Wire(pause=60), length(5)).status == 408


def test_a_client_that_leaves_gets_nothing_and_asks_nothing():
    wire = ask(Wire(b"12", then_gone=True), length(5))
    assert wire.sent == [] and bodies == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 415),
        ([(b"content-type", b"text/plain")], 415),
        ([(b"content-type", b"application/x-www-form-urlencoded")], 415),
        ([(b"content-type", b"application/json; charset=utf-16")], 415),
        ([*JSON, *JSON], 415),
        ([*JSON, (b"content-encoding", b"gzip")], 415),
        ([*JSON, (b"content-encoding", b"identity")], 200),
        ([(b"content-type", b"Application/JSON; charset=UTF-8")], 200),
    ],
)
def test_bodies_are_json_as_it_is(headers, status):
    wire = ask(Wire(b"{}"), [*headers, (b"content-length", b"2")])
    assert wire.status == status
    if status == 415:
        assert wire.error["type"] == "invalid_request_error"


def test_a_request_without_a_body_is_none_of_its_business():
    assert ask(Wire(b""), method="GET").status == 200
    assert ask(Wire(b""), [(b"content-length", b"0")]).status == 200


def test_is_json():
    for kind in ("application/json", "APPLICATION/JSON;charset=utf8", 'application/json; x="1"'):
        assert is_json(kind), kind
    for kind in ("", "json", "application/jsonp", "text/json", "application/json; charset=latin1"):
        assert not is_json(kind), kind


def test_the_log_has_a_line_a_request_without_secrets(caplog):
    async def failing(scope, receive, send):
        raise ZeroDivisionError

    async def main():
        for wrapped in (app, failing):
            wire = Wire(b'{"prompt": "secret"}')
            headers = [(b"authorization", b"Bearer secret")]
            logged = LogRequests(wrapped)
            try:
                await logged(scope(headers, path="/a\n\x1b[1m\u2028"), wire.receive, wire.send)
            except ZeroDivisionError:
                continue

    with caplog.at_level(logging.INFO, "chapter_10_production.limits"):
        asyncio.run(main())
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(r"127.0.0.1 POST /a\n\x1b[1m\u2028 200 ")
    assert "- cut off" in second
    assert "secret" not in first + second
