"""The shapes of all answers: what is in the JSON that OpenAI's clients read.

An answer holds one choice for each text. It comes whole, or as a stream of chunks, each with what
is new in one choice: `data: {...}` and an empty line, the form of server-sent events, which end
with `data: [DONE]`. Completions and chats differ in names and in how they tell log-probabilities.
Source: OpenAI, API reference, platform.openai.com/docs/api-reference; WHATWG, HTML, section 9.2.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from typing import Any, Sequence

from chapter_02_text_generation import Tokenizer
from chapter_07_attention import TextPieces
from chapter_10_production.batch_sampling import TokenLogprob
from chapter_10_production.sequence import Progress

LOWEST = -9999.0  # instead of minus infinity, which JSON cannot say
DONE = b"data: [DONE]\n\n"


def error_body(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error: its line, what kind it is of, the parameter at fault, and a name for it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def model_body(name: str, created: int, context: int) -> dict[str, Any]:
    """A model that is served; `max_model_len`, its context in tokens, is vLLM's addition."""
    return {"id": name, "object": "model", "created": created, "owned_by": "this server",
            "max_model_len": context}  # fmt: skip


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event. JSON has no bare line end, so it is one line."""
    line = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"data: {line}\n\n".encode()


def usage_body(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class Answer:
    """What the answers of both endpoints share; subclasses give the shapes of a choice.

    `logprobs` says whether they tell log-probabilities, which are null otherwise.
    """

    prefix = whole_object = chunk_object = ""

    def __init__(self, model: str, tokenizer: Tokenizer, logprobs: bool = False) -> None:
        self.model, self.tokenizer, self.wants_logprobs = model, tokenizer, logprobs
        self.id, self.created = f"{self.prefix}{uuid.uuid4().hex}", int(time.time())

    def body(self, kind: str, choices: list[dict]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model,
                "choices": choices}  # fmt: skip

    def whole(self, texts: Sequence[Progress], usage: dict[str, int]) -> dict[str, Any]:
        """The answer, each text being one progress from beginning to end."""
        choices = [self.choice(i, text) for i, text in enumerate(texts)]
        return {**self.body(self.whole_object, choices), "usage": usage}

    def chunk(self, index: int, progress: Progress) -> dict[str, Any]:
        """What is new in one text."""
        return self.body(self.chunk_object, [self.delta(index, progress)])

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last chunk, about all texts."""
        return {**self.body(self.chunk_object, []), "usage": usage}

    def beginnings(self, count: int) -> list[dict[str, Any]]:
        """Chunks that come before there is any text."""
        return []

    def choice(self, index: int, text: Progress) -> dict[str, Any]:
        raise NotImplementedError

    def delta(self, index: int, progress: Progress) -> dict[str, Any]:
        raise NotImplementedError

    def name(self, token: int) -> str:
        return self.tokenizer.decode([token])


class CompletionAnswer(Answer):
    """Text that goes on from a prompt."""

    prefix, whole_object, chunk_object = "cmpl-", "text_completion", "text_completion"

    def __init__(self, model: str, tokenizer: Tokenizer, logprobs: bool = False) -> None:
        super().__init__(model, tokenizer, logprobs)
        self.pieces = defaultdict(lambda: TextPieces(tokenizer))  # by index, as are the offsets
        self.offsets: defaultdict[int, int] = defaultdict(int)

    def choice(self, index: int, text: Progress) -> dict[str, Any]:
        return {
            "index": index,
            "text": text.text,
            "logprobs": self.logprobs(index, text.logprobs),
            "finish_reason": text.finish_reason,
        }

    delta = choice

    def logprobs(self, index: int, logprobs: Sequence[TokenLogprob]) -> dict[str, list] | None:
        """Lists side by side, an item a token; `text_offset` is where in the text it begins."""
        if not self.wants_logprobs:
            return None
        offsets = []
        for found in logprobs:
            offsets.append(self.offsets[index])
            self.offsets[index] += len(self.pieces[index].push(found.token))
        return {
            "tokens": [self.name(found.token) for found in logprobs],
            "token_logprobs": [finite(found.logprob) for found in logprobs],
            "top_logprobs": [self.likeliest(found) for found in logprobs],
            "text_offset": offsets,
        }

    def likeliest(self, found: TokenLogprob) -> dict[str, float]:
        """By their names, the token itself always among them."""
        names: dict[str, float] = {}
        for token, logprob in [*found.top, (found.token, found.logprob)]:
            names.setdefault(self.name(token), finite(logprob))
        return names


class ChatAnswer(Answer):
    """What the assistant says."""

    prefix, whole_object, chunk_object = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def beginnings(self, count: int) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        nothing = {"logprobs": None, "finish_reason": None}
        return [
            self.body(self.chunk_object, [{"index": i, "delta": delta, **nothing}])
            for i in range(count)
        ]

    def choice(self, index: int, text: Progress) -> dict[str, Any]:
        message = {"role": "assistant", "content": text.text, "refusal": None}
        return {"index": index, "message": message, **self.end(text)}

    def delta(self, index: int, progress: Progress) -> dict[str, Any]:
        delta = {"content": progress.text} if progress.text else {}
        return {"index": index, "delta": delta, **self.end(progress)}

    def end(self, progress: Progress) -> dict[str, Any]:
        content = [
            {**self.entry(found.token, found.logprob),
             "top_logprobs": [self.entry(*likely) for likely in found.top]}
            for found in progress.logprobs
        ]  # fmt: skip
        logprobs = {"content": content, "refusal": None}
        logprobs = logprobs if self.wants_logprobs else None
        return {"logprobs": logprobs, "finish_reason": progress.finish_reason}

    def entry(self, token: int, logprob: float) -> dict[str, Any]:
        """`bytes` is null for a token that holds part of a character."""
        name = self.name(token)
        known = None if "\ufffd" in name else list(name.encode())
        return {"token": name, "logprob": finite(logprob), "bytes": known}


def finite(logprob: float) -> float:
    return max(logprob, LOWEST)
