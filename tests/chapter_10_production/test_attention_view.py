"""The map of one place: chapter 7's shares, and a route that refuses what makes no sense."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from asgi_client import Exchange, ask, run
from small_servers import byte_engine, byte_tokenizer, small_app

from chapter_07_attention import GPT, GPTConfig, LlamaConfig, attention_maps
from chapter_10_production import attention_view
from chapter_10_production.attention_view import attention_of
from chapter_10_production.decoder import Decoder
from utils.seeding import manual_seed

PATH = "/playground/attention"
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 16}
CONFIGS = {
    "gpt-2": lambda: GPTConfig(11, 16, **SIZES),
    "llama": lambda: LlamaConfig(11, 16, n_kv_head=2, **SIZES),
    "alibi": lambda: GPTConfig(11, 16, positions="alibi", **SIZES),
    "window": lambda: GPTConfig(11, 16, window=3, **SIZES),
}


def model_of(name):
    manual_seed(0)
    return GPT(CONFIGS[name]()).eval()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("place", [0, 4, 9])
def test_shares_are_those_of_chapter_7(name, place):
    model = model_of(name)
    found = attention_of(Decoder.from_model(model), IDS, place)
    maps = attention_maps(model, [IDS])
    expected = np.stack([m[0, :, place, : place + 1] for m in maps.values()])
    assert (found["layers"], found["heads"], found["place"]) == (2, 4, place)
    np.testing.assert_allclose(found["shares"], expected, atol=1e-4)
    np.testing.assert_allclose(np.sum(found["shares"], axis=-1), 1, atol=1e-3)
    json.dumps(found, allow_nan=False)


def test_what_comes_after_the_place_changes_nothing():
    decoder = Decoder.from_model(model_of("gpt-2"))
    assert attention_of(decoder, IDS, 5) == attention_of(decoder, [*IDS[:6], 0, 0], 5)


def test_a_window_hides_what_is_too_far_back():
    shares = np.array(attention_of(Decoder.from_model(model_of("window")), IDS, 9)["shares"])
    assert (shares[..., :7] == 0).all() and (shares[..., 7:] > 0).all()


@pytest.mark.parametrize("place", [-1, 10, True, 1.0, None])
def test_places_outside_the_text_are_refused(place):
    with pytest.raises(ValueError, match="place is a whole number from 0 to 9"):
        attention_of(Decoder.from_model(model_of("gpt-2")), IDS, place)


def serving(settings=None, model=None):
    """An application with the route, for a tiny model or another one."""
    for package in ("starlette", "prometheus_client"):
        pytest.importorskip(package, reason=f"needs {package}: pip install -e .[serve]")
    engine = byte_engine(context=64)
    route = attention_view.attention_route(model or engine.model, engine.tokenizer)
    return small_app(engine, settings, extra_routes=[route])


@pytest.fixture(scope="module")
def app():
    with serving() as (app, _):
        yield app


def asked(app, body):
    return run(ask(app, "POST", PATH, body))


def test_the_route_answers_with_names_and_shares(app):
    reply = asked(app, {"prompt": "ab", "tokens": ["c", "<"]})
    assert reply.status == 200
    assert reply.json["tokens"] == ["a", "b", "c", "<"]
    assert reply.json["place"] == 3, "without a place, the last token looks"
    assert np.shape(reply.json["shares"]) == (1, 2, 4)
    as_ids = asked(app, {"prompt": list(b"ab"), "tokens": list(b"c<")})
    assert as_ids.json == reply.json, "ids say the same as names"
    earlier = asked(app, {"prompt": "abc<", "place": 1})
    assert earlier.json["tokens"] == ["a", "b"]
    assert np.shape(earlier.json["shares"]) == (1, 2, 2)


REFUSED = {
    "no JSON": (b"{", None),
    "no object": (b"[]", None),
    "no prompt": ({"tokens": ["a"]}, "prompt"),
    "a number as prompt": ({"prompt": 3}, "prompt"),
    "booleans as prompt": ({"prompt": [True]}, "prompt"),
    "text as tokens": ({"prompt": "a", "tokens": "b"}, "tokens"),
    "names beside ids": ({"prompt": "a", "tokens": ["b", 2]}, "tokens"),
    "a name of many": ({"prompt": "a", "tokens": ["\ufffd"]}, "tokens"),
    "a text with parts of characters": ({"prompt": "a", "tokens": ["b\ufffd"]}, "tokens"),
    "no such id": ({"prompt": "a", "tokens": [10**6]}, "tokens"),
    "a negative id": ({"prompt": [-1]}, "prompt"),
    "too long a prompt": ({"prompt": "a" * 64}, "prompt"),
    "too long a text": ({"prompt": "a", "tokens": ["b"] * 63}, "tokens"),
    "a place behind the text": ({"prompt": "ab", "place": 2}, "place"),
    "a negative place": ({"prompt": "ab", "place": -1}, "place"),
    "a place that is no whole number": ({"prompt": "ab", "place": 0.5}, "place"),
    "a parameter that nobody knows": ({"prompt": "ab", "layer": 0}, "layer"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_route_refuses(app, what):
    body, param = REFUSED[what]
    reply = asked(app, body)
    assert reply.status == 400, f"{what}: a mistake of the client's is answered with 400"
    assert reply.error["param"] == param


def test_characters_of_several_tokens_are_given_as_text(app):
    text = "a\u20ac!"  # the euro sign has three bytes, each of them a token
    reply = asked(app, {"prompt": "a", "tokens": ["\u20ac", "!"]})
    assert reply.json == asked(app, {"prompt": list(text.encode())}).json
    assert reply.json["tokens"] == ["a", "\ufffd", "\ufffd", "\ufffd", "!"]
    message = asked(app, {"prompt": "a", "tokens": ["\ufffd"]}).error["message"]
    assert "a part of a character" in message


def test_only_posts_are_answered(app):
    assert run(ask(app, "GET", PATH)).status == 405


def test_the_key_is_asked_for_here_too():
    pytest.importorskip("starlette", reason="needs the extra serve")
    from chapter_10_production.app import Settings

    with serving(Settings(api_key="k")) as (app, _):
        assert asked(app, {"prompt": "a"}).status == 401
        key = (b"authorization", b"Bearer k")
        assert run(ask(app, "POST", PATH, {"prompt": "a"}, (key,))).status == 200


def test_numbers_that_are_not_finite_are_an_error_in_words():
    manual_seed(0)
    model = GPT(GPTConfig(byte_tokenizer().vocab_size, 64, n_layer=1, n_head=2, n_embd=16))
    model.embedding.weight.data[:] = np.nan
    with serving(model=Decoder.from_model(model)) as (app, _):
        reply = asked(app, {"prompt": "a"})
    assert reply.status == 500 and reply.error["code"] == "model_failed"


def test_a_crowd_is_sent_away_and_the_loop_is_free(monkeypatch):
    """While maps are drawn others are served; too many are refused; those gone are not drawn."""
    import threading

    gate, drawn = threading.Event(), []

    def slow(model, ids, place):
        drawn.append(len(ids))
        assert gate.wait(20)
        return {"place": place}

    monkeypatch.setattr(attention_view, "attention_of", slow)

    async def crowd(app):
        most = attention_view.MOST_WAITING
        body = [json.dumps({"prompt": "a" * (n + 1)}).encode() for n in range(most + 1)]
        first = [Exchange(app, "POST", PATH, b) for b in body[:most]]
        await asyncio.sleep(0.05)
        refused = await ask(app, "POST", PATH, body[most])
        health = await ask(app, "GET", "/health")
        first[-1].hang_up()
        await asyncio.sleep(0.05)
        gate.set()
        return refused, health, [await exchange.reply() for exchange in first[:-1]]

    with serving() as (app, _):
        refused, health, replies = run(crowd(app))
    assert refused.status == 429 and "retry-after" in refused.headers
    assert health.status == 200, "the event loop must be free while a map is drawn"
    assert [reply.status for reply in replies] == [200] * (attention_view.MOST_WAITING - 1)
    assert attention_view.MOST_WAITING not in drawn, "nobody draws for a client that has left"
