"""Bodies of requests: what is understood, and what is refused with a line that says why."""

from __future__ import annotations

import json

import pytest
from small_servers import CONTEXT, MODEL, byte_tokenizer

from chapter_02_text_generation import CharacterTokenizer
from chapter_10_production.api_errors import BadRequest
from chapter_10_production.api_requests import RequestReader
from chapter_10_production.chat_template import chat_prompt
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.strict_json import parse_object

TOKENIZER = byte_tokenizer()
END = TOKENIZER.special_tokens["<|end|>"]
READER = RequestReader(MODEL, TOKENIZER, CONTEXT, TOKENIZER.vocab_size)
HI = [{"role": "user", "content": "hi"}]


def completion(**parameters):
    return READER.completion(json.dumps({"model": MODEL, "prompt": "a", **parameters}).encode())


def chat(**parameters):
    return READER.chat(json.dumps({"model": MODEL, "messages": HI, **parameters}).encode())


def refusal(ask, **parameters):
    with pytest.raises(BadRequest) as raised:
        ask(**parameters)
    return raised.value


def test_json_is_read():
    assert parse_object(b' {"a": [1, -2.5e3, true, null, "\\u00e9"]} ') == {
        "a": [1, -2500.0, True, None, "é"]
    }
    assert parse_object('{"\U0001f600": "\\ud83d\\ude00"}'.encode()) == {"\U0001f600": "\U0001f600"}


