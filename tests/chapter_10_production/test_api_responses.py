"""The shapes of answers, part by part."""

from __future__ import annotations

import json
import math

import pytest
from small_servers import byte_tokenizer

from chapter_10_production.api_errors import BadRequest, ModelFailed, failure_of
from chapter_10_production.api_responses import (
    DONE,
    ChatAnswer,
    CompletionAnswer,
    event,
    model_body,
    usage_body,
)
from chapter_10_production.batch_sampling import TokenLogprob
from chapter_10_production.engine_thread import QueueFull, Unavailable
from chapter_10_production.sequence import Progress
from chapter_10_production.streams import DeadlineExceeded, EngineDied, ServerStopped

TOKENIZER = byte_tokenizer()
A, B = 97, 98


def progress(text, reason=None, logprobs=()):
    return Progress(None, list(text.encode()), text, list(logprobs), reason)


def test_a_whole_completion():
    answer = CompletionAnswer("tiny", TOKENIZER)
    found = answer.whole([progress("ab", "stop"), progress("c", "length")], usage_body(3, 3))
    assert found.pop("id").startswith("cmpl-") and found.pop("created") > 1.7e9
    assert found == {
        "object": "text_completion",
        "model": "tiny",
        "choices": [
            {"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"},
            {"index": 1, "text": "c", "logprobs": None, "finish_reason": "length"},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
    }


def test_a_whole_chat():
    found = ChatAnswer("tiny", TOKENIZER).whole([progress("ab", "stop")], usage_body(3, 2))
    assert found["id"].startswith("chatcmpl-") and found["object"] == "chat.completion"
    message = {"role": "assistant", "content": "ab", "refusal": None}
    assert found["choices"] == [
        {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    ]


def test_the_chunks_of_a_chat():
    answer = ChatAnswer("tiny", TOKENIZER)
    chunks = answer.beginnings(2)
    chunks += [answer.chunk(1, progress("a")), answer.chunk(1, progress("", "stop"))]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {answer.id}, "chunks of one answer share its id"
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [c["index"] for c in choices] == [0, 1, 1, 1]
    first = {"role": "assistant", "content": ""}
    assert [c["delta"] for c in choices] == [first, first, {"content": "a"}, {}]
    assert [c["finish_reason"] for c in choices] == [None, None, None, "stop"]


def test_the_chunks_of_a_completion_and_of_its_usage():
    answer = CompletionAnswer("tiny", TOKENIZER)
    assert answer.beginnings(2) == []
    chunk = answer.chunk(1, progress("a"))
    assert chunk["choices"] == [{"index": 1, "text": "a", "logprobs": None, "finish_reason": None}]
    last = answer.usage_chunk(usage_body(1, 2))
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 3


LOGPROBS = [TokenLogprob(A, -0.5, [(B, -0.25), (A, -0.5)]), TokenLogprob(B, -math.inf, [(A, -1.0)])]


def test_log_probabilities_of_a_completion():
    answer = CompletionAnswer("tiny", TOKENIZER, logprobs=True)
    assert answer.whole([progress("ab", "stop", LOGPROBS)], {})["choices"][0]["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -9999.0],
        "top_logprobs": [{"b": -0.25, "a": -0.5}, {"a": -1.0, "b": -9999.0}],
        "text_offset": [0, 1],
    }


def test_offsets_count_characters_of_the_text_across_chunks_and_bytes():
    answer = CompletionAnswer("tiny", TOKENIZER, logprobs=True)
    offsets = {0: [], 1: []}
    for index, token in [*((0, byte) for byte in "é".encode()), (1, A), (0, A)]:
        chunk = answer.chunk(index, progress("", None, [TokenLogprob(token, -1.0, [])]))
        offsets[index] += chunk["choices"][0]["logprobs"]["text_offset"]
    assert offsets == {0: [0, 0, 1], 1: [0]}, "both bytes of é begin where it does"


def test_log_probabilities_of_a_chat():
    answer = ChatAnswer("tiny", TOKENIZER, logprobs=True)
    found = answer.whole([progress("ab", "stop", LOGPROBS)], {})["choices"][0]["logprobs"]
    assert found["refusal"] is None
    assert found["content"] == [
        {"token": "a", "logprob": -0.5, "bytes": [97],
         "top_logprobs": [{"token": "b", "logprob": -0.25, "bytes": [98]},
                          {"token": "a", "logprob": -0.5, "bytes": [97]}]},
        {"token": "b", "logprob": -9999.0, "bytes": [98],
         "top_logprobs": [{"token": "a", "logprob": -1.0, "bytes": [97]}]},
    ]  # fmt: skip
    part = answer.entry(0xC3, -1.0)
    assert part == {"token": "\ufffd", "logprob": -1.0, "bytes": None}, "half of é has no text"


def test_no_tokens_have_no_log_probabilities_but_are_asked_for_them():
    nothing = [progress("", "stop")]
    for shape, name in ((CompletionAnswer, "tokens"), (ChatAnswer, "content")):
        found = shape("tiny", TOKENIZER, logprobs=True).whole(nothing, {})
        assert found["choices"][0]["logprobs"][name] == []


def test_an_event_is_one_line_whatever_is_in_it():
    text = 'é\n\r\u2028"\0'
    line = event({"text": text})
    assert line.startswith(b"data: {") and line.endswith(b"}\n\n") and line.count(b"\n") == 2
    assert b"\r" not in line and json.loads(line[len(b"data: ") :]) == {"text": text}
    assert DONE == b"data: [DONE]\n\n"


def test_a_model():
    found = model_body("tiny", 7, 48)
    assert found["id"] == "tiny" and found["object"] == "model" and found["created"] == 7


FAILURES = [
    (BadRequest(400, "no", "n", "c"), 400, "invalid_request_error", "c"),
    (BadRequest(404, "no"), 404, "invalid_request_error", None),
    (QueueFull(2.2), 429, "rate_limit_error", "queue_full"),
    (Unavailable("ends"), 503, "server_error", "unavailable"),
    (DeadlineExceeded("late"), 504, "server_error", "deadline_exceeded"),
    (EngineDied("secret"), 500, "server_error", "engine_died"),
    (ServerStopped("ends"), 503, "server_error", "unavailable"),
    (ModelFailed(), 500, "server_error", "model_failed"),
    (RuntimeError("secret"), 500, "server_error", None),
]


@pytest.mark.parametrize("error, status, kind, code", FAILURES)
def test_failures(error, status, kind, code):
    failure = failure_of(error)
    found = failure.body["error"]
    assert (failure.status, found["type"], found["code"]) == (status, kind, code)
    assert found["message"] and "secret" not in found["message"]
    assert sorted(found) == ["code", "message", "param", "type"]
    if status == 429:
        assert failure.headers == {"retry-after": "3"}, "whole seconds, not too few"
