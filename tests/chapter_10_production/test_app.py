"""The API from request to answer, without a network; and that a bad request does no harm."""

from __future__ import annotations

import asyncio
import time

import pytest
from asgi_client import Exchange, ask, run
from small_engines import GatedEngine, SlowEngine, StumblingEngine
from small_servers import CONTEXT, MODEL, byte_engine, small_app

from chapter_10_production.sampling_parameters import SamplingParameters

EXTRA = "the server's packages are not installed: install the serve extra, pip install -e .[serve]"
pytest.importorskip("starlette", reason=EXTRA)
pytest.importorskip("prometheus_client", reason=EXTRA)

TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
GREEDY = {"model": MODEL, "prompt": "hello", "max_tokens": 5, "temperature": 0}


@pytest.fixture
def app():
    with small_app() as (app, _):
        yield app


def one(app, *arguments, **options):
    return run(ask(app, *arguments, **options))


async def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.002)


def test_a_completion_is_what_the_engine_writes(app):
    reply = one(app, "POST", TEXT, GREEDY)
    assert reply.status == 200 and len(reply.headers["x-request-id"]) == 32
    engine = byte_engine()
    expected = engine.generate([list(b"hello")], SamplingParameters(5, temperature=0))[0]
    choice = reply.json["choices"][0]
    assert choice["text"] == expected.text and choice["finish_reason"] == "length"
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    assert reply.json["usage"] == usage


@pytest.mark.parametrize("path, asked", [(TEXT, {"prompt": "hi"}), (CHAT, {"messages": HI})])
def test_a_stream_says_the_same_as_a_whole_answer(app, path, asked):
    asked = {"model": MODEL, "max_tokens": 30, "seed": 5, "n": 3, **asked}
    whole = one(app, "POST", path, asked).json
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last, done = one(app, "POST", path, {**asked, **options}).events
    assert done == "[DONE]" and last["choices"] == [] and last["usage"] == whole["usage"]
    texts, reasons = [""] * 3, [None] * 3
    for chunk in chunks:
        (choice,) = chunk["choices"]
        assert reasons[choice["index"]] is None, "nothing comes after the end"
        delta = choice["delta"].get("content", "") if path == CHAT else choice["text"]
        texts[choice["index"]] += delta
        reasons[choice["index"]] = choice["finish_reason"]
    said = [c["message"]["content"] if path == CHAT else c["text"] for c in whole["choices"]]
    assert texts == said and len(set(said)) == 3, "three texts, each with a seed of its own"
    assert reasons == [c["finish_reason"] for c in whole["choices"]]


def test_several_prompts_come_in_their_order(app):
    asked = {**GREEDY, "n": 2}
    both = one(app, "POST", TEXT, {**asked, "prompt": ["hello", "bye"]}).json["choices"]
    alone = [
        one(app, "POST", TEXT, {**asked, "prompt": p}).json["choices"] for p in ("hello", "bye")
    ]
    assert [c["index"] for c in both] == [0, 1, 2, 3]
    assert [c["text"] for c in both] == [c["text"] for choices in alone for c in choices]


def test_stop_strings_are_not_part_of_the_text(app):
    text = one(app, "POST", TEXT, {**GREEDY, "max_tokens": 20}).json["choices"][0]["text"]
    stop = text[3:5]
    choice = one(app, "POST", TEXT, {**GREEDY, "max_tokens": 20, "stop": stop}).json["choices"][0]
    assert choice["text"] == text[: text.index(stop)] and choice["finish_reason"] == "stop"


