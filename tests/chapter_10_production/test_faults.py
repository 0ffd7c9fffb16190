"""What a server meets: clients that leave, stall or flood, and an engine that dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("starlette", reason="needs the extra serve")

from api_server import Api, api_served, read_stream, script_served  # noqa: E402
from live_server import JSON, answer, ask, connect, head, is_closed, post  # noqa: E402
from small_engines import SlowEngine, small_decoder, small_tokenizer  # noqa: E402

from chapter_07_attention import GPT, GPTConfig, save_pretrained  # noqa: E402
from chapter_10_production.app import Settings  # noqa: E402
from utils.seeding import manual_seed  # noqa: E402

LONG = 1900  # tokens that take seconds


@pytest.fixture
def api():
    with api_served() as api:
        yield api


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that serve.py can load, untrained, with a long context."""
    manual_seed(0)
    tokenizer = small_tokenizer()
    config = GPTConfig(tokenizer.vocab_size, 2000, n_layer=1, n_head=2, n_embd=16)
    return save_pretrained(GPT(config), tmp_path_factory.mktemp("model") / "small", tokenizer)


def wait_until(condition, seconds, said):
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + seconds, said
        time.sleep(0.01)
    return time.monotonic() - begin


def check_served(api, seconds=5.0):
    begin = time.monotonic()
    found = api.complete()
    assert found.status == 200, found
    assert json.loads(found.body)["usage"]["completion_tokens"] == 3
    assert time.monotonic() - begin < seconds, "others must not suffer"


def test_a_client_that_leaves_its_stream_frees_its_slot(api):
    connection = api.stream(max_tokens=LONG)
    assert api.thread.running == 1
    connection.close()
    wait_until(lambda: api.thread.running == 0, 1.0, "the text of a client that left goes on")
    assert api.thread.engine.pool.held == 0


def test_a_client_that_leaves_while_it_waits_for_all_frees_its_slot(api):
    connection = connect(api.port)
    connection.sendall(Api.completion(max_tokens=LONG))
    wait_until(lambda: api.thread.running == 1, 5.0, "the text has not begun")
    connection.close()
    wait_until(lambda: api.thread.running == 0, 1.0, "the text of a client that left goes on")


def test_two_hundred_abandoned_requests_and_one_that_is_answered():
    with api_served(most_waiting=200) as api:
        for i in range(200):
            with connect(api.port) as connection:
                connection.sendall(Api.completion(max_tokens=LONG, stream=bool(i % 2)))
        check_served(api, 5.0)
        wait_until(lambda: api.thread.running + api.thread.waiting == 0, 5.0, "some go on")
        assert api.thread.alive


def test_slow_clients_of_all_kinds_harm_nobody(api):
    with contextlib.ExitStack() as stack:
        heads, bodies, silent = (
            [stack.enter_context(connect(api.port)) for _ in range(10)] for _ in range(3)
        )
        for connection in heads:
            connection.sendall(b"POST /v1/completions HTT")
        for connection in bodies:
            connection.sendall(head("POST", "/v1/completions", f"{JSON}Content-Length: 50\r\n"))
        for _ in range(5):
            time.sleep(0.15)
            for connection in heads + bodies:
                with contextlib.suppress(OSError):
                    connection.sendall(b"P")
            check_served(api)
        assert {answer(c).status for c in heads + bodies} == {408}
        assert all(is_closed(c, 5) for c in silent), "who says nothing is let go"


def test_readers_who_do_not_read_are_cut_off_and_harm_nobody():
    with api_served(send_buffer=4096) as api:
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(connect(api.port, receive_buffer=2048))
                connection.sendall(Api.completion(max_tokens=LONG, stream=True))
            wait_until(lambda: api.thread.running == 20, 5.0, "the texts have not begun")
            check_served(api)
            wait_until(lambda: api.thread.running == 0, 15.0, "texts that nobody reads go on")
            assert api.thread.engine.written < 20 * LONG, "they were cut off, not finished"
        check_served(api)


def test_a_full_queue_is_said_at_once():
    engine = SlowEngine(small_decoder(2000), small_tokenizer(), most_running=1)
    with api_served(engine, most_waiting=1) as api:
        running, waiting = api.stream(max_tokens=LONG), connect(api.port)
        waiting.sendall(Api.completion())
        wait_until(lambda: api.thread.waiting == 1, 5.0, "the second does not wait")
        begin = time.monotonic()
        found = api.complete()
        assert time.monotonic() - begin < 1
        assert found.status == 429 and int(found.headers["retry-after"]) >= 1
        assert found.error["type"] == "rate_limit_error"
        running.close()
        assert answer(waiting).status == 200, "who waited is served when there is room"
        waiting.close()
        check_served(api)


def test_a_deadline_ends_in_json():
    with api_served(settings=Settings(deadline=0.3)) as api:
        found = api.complete(max_tokens=LONG)
        assert found.status == 504 and "0.3 s" in found.error["message"]
        wait_until(lambda: api.thread.running == 0, 1.0, "the text goes on")
        check_served(api)