MALFORMED = {
    "nothing": (b"", "not JSON"),
    "cut off": (b'{"a": ', "not JSON"),
    "trailing data": (b'{"a": 1} {', "not JSON"),
    "single quotes": (b"{'a': 1}", "not JSON"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "UTF-16 without a mark": ('{"a": 1}'.encode("utf-16-le"), "not JSON"),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
    "deep": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deep"),
    "deep objects": (b'{"a": ' * 100_000, "too deep"),
    "long number": (b'{"a": ' + b"9" * 5_000 + b"}", "digits"),
    "NaN": (b'{"a": NaN}', "NaN"),
    "Infinity": (b'{"a": -Infinity}', "Infinity"),
    "too large": (b'{"a": 1e999}', "too large"),
    "twice": (b'{"a": 1, "a": 2}', "twice"),
    "half a character": (b'{"a": ["\\ud800"]}', "lone surrogate"),
    "half a name": (b'{"\\udfff": 1}', "lone surrogate"),
    "list": (b"[1]", "JSON object"),
    "null": (b"null", "JSON object"),
    "string": (b'"a"', "JSON object"),
    "number": (b"1", "JSON object"),
}


@pytest.mark.parametrize("body, said", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_json_object_is_refused(body, said):
    with pytest.raises(ValueError, match=said):
        parse_object(body)
    for read in (READER.completion, READER.chat):
        with pytest.raises(BadRequest, match=said) as raised:
            read(body)
        assert raised.value.status == 400


def test_the_least_that_can_be_asked_for():
    asked = completion()
    assert asked.prompts == [[97]]
    assert asked.parameters == SamplingParameters(max_tokens=16), "OpenAI's defaults"
    assert (asked.n, asked.stream, asked.include_usage) == (1, False, False)
    assert chat().parameters == SamplingParameters(stop=("\nUser:",))


def test_all_that_can_be_asked_for():
    asked = completion(
        max_tokens=7, temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, seed=-1, stop="x",
        logprobs=2, n=2, best_of=2, stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    assert asked.parameters == SamplingParameters(7, 0.5, 3, 0.9, 0.1, 2**64 - 1, ("x",), 2)
    assert (asked.n, asked.stream, asked.include_usage) == (2, True, True)
    asked = chat(logprobs=True, top_logprobs=20, max_completion_tokens=3, stop=["a", "b"])
    assert asked.parameters == SamplingParameters(3, stop=("a", "b", "\nUser:"), logprobs=20)
    assert chat(max_tokens=3).parameters.max_tokens == 3, "the older name"
    assert chat(logprobs=True).parameters.logprobs == 0


def test_null_is_the_same_as_absent_and_what_makes_no_difference_is_ignored():
    nothing = dict.fromkeys(["temperature", "n", "stop", "stream", "logit_bias", "nonsense"])
    assert completion(**nothing) == completion()
    neutral = {
        "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "echo": False,
        "suffix": "", "response_format": {"type": "text"}, "tools": [], "store": False,
        "user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True,
    }  # fmt: skip
    assert completion(**neutral) == completion()
    assert completion(top_k=0) == completion(top_k=-1) == completion(), "no limit, as in vLLM"


def test_the_texts_of_a_prompt_have_seeds_that_count_up():
    texts = list(completion(prompt=["a", "b"], n=2, seed=-1).texts())
    assert [ids for ids, _ in texts] == [[97], [97], [98], [98]]
    assert [how.seed for _, how in texts] == [2**64 - 1, 0] * 2
    assert [how.seed for _, how in completion(n=2).texts()] == [None, None]


PROMPTS = {
    "string": ("ab", [[97, 98]]),
    "strings": (["a", "b"], [[97], [98]]),
    "tokens": ([1, 2], [[1, 2]]),
    "lists of tokens": ([[1], [2, 3]], [[1], [2, 3]]),
    "both": (["a", [2]], [[97], [2]]),
    "empty": ("", [[END]]),
    "empty ones": (["", []], [[END], [END]]),
    "NUL": ("\0", [[0]]),
    "emoji": ("\U0001f600", [[0xF0, 0x9F, 0x98, 0x80]]),
    "combining marks": ("\u0301" * 10_000, [[259] * 1_250]),
    "what reads like a special token": ("<|end|>", [list(b"<|end|>")]),
}


@pytest.mark.parametrize("prompt, ids", PROMPTS.values(), ids=PROMPTS)
def test_prompts(prompt, ids):
    assert completion(prompt=prompt).prompts == ids


BAD = {
    "temperature": [-1, 2.1, "1", True, [], {}],
    "top_p": [0, 1.1, -0.1, False],
    "top_k": [-2, 1.0, True, 2**31],
    "min_p": [-0.1, 1.1],
    "max_tokens": [0, -1, 10**18, 1e18, 5.0, True, "5"],
    "n": [0, -1, 9, 1.0, True],
    "seed": [2**63, -(2**63) - 1, 1.5, True],
    "stop": ["", [], ["a", ""], ["a"] * 10_000, ["a"] * 5, "a" * 257, 1, {}, [None]],
    "stream": [1, "true"],
    "user": [1],
}
BAD_COMPLETION = {
    **BAD,
    "prompt": [None, 1, True, {}, [], [1.0], [True], [[1], [None]], [-1], [TOKENIZER.vocab_size],
               ["a"] * 17, "a" * CONTEXT, [0] * CONTEXT, [[[1]]]],
    "logprobs": [-1, 6, True],
    "best_of": [2, 0],
    "model": [1],
}  # fmt: skip
BAD_CHAT = {
    **BAD,
    "logprobs": [1, "yes"],
    "top_logprobs": [2],
    "messages": [None, [], "hi", {}, [{"role": "user", "content": "a" * CONTEXT}]],
    "max_completion_tokens": [0],
}
CASES = [
    (ask, name, value)
    for ask, table in ((completion, BAD_COMPLETION), (chat, BAD_CHAT))
    for name, values in table.items()
    for value in values
]


@pytest.mark.parametrize(
    "ask, name, value", CASES, ids=[f"{a.__name__}-{n}-{str(v)[:20]}" for a, n, v in CASES]
)
def test_bad_values_are_refused_by_name(ask, name, value):
    refused = refusal(ask, **{name: value})
    assert (refused.status, refused.param) == (400, name)
    assert name in refused.message and len(refused.message) < 250


def test_more_texts_than_one_request_may_have():
    assert refusal(completion, prompt=["a"] * 16, n=8).param == "n"
    assert len(list(completion(prompt=["a"] * 16, n=4).texts())) == 64


def test_other_models_are_not_found():
    assert completion(model=None) == completion(), "there is only one"
    refused = refusal(completion, model="gpt-5")
    assert (refused.status, refused.code, refused.param) == (404, "model_not_found", "model")


def test_what_is_not_known_or_not_supported_is_refused():
    refused = refusal(completion, temprature=1)
    assert refused.message == "Unrecognized request argument supplied: temprature"
    assert refused.param == "temprature"
    assert refusal(completion, messages=HI).param == "messages", "that is the other endpoint's"
    for name, value in {"presence_penalty": 1, "tools": [{}], "echo": True, "logit_bias": {"1": 2},
                        "frequency_penalty": False}.items():  # fmt: skip
        refused = refusal(chat, **{name: value})
        assert refused.param == name and "not supported here" in refused.message
    assert refusal(chat, stream_options={}).param == "stream_options"
    assert refusal(chat, stream=True, stream_options={"x": 1}).param == "stream_options.x"
    assert refusal(chat, max_tokens=1, max_completion_tokens=2).param == "max_tokens"


def test_the_context_is_for_prompt_and_answer():
    assert len(completion(prompt=[0] * (CONTEXT - 1), max_tokens=10**6).prompts[0]) == CONTEXT - 1
    refused = refusal(completion, prompt=[0] * CONTEXT)
    assert refused.code == "context_length_exceeded" and str(CONTEXT) in refused.message
    refused = refusal(completion, prompt="a" * 10**6)
    assert "1,000,000 characters" in refused.message, "that is too long, without counting tokens"


def test_characters_that_the_model_does_not_know():
    reader = RequestReader(MODEL, CharacterTokenizer.train("ab", ["."]), 8, 3)
    with pytest.raises(BadRequest, match="'é' at position 1 .* vocabulary '.ab'") as raised:
        reader.completion(json.dumps({"model": MODEL, "prompt": "aé"}).encode())
    assert (raised.value.status, raised.value.param) == (400, "prompt")
    assert reader.completion(f'{{"model": "{MODEL}", "prompt": ""}}'.encode()).prompts == [[0]]


def test_a_conversation_is_a_text_up_to_the_assistants_turn():
    parts = [{"type": "text", "text": "Good "}, {"type": "text", "text": "day\n"}]
    asked = chat(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": parts, "name": "Ann"},
            {"role": "assistant", "content": " Hello.", "refusal": None, "tool_calls": []},
            {"role": "user", "content": "Why?"},
        ]
    )
    text = "System: Be brief.\nUser: Good day\nAssistant: Hello.\nUser: Why?\nAssistant:"
    assert TOKENIZER.decode(asked.prompts[0]) == text
    assert chat_prompt([("user", "")]) == "User: \nAssistant:"


@pytest.mark.parametrize(
    "message, param",
    [
        ("hi", "messages[0]"),
        ({"content": "hi"}, "messages[0].role"),
        ({"role": "tool", "content": "hi"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": 1}, "messages[0].content"),
        ({"role": "user", "content": ["hi"]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, "messages[0].tool_calls"),
        ({"role": "user", "content": "", "mood": "good"}, "messages[0].mood"),
    ],
)
def test_messages_that_are_none(message, param):
    assert refusal(chat, messages=[message]).param == param