def test_more_tokens_than_there_is_room_for_are_cut(app):
    asked = {**GREEDY, "prompt": [65] * (CONTEXT - 3), "max_tokens": 10**6}
    reply = one(app, "POST", TEXT, asked).json
    assert reply["usage"]["completion_tokens"] == 3
    assert reply["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("prompt", ["", "\0", "\U0001f600", "\u0301" * 10_000, [[]], " "])
def test_odd_prompts_are_continued(app, prompt):
    assert one(app, "POST", TEXT, {**GREEDY, "prompt": prompt}).status == 200


BAD = {
    "no JSON": b"{",
    "trailing": b'{"prompt": "a"} {',
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
    "deep": b"[" * 100_000,
    "digits": b'{"seed": ' + b"1" * 5_000 + b"}",
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "surrogate": b'{"prompt": "\\ud800"}',
    "surrogate in stop": b'{"prompt": "a", "stop": "\\ud800"}',
    "surrogate in model": b'{"prompt": "a", "model": "\\ud800"}',
    "list": b"[]",
    "temperature": b'{"prompt": "a", "temperature": -1}',
    "unknown": b'{"prompt": "a", "temprature": 1}',
    "true": b'{"prompt": "a", "max_tokens": true}',
    "vocabulary": b'{"prompt": [100000]}',
}


@pytest.mark.parametrize("path", [TEXT, CHAT])
@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_bad_request_is_refused_and_the_next_one_is_answered(app, path, body):
    reply = one(app, "POST", path, body)
    assert reply.status == 400 and reply.error["type"] == "invalid_request_error"
    assert one(app, "POST", TEXT, GREEDY).status == 200


def test_models(app):
    (model,) = one(app, "GET", "/v1/models").json["data"]
    assert model["id"] == MODEL and model["max_model_len"] == CONTEXT
    assert one(app, "GET", f"/v1/models/{MODEL}").json == model
    for path in ("/v1/models/gpt-5", "/v1/models/a/b"):
        reply = one(app, "GET", path)
        assert reply.status == 404 and reply.error["code"] == "model_not_found"


NOWHERE = ["/nope", "/v1", "/v1/", "/health/", "/../etc/passwd", "/v1/../../etc/passwd", "//",
           "/%2e%2e/x", "/playground.html"]  # fmt: skip


@pytest.mark.parametrize("path", NOWHERE)
def test_paths_that_are_none(app, path):
    assert one(app, "GET", path).error["code"] == "not_found"


def test_methods(app):
    for method, path, allowed in [("GET", TEXT, "POST"), ("DELETE", "/health", "GET, HEAD"),
                                  ("OPTIONS", CHAT, "POST")]:  # fmt: skip
        reply = one(app, method, path)
        assert reply.status == 405 and reply.error["code"] == "method_not_allowed"
        assert sorted(reply.headers["allow"].split(", ")) == allowed.split(", ")
    assert one(app, "HEAD", "/health").status == 200


def test_the_page_is_served_where_there_is_one(app, monkeypatch, tmp_path):
    from chapter_10_production import app as module

    monkeypatch.setattr(module, "PAGE", tmp_path / "page.html")
    assert one(app, "GET", "/").status == 404
    (tmp_path / "page.html").write_text("<p>hello")
    reply = one(app, "GET", "/")
    assert reply.body == b"<p>hello" and reply.headers["content-type"].startswith("text/html")


def test_more_routes_and_middleware_can_be_given():
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    passed = []

    def wrap(name):
        def around(inner):
            async def outer(scope, receive, send):
                passed.append(name)
                await inner(scope, receive, send)

            return outer

        return around

    async def extra(request):
        return JSONResponse({"got": (await request.body()).decode()})

    routes = [Route("/extra", extra, methods=["POST"])]
    with small_app(extra_routes=routes, middleware=[wrap("outer"), wrap("inner")]) as (app, _):
        assert one(app, "POST", "/extra", b"x").json == {"got": "x"}
        assert passed == ["outer", "inner"]


KEYS = [
    ([], 401),
    ([b"Bearer sesame"], 200),
    ([b"bearer sesame"], 200),
    ([b"Bearer sesam"], 401),
    ([b"Basic sesame"], 401),
    ([b"sesame"], 401),
    ([b""], 401),
    ([b"Bearer \xff"], 401),
    ([b"Bearer sesame"] * 2, 401),
]


def test_the_key_opens_the_door():
    from chapter_10_production.app import Settings

    settings = Settings(api_key="sesame")
    assert "sesame" not in repr(settings), "a key must not be written into logs"
    with small_app(settings=settings) as (app, _):
        for sent, status in KEYS:
            headers = tuple((b"authorization", value) for value in sent)
            reply = one(app, "GET", "/v1/models", headers=headers)
            assert reply.status == status, f"sent {sent}"
        assert reply.error["code"] == "invalid_api_key" and reply.headers["www-authenticate"]
        assert one(app, "GET", "/nope").status == 401, "nobody learns what there is"
        assert one(app, "POST", TEXT, b"{").status == 401, "nothing is read of it"
        assert one(app, "GET", "/health").status == 200, "monitors have no key"
    with pytest.raises(ValueError, match="empty API key"):
        Settings(api_key=" ")


def test_metrics_tell_what_happened():
    with small_app() as (app, _):
        one(app, "POST", TEXT, {**GREEDY, "n": 2})
        one(app, "POST", TEXT, b"{")
        one(app, "GET", "/nope")
        reply = one(app, "GET", "/metrics")
        lines = reply.body.decode().splitlines()
        assert reply.headers["content-type"].startswith("text/plain")
    for line in [
        'http_responses_total{status="200"} 1.0',
        'http_responses_total{status="400"} 1.0',
        'http_responses_total{status="404"} 1.0',
        "texts_submitted_total 2.0",
        'texts_finished_total{reason="length"} 2.0',
        "tokens_written_total 10.0",
        "time_to_first_token_seconds_count 2.0",
        "time_between_tokens_seconds_count 8.0",
        "texts_running 0.0",
    ]:
        assert line in lines


def test_a_full_queue_refuses_all_texts_of_a_request():
    async def main():
        engine.gate.clear()
        first = [Exchange(app, "POST", TEXT, body=LONG) for _ in range(2)]
        await until(lambda: thread.waiting + thread.running == 2)
        for asked in ({**GREEDY, "n": 2}, {**GREEDY, "n": 2, "stream": True}):
            refused = await ask(app, "POST", TEXT, asked)
            assert refused.status == 429 and refused.error["code"] == "queue_full"
            assert int(refused.headers["retry-after"]) >= 1
        engine.gate.set()
        for exchange in first:
            exchange.hang_up()
            await exchange.task
        await until(lambda: thread.running == thread.waiting == 0)
        ended = thread.observer.registry.get_sample_value
        cancelled = ended("texts_finished_total", {"reason": "cancelled"})
        assert cancelled == 2, "both that hung up: of what is refused nothing is taken in"
        more = await ask(app, "POST", TEXT, {**GREEDY, "n": 4})
        assert more.status == 400 and "at most 3 at once" in more.error["message"]
        assert (await ask(app, "POST", TEXT, GREEDY)).status == 200

    engine = byte_engine(most_running=1)
    with small_app(engine, most_waiting=2) as (app, thread):
        run(main())
        assert engine.pool.held == 0


LONG = b'{"prompt": "hello", "max_tokens": 1000000}'
LONG_STREAM = b'{"prompt": "hello", "max_tokens": 1000000, "n": 2, "stream": true}'


@pytest.mark.parametrize("body", [LONG, LONG_STREAM], ids=["whole", "stream"])
def test_texts_end_when_the_client_hangs_up(body):
    async def main():
        exchange = Exchange(app, "POST", TEXT, body)
        await until(lambda: thread.running > 0 and engine.written > 3)
        exchange.hang_up()
        await until(lambda: thread.running == 0)
        assert engine.written < CONTEXT // 2, "nobody computes what nobody reads"
        await exchange.task
        assert exchange.status in (200, 499)

    engine = byte_engine(kind=SlowEngine)
    with small_app(engine) as (app, thread):
        run(main())
        assert engine.pool.held == 0


class Stuck(Exchange):
    """A client that takes nothing, not even the status."""

    async def send(self, message):
        self.came.set()
        await asyncio.sleep(3600)


def test_a_stream_that_never_began_ends_with_its_client():
    async def main():
        exchange = Stuck(app, "POST", TEXT, LONG_STREAM)
        await exchange.came.wait()
        await until(lambda: thread.running == 2)
        exchange.hang_up()
        await until(lambda: thread.running == 0)
        assert engine.written < CONTEXT // 2
        await exchange.task

    engine = byte_engine(kind=SlowEngine)
    with small_app(engine) as (app, thread):
        run(main())


def test_a_deadline_ends_whole_answers_and_streams():
    from chapter_10_production.app import Settings

    with small_app(byte_engine(kind=SlowEngine), Settings(deadline=0.1)) as (app, thread):
        reply = one(app, "POST", TEXT, LONG)
        assert reply.status == 504 and reply.error["code"] == "deadline_exceeded"
        *_, last = one(app, "POST", TEXT, LONG_STREAM).events
        assert last["error"]["code"] == "deadline_exceeded", "and no [DONE]"
        end = time.monotonic() + 10
        while thread.running:
            assert time.monotonic() < end, "its texts are still written"


def test_a_dead_engine_is_told_to_all():
    async def main():
        engine.gate.clear()
        whole, stream = (Exchange(app, "POST", TEXT, body) for body in (LONG, LONG_STREAM))
        await until(lambda: thread.waiting + thread.running == 3)
        engine.fault = RuntimeError("secret")
        engine.gate.set()
        reply = await whole.reply()
        assert reply.status == 500 and reply.error["code"] == "engine_died"
        assert (await stream.reply()).events[-1]["error"]["code"] == "engine_died"
        health = await ask(app, "GET", "/health")
        assert health.status == 503 and health.json["status"] == "unavailable"
        assert (await ask(app, "POST", TEXT, GREEDY)).error["code"] == "unavailable"
        assert b"secret" not in reply.body + health.body

    engine = byte_engine()
    with small_app(engine) as (app, thread):
        run(main())


def test_while_it_drains_nothing_new_is_taken():
    async def main():
        engine.gate.clear()
        running = Exchange(app, "POST", TEXT, b'{"prompt": "hello"}')
        await until(lambda: thread.waiting + thread.running == 1)
        drained = thread.drain()
        assert (await ask(app, "GET", "/health")).status == 503
        refused = await ask(app, "POST", TEXT, GREEDY)
        assert refused.status == 503 and refused.error["code"] == "unavailable"
        engine.gate.set()
        assert (await running.reply()).status == 200, "what was begun is finished"
        await drained

    engine = byte_engine()
    with small_app(engine) as (app, thread):
        run(main())


class Stumbling(StumblingEngine, GatedEngine):
    pass


def test_a_model_that_fails_is_told_in_the_answer():
    with small_app(byte_engine(kind=Stumbling)) as (app, _):
        asked = {**GREEDY, "prompt": [0, 1]}
        reply = one(app, "POST", TEXT, asked)
        assert reply.status == 500 and reply.error["code"] == "model_failed"
        *_, last = one(app, "POST", TEXT, {**asked, "stream": True}).events
        assert last["error"]["code"] == "model_failed"
        assert one(app, "POST", TEXT, GREEDY).status == 200


def test_a_text_that_the_cache_can_never_hold_is_the_clients_mistake():
    with small_app(byte_engine(cached_tokens=64)) as (app, _):
        reply = one(app, "POST", TEXT, {**GREEDY, "max_tokens": 100})
        assert reply.status == 400 and "pages" in reply.error["message"]


def test_a_mistake_of_the_server_tells_nothing_about_it(monkeypatch):
    async def main():
        exchange = Exchange(app, "POST", TEXT, b'{"prompt": "hello"}')
        with pytest.raises(ZeroDivisionError):  # which is for the server's log
            await exchange.task
        return exchange

    with small_app() as (app, thread):
        monkeypatch.setattr(thread, "submit", lambda *_: 1 / 0)
        exchange = run(main())
    assert exchange.status == 500 and b"division" not in exchange.body
