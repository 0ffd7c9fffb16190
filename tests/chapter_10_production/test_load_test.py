"""The load test: it counts what happened, and it notices what a server does wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from chapter_10_production import load_test
from chapter_10_production.load_client import Connection, Record, events, read_text, wish
from chapter_10_production.load_test import Reading, checks_of, growth, main, measured

SCRIPT = Path(load_test.__file__)
CHUNK = {"choices": [{"text": "ab"}]}
USAGE = {"choices": [], "usage": {"completion_tokens": 4}}


def run(work):
    return asyncio.run(asyncio.wait_for(work, 20))


@contextlib.asynccontextmanager
async def answering(*answers: bytes):
    """A connection to a server that gives one answer after another; and what it was asked."""
    asked = []

    async def serve(reader, writer):
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            asked.append(head + await reader.readexactly(int(length[1]) if length else 0))
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = Connection(f"http://127.0.0.1:{port}", "the key")
    try:
        yield connection, asked
    finally:
        connection.close()
        server.close()


def plain(body: bytes, status="200 OK", more="") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def chunked(*parts: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def as_event(data) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def read(*answers: bytes, most=float("inf")) -> Record:
    async with answering(*answers) as (connection, _):
        record = Record(time.monotonic())
        await read_text(connection, {"prompt": "a"}, record, most)
        return record


def test_requests_share_a_connection_and_carry_the_key():
    async def talk():
        async with answering(plain(b"one"), chunked(b"tw", b"o")) as (connection, asked):
            assert (await connection.ask("GET", "/a"))[0] == 200
            assert await connection.whole() == b"one"
            await connection.ask("POST", "/b", {"x": 1})
            assert await connection.whole() == b"two"
            return asked

    first, second = run(talk())
    assert first.startswith(b"GET /a HTTP/1.1\r\n") and b"Authorization: Bearer the key" in first
    assert second.startswith(b"POST /b HTTP/1.1\r\n") and second.endswith(b'{"x": 1}')


def test_events_may_be_cut_anywhere():
    body = as_event(CHUNK) + as_event(USAGE) + b"data: [DONE]\n\n"

    async def talk(size):
        parts = [body[i : i + size] for i in range(0, len(body), size)]
        async with answering(chunked(*parts)) as (connection, _):
            await connection.ask("GET", "/")
            return [event async for event in events(connection)]

    for size in (1, 7, len(body)):
        assert run(talk(size)) == [CHUNK, USAGE]


def test_a_text_is_recorded():
    body = as_event(CHUNK) + as_event(CHUNK) + as_event(USAGE) + b"data: [DONE]\n\n"
    record = run(read(chunked(body)))
    assert (record.status, len(record.pieces), record.tokens) == (200, 2, 4)
    assert record.error is None and not record.cancelled


def test_hanging_up_is_recorded():
    record = run(read(chunked(*[as_event(CHUNK)] * 9), most=3))
    assert record.cancelled and record.tokens == 3


def test_a_refusal_is_waited_out():
    begin = time.monotonic()
    record = run(read(plain(b"{}", "429 Too Many Requests", "Retry-After: 0.2\r\n")))
    assert record.status == 429 and record.error is None
    assert time.monotonic() - begin >= 0.2, "the server said when to come again"
    assert record.ended < begin + 0.2, "the waiting is not the server's"


def test_errors_are_recorded():
    said = json.dumps({"error": {"message": "it is broken"}}).encode()
    assert "it is broken" in run(read(plain(said, "500 Internal Server Error"))).error
    assert run(read(chunked(b"data: " + said + b"\n\ndata: [DONE]\n\n"))).error == "it is broken"
    with pytest.raises(ConnectionError, match="broke off"):
        run(read(chunked(as_event(CHUNK))))
    with pytest.raises(ConnectionError, match="closed"):
        run(read(chunked(as_event(CHUNK))[:-9]))


def test_wishes_fit_every_model(rng):
    lengths = set()
    for _ in range(200):
        body = wish(rng, "m", 64)
        assert 1 <= len(body["prompt"]) <= 32 and 1 <= body["max_tokens"] <= 32
        lengths.add(len(body["prompt"]))
    assert len(lengths) > 10, "prompts are of many lengths"


def reading(t, resident=10.0, waiting=0, running=0, cache=0.0, taken=0, ended=0):
    return Reading(t, waiting, running, cache, taken, ended, resident)


def a_record(sent, first, last, tokens=11):
    return Record(sent, 200, list(np.linspace(first, last, tokens)), tokens, last)


def test_figures_by_hand():
    records = [a_record(0, 1, 2), a_record(2, 3, 4), Record(0, 429, ended=0.1)]
    found = measured(records, [reading(0, running=1), reading(4, running=1)])
    assert found["tokens"] == 22 and found["tokens_per_second"] == 5.5
    assert found["first_token"]["p50"] == 1 and found["between_tokens"]["p99"] == pytest.approx(0.1)
    assert found["finished"] == 2 and found["refused"] == 1
    # Two texts in four seconds, two seconds each: one at a time.
    assert found["texts_by_littles_law"] == found["texts_in_the_server"] == 1


def test_growth_is_that_after_the_warm_up():
    warming = [0, 50, 100, 100, 100, 100, 100, 100]
    assert growth([reading(t, size) for t, size in enumerate(warming)]) == 0
    assert growth([reading(t, 10 * t) for t in range(80)]) == 400
    assert growth([reading(t, None) for t in range(80)]) is None, "not known, not zero"


BEGIN, END = reading(0), reading(9, taken=1, ended=1)
FLAT = [reading(t) for t in range(8)]
FAULTS = {
    "some text was finished": ([Record(0, 429)], FLAT, END),
    "no errors but refusals": ([a_record(0, 1, 2), Record(0, error="no")], FLAT, END),
    "every text taken in has ended": ([a_record(0, 1, 2)], FLAT, reading(9, taken=2, ended=1)),
    "nothing runs or waits, no page of the cache is held": (
        [a_record(0, 1, 2)],
        FLAT,
        reading(9, cache=0.1, taken=1, ended=1),
    ),
    "memory stays flat": (
        [a_record(0, 1, 2)],
        [reading(t, t * 2**24) for t in range(8)],
        END,
    ),
}


def test_a_good_server_passes():
    checks = checks_of([a_record(0, 1, 2), Record(0, 429)], FLAT, END)
    assert len(checks) == 5 and all(checks.values())
    unknown = [reading(t, None) for t in range(8)]
    assert "memory stays flat" not in checks_of([a_record(0, 1, 2)], unknown, END)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_noticed(fault):
    failed = [name for name, passed in checks_of(*FAULTS[fault]).items() if not passed]
    assert failed == [fault]


def test_bad_addresses_are_refused(tmp_path, capsys):
    out = ["--quick", "--out", str(tmp_path / "out")]
    assert "http://127.0.0.1:8000" in refused(main, ["ftp://here", *out], capsys)[0]
    refused(main, ["http://127.0.0.1:9", *out], capsys)  # nobody listens there
    assert "seconds" in refused(main, ["--seconds", "nan", *out], capsys)[0]


@pytest.mark.parametrize(
    "answer", [b"hello\r\n", b"HTTP/1.1 200 OK\r\n\r\n", plain(b"[]"), plain(b'{"data": []}')]
)
def test_a_server_of_another_kind_is_told_from_ours(answer, tmp_path, capsys):
    with socketserver.TCPServer(("127.0.0.1", 0), Answering) as server:
        server.answer = answer
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        message, _ = refused(main, [url, "--quick", "--out", str(tmp_path / "out")], capsys)
    assert "does not answer as a server of this chapter" in message


class Answering(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1 << 16)
        self.request.sendall(self.server.answer)


def test_a_server_that_does_not_start_is_reported(tmp_path, capsys, monkeypatch):
    broken = tmp_path / "broken.py"
    broken.write_text("import sys; sys.exit('serve.py: error: no such extra')")
    monkeypatch.setattr(load_test, "SERVER", broken)
    message, _ = refused(main, ["--quick", "--out", str(tmp_path / "out")], capsys)
    assert "did not start: serve.py: error: no such extra" in message


def test_a_failed_check_ends_with_status_1(tmp_path, capsys, monkeypatch):
    async def attack(*_):
        return FAULTS["no errors but refusals"]

    monkeypatch.setattr(load_test, "attack", attack)
    with pytest.raises(SystemExit) as stop:
        main(["http://127.0.0.1:9", "--out", str(tmp_path)])
    assert stop.value.code == 1
    assert "NO   no errors but refusals" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["checks"]["memory stays flat"]


@pytest.mark.slow
def test_quick_run_against_a_real_server(tmp_path):
    for package in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(package, reason=f"needs {package}: pip install -e .[serve]")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "MPLBACKEND": "agg"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO " not in done.stdout and done.stdout.count("yes  ") == 5
    out = tmp_path / "runs" / "load_test"
    found = json.loads((out / "metrics.json").read_text())
    assert found["clients"] == 8 and all(found["checks"].values())
    assert found["measured_over_the_seconds"]["errors"] == 0
    for figure in ("waits_seconds.png", "course_seconds.png"):
        assert (out / figure).read_bytes().startswith(b"\x89PNG")


def test_the_servers_own_words_of_an_error_are_kept():
    record = run(read(chunked(as_event(CHUNK), as_event({"error": {"message": "it has died"}}))))
    assert record.error == "it has died" and len(record.pieces) == 1


def test_what_was_measured_is_told_though_the_server_dies(tmp_path, capsys):
    """It takes requests for a while, and then is gone: in the middle, as servers die."""
    with dying_server(answers=30) as url, pytest.raises(SystemExit) as ended:
        main([url, "--clients", "2", "--seconds", "20", "--out", str(tmp_path)])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "NO   the server is there to the end" in said and "requests in" in said
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["checks"]["the server is there to the end"] is False
    assert found["measured_over_the_seconds"]["requests"] > 0


@contextlib.contextmanager
def dying_server(answers: int):
    """Answers so many requests as a server of this chapter would, and then no more."""
    gauges = b"texts_waiting 0\ntexts_running 0\ncache_use_ratio 0\ntexts_submitted_total 1\n"
    models = json.dumps({"data": [{"id": "m", "max_model_len": 64}]}).encode()
    text = chunked(as_event(CHUNK), as_event(USAGE), b"data: [DONE]\n\n")
    left = iter(range(answers))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while next(left, None) is not None:
                line, length = self.rfile.readline(), 0
                while True:
                    header = self.rfile.readline()
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                    if header in (b"\r\n", b""):
                        break
                self.rfile.read(length)
                known = {b"/metrics": plain(gauges), b"/v1/models": plain(models)}
                self.wfile.write(known.get(line.split()[1] if line else b"", text))
                time.sleep(0.02)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = allow_reuse_address = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
