"""The official client of OpenAI's API, against our server on a port of this machine."""

from __future__ import annotations

import asyncio

import pytest
from live_server import served
from small_engines import GatedEngine
from small_servers import CONTEXT, MODEL, byte_engine, small_app

openai = pytest.importorskip(
    "openai", reason="openai is not installed: install the oracle extra, pip install -e .[oracle]"
)
EXTRA = "the server's packages are not installed: install the serve extra, pip install -e .[serve]"
pytest.importorskip("uvicorn", reason=EXTRA)
pytest.importorskip("starlette", reason=EXTRA)
pytest.importorskip("prometheus_client", reason=EXTRA)

KEY = "sesame"
HI = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


@pytest.fixture
def server():
    """The port of a server, and the thread behind it."""
    from chapter_10_production.app import Settings
    from chapter_10_production.limits import LimitBodies
    from chapter_10_production.protocol import GuardedProtocol, WireLimits

    settings = Settings(api_key=KEY, deadline=5)
    engine = byte_engine(most_running=4)
    options = {"most_waiting": 4, "middleware": [LimitBodies]}
    with small_app(engine, settings, **options) as (app, thread), served(
        app, GuardedProtocol.within(WireLimits())
    ) as port:
        yield port, thread


def client_of(port, kind=openai.OpenAI, key=KEY):
    return kind(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0, timeout=20)


@pytest.fixture
def client(server):
    with client_of(server[0]) as client:
        yield client


def write(client, **asked):
    asked = {"model": MODEL, "prompt": "hello", "max_tokens": 12, **asked}
    return client.completions.create(**asked)


def say(client, **asked):
    asked = {"model": MODEL, "messages": HI, "max_tokens": 12, **asked}
    return client.chat.completions.create(**asked)


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


def test_completions(client):
    found = write(client, seed=3, n=2)
    first, second = (choice.text for choice in found.choices)
    assert first != second and found.object == "text_completion"
    assert found.usage.completion_tokens == 24 and found.usage.prompt_tokens == 5
    assert write(client, seed=3).choices[0].text == first, "same seed, same text"
    assert write(client, seed=4).choices[0].text == second, "the seeds of n texts count up"


def test_chats(client):
    found = say(client, seed=3, n=2)
    assert [choice.message.role for choice in found.choices] == ["assistant"] * 2
    assert say(client, seed=3).choices[0].message.content == found.choices[0].message.content
    messages = [*HI, found.choices[0].message, HI[1]]
    assert say(client, messages=messages).usage.prompt_tokens > found.usage.prompt_tokens


def test_streams_of_completions(client):
    whole = write(client, seed=3)
    *chunks, last = write(client, seed=3, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"
    assert last.choices == [] and last.usage == whole.usage


def test_streams_of_chats(client):
    whole = say(client, seed=3)
    *chunks, last = say(client, seed=3, stream=True, stream_options={"include_usage": True})
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == whole.choices[0].message.content
    assert last.usage == whole.usage


def test_log_probabilities_of_both_kinds(client):
    found = write(client, logprobs=2, temperature=0).choices[0].logprobs
    assert len(found.tokens) == len(found.text_offset) == 12 and found.text_offset[0] == 0
    for logprob, top in zip(found.token_logprobs, found.top_logprobs):
        assert logprob == pytest.approx(max(top.values())), "greedy takes the likeliest"
    content = say(client, logprobs=True, top_logprobs=3, temperature=0).choices[0].logprobs.content
    assert len(content) == 12
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == token.top_logprobs[0].logprob < 0
        assert token.bytes is None or bytes(token.bytes).decode() == token.token


def test_stop_strings(client):
    text = write(client, temperature=0).choices[0].text
    found = write(client, temperature=0, stop=[text[4]]).choices[0]
    assert found.text == text[: text.index(text[4])] and found.finish_reason == "stop"


def test_extras_of_vllm(client):
    likeliest = write(client, temperature=0).choices[0].text
    assert write(client, extra_body={"top_k": 1}).choices[0].text == likeliest
    assert write(client, extra_body={"min_p": 1.0}).choices[0].text == likeliest


@pytest.mark.parametrize(
    "asked", [{"temperature": 3}, {"n": 9}, {"prompt": "a" * CONTEXT}, {"extra_body": {"x": 1}}]
)
def test_bad_requests(client, asked):
    with pytest.raises(openai.BadRequestError) as raised:
        write(client, **asked)
    error = raised.value
    assert error.type == "invalid_request_error" and error.param in ("prompt", *asked, "x")
    assert error.request_id and write(client).choices


def test_other_errors(server, client):
    with pytest.raises(openai.NotFoundError) as raised:
        write(client, model="gpt-5")
    assert raised.value.code == "model_not_found"
    with client_of(server[0], key="wrong") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.APIStatusError) as raised:
        write(client, prompt="a" * (1 << 20))
    assert raised.value.status_code == 413
    with pytest.raises(openai.APIStatusError) as raised:
        write(client, extra_headers={"content-type": "text/plain"})
    assert raised.value.status_code == 415


@pytest.fixture
def gate(server):
    """Closed until the test opens it."""
    gate = server[1].engine.gate
    gate.clear()
    yield gate
    gate.set()


def test_a_full_server_and_a_stream_that_is_left(server, gate):
    async def main():
        thread = server[1]
        async with client_of(server[0], openai.AsyncOpenAI) as client:
            streams = [
                await write(client, stream=True, max_tokens=10**6, n=2) for _ in range(4)
            ]  # fmt: skip
            with pytest.raises(openai.RateLimitError) as raised:
                await write(client)
            assert int(raised.value.response.headers["retry-after"]) >= 1
            assert raised.value.code == "queue_full"
            gate.set()
            for stream in streams:
                async for _ in stream:
                    break
                await stream.close()
            while thread.running or thread.waiting:
                await asyncio.sleep(0.005)
            assert len((await write(client)).choices) == 1

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_dead_engine():
    from chapter_10_production.protocol import GuardedProtocol, WireLimits

    engine = byte_engine(kind=GatedEngine)
    engine.fault = RuntimeError("secret")
    with small_app(engine) as (app, _), served(
        app, GuardedProtocol.within(WireLimits())
    ) as port, client_of(port) as client:
        for said in ("the engine has died", "stopped"):
            with pytest.raises(openai.InternalServerError, match=said):
                write(client)


def test_an_error_in_the_middle_of_a_stream():
    from chapter_10_production.app import Settings
    from chapter_10_production.protocol import GuardedProtocol, WireLimits

    engine = byte_engine()
    engine.gate.clear()
    with small_app(engine, Settings(deadline=0.1)) as (app, _), served(
        app, GuardedProtocol.within(WireLimits())
    ) as port:
        with client_of(port) as client, pytest.raises(openai.APIError, match="within 0.1 s"):
            list(say(client, stream=True))
        engine.gate.set()