FAULTS = [RuntimeError("a bug"), SystemExit(1), KeyboardInterrupt()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_when_the_engine_dies_all_are_told(fault):
    engine = SlowEngine(small_decoder(2000), small_tokenizer(), most_running=2)
    with api_served(engine) as api, contextlib.ExitStack() as stack:
        assert api.get("/health").status == 200
        stream = stack.enter_context(api.stream(max_tokens=LONG))
        waiting = [stack.enter_context(connect(api.port)) for _ in range(4)]
        for connection in waiting:
            connection.sendall(Api.completion(max_tokens=LONG))
        wait_until(lambda: api.thread.waiting == 3, 5.0, "they do not wait")
        engine.fault = fault
        begin = time.monotonic()
        for connection in waiting:
            found = answer(connection)
            assert found.status == 500 and found.error["type"] == "server_error"
        stream.settimeout(5)
        told = b""
        while b"died" not in told:
            piece = stream.recv(4096)
            assert piece, f"the stream ended without a word: {told[-200:]}"
            told += piece
        assert time.monotonic() - begin < 5
        assert api.get("/health").status == 503
        assert api.complete().status == 503
        assert not api.thread.alive


def test_garbage_in_quantity_harms_nobody(api):
    bodies = [post(junk, path="/v1/completions") for junk in (b"{" * 5000, b"\xff\xfe")]
    junk = [os.urandom(200), b"GET\r\n\r\n", bytes(300), head()[:-2], b"\r\n" * 50, *bodies]
    with contextlib.ExitStack() as stack:
        for i in range(140):
            connection = stack.enter_context(connect(api.port))
            with contextlib.suppress(OSError):
                connection.sendall(junk[i % len(junk)])
        check_served(api)
    check_served(api)


def test_a_flood_of_connections_leaves_room_for_those_inside():
    with api_served(most_connections=40) as api, contextlib.ExitStack() as stack:
        inside = stack.enter_context(connect(api.port))
        inside.sendall(head(path="/health"))
        assert answer(inside).status == 200
        for _ in range(200):
            with contextlib.suppress(OSError):
                stack.enter_context(connect(api.port)).sendall(head())
        inside.sendall(head(path="/health"))
        assert answer(inside).status == 200
        stack.close()
        wait_until(lambda: api.get("/health").status == 200, 5.0, "there is no room again")


LOW = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)); " \
      "os.execv(sys.argv[1], sys.argv[1:])"  # fmt: skip


def processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits on open files")
def test_no_more_files_can_be_opened(folder, tmp_path):
    """Accepting fails then, again and again; it must neither end the server nor keep it busy."""
    with script_served(tmp_path, folder, start=[sys.executable, "-c", LOW]) as served:
        with contextlib.ExitStack() as stack:
            for _ in range(120):
                stack.enter_context(connect(served.port))
            time.sleep(1)
            before = processor_seconds(served.process.pid)
            time.sleep(3)
            used = processor_seconds(served.process.pid) - before
            assert used < 1.5, f"{used:.1f} s of work in 3 s of nothing to do"
            assert served.process.poll() is None
        wait_until(lambda: served.get("/health").status == 200, 15.0, "it does not recover")
        check_served(served)
        complaints = served.log.count("too many files are open")
        assert 1 <= complaints <= 30 and len(served.log) < 20_000, "the log is flooded"
        assert served.end() == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_told_to_end_it_finishes_what_runs_and_takes_nothing_new(folder, tmp_path, sign):
    with script_served(tmp_path, folder) as served:
        stream = served.stream(max_tokens=LONG)
        whole = connect(served.port)
        whole.sendall(Api.completion(max_tokens=LONG))
        kept = connect(served.port)
        time.sleep(0.1)
        served.process.send_signal(sign)
        wait_until(lambda: served.get("/health").status == 503, 2.0, "/health says nothing of it")
        found = ask(served.port, Api.completion())
        assert found.status == 503 and found.error["type"] == "server_error"
        kept.close()
        assert read_stream(stream) == (["length"], True)
        assert json.loads(answer(whole).body)["usage"]["completion_tokens"] == LONG
        stream.close(), whole.close()
        assert served.process.wait(20) == 0, served.log
        assert "Traceback" not in served.log


def test_those_who_come_at_the_end_are_told_to_come_back(api):
    with api.stream(max_tokens=LONG):
        api.server.end()
        wait_until(lambda: api.thread.draining, 2.0, "it does not begin to leave")
        for found in (api.get("/health"), api.complete()):
            assert found.status == 503
            assert int(found.headers["retry-after"]) >= 1


def test_what_does_not_end_in_time_is_ended(folder, tmp_path):
    with script_served(tmp_path, folder, "--grace", "0.2", "--most-running", "1") as served:
        waiting = [connect(served.port) for _ in range(8)]
        for connection in waiting:
            connection.sendall(Api.completion(max_tokens=LONG))
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        statuses = [answer(connection).status for connection in waiting]
        assert set(statuses) <= {200, 503} and 503 in statuses
        assert served.process.wait(20) == 0, served.log
        assert time.monotonic() - begin < 8
        for connection in waiting:
            connection.close()


def test_a_second_signal_ends_at_once(folder, tmp_path):
    with script_served(tmp_path, folder) as served, served.stream(max_tokens=LONG):
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        begin = time.monotonic()
        assert served.end() == 0
        assert time.monotonic() - begin < 3


def test_metrics_and_health_are_answered_while_the_model_works(api):
    streams = [api.stream(max_tokens=LONG) for _ in range(8)]
    slowest = []

    def poll():
        for _ in range(20):
            begin = time.monotonic()
            assert api.get("/health").status == api.get("/metrics").status == 200
            slowest.append(time.monotonic() - begin)

    thread = threading.Thread(target=poll)
    thread.start()
    thread.join(20)
    assert len(slowest) == 20 and max(slowest) < 1.5, slowest
    for stream in streams:
        stream.close()
