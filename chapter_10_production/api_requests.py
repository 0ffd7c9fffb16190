"""What a client asks for, made out of the body of its request, or refused with a reason.

The parameters are those of OpenAI's API, with `top_k` and `min_p` as in vLLM. Those that mean
nothing here are taken at the values that would change nothing, and refused at others: a client must
never believe that it got what it did not get.
Source: OpenAI, API reference, platform.openai.com/docs/api-reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator, Sequence

from chapter_02_text_generation import Tokenizer
from chapter_10_production.api_errors import BadRequest
from chapter_10_production.api_fields import Fields
from chapter_10_production.chat_template import NEXT_TURN, chat_prompt, messages_of
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.strict_json import parse_object

IGNORED = {
    "user": str,
    "safety_identifier": str,
    "prompt_cache_key": str,
    "service_tier": str,
    "metadata": dict,
    "parallel_tool_calls": bool,
}
NEUTRAL = {
    "presence_penalty": [0],
    "frequency_penalty": [0],
    "logit_bias": [{}],
    "store": [False],
    "echo": [False],
    "suffix": [""],
    "response_format": [{"type": "text"}],
    "modalities": [["text"]],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "functions": [[]],
    "function_call": ["none", "auto"],
}


@dataclass(frozen=True)
class RequestLimits:
    """How much one request may ask for; lengths of strings in characters."""

    most_tokens: int = 10**6
    most_prompts: int = 16
    most_choices: int = 8  # `n`
    most_texts: int = 64  # of all prompts
    most_stops: int = 4
    longest_stop: int = 256
    most_logprobs: int = 5  # of completions, as OpenAI has it
    most_top_logprobs: int = 20  # of chats


@dataclass(frozen=True)
class AskedFor:
    """`n` continuations of each prompt, whole or as a stream."""

    prompts: Sequence[Sequence[int]]
    parameters: SamplingParameters
    n: int
    stream: bool
    include_usage: bool

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    def texts(self) -> Iterator[tuple[Sequence[int], SamplingParameters]]:
        """What is to be written, prompt by prompt; the seeds of a prompt's texts count up."""
        for prompt in self.prompts:
            for i in range(self.n):
                seed = self.parameters.seed
                seed = None if seed is None else (seed + i) % 2**64
                yield prompt, replace(self.parameters, seed=seed)


class RequestReader:
    """Reads requests to one model; raises BadRequest for those that cannot be answered.

    `context` and `vocab_size` are the model's: a prompt is shorter than the context.
    """

    def __init__(
        self,
        model: str,
        tokenizer: Tokenizer,
        context: int,
        vocab_size: int,
        limits: RequestLimits | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.context, self.vocab_size = context, vocab_size
        self.limits = RequestLimits() if limits is None else limits
        # What a text begins with where it has nothing else to begin with.
        self.boundary = next(iter(tokenizer.special_tokens.values()), 0)
        widest = max(len(tokenizer.decode([i])) for i in range(tokenizer.vocab_size))
        self.most_characters = widest * context

    def completion(self, body: bytes) -> AskedFor:
        """The body of a request to /v1/completions."""
        fields = self.fields(body)
        prompts = self.prompts(fields)
        logprobs = fields.whole("logprobs", 0, self.limits.most_logprobs)
        max_tokens = fields.whole("max_tokens", 1, self.limits.most_tokens, default=16)
        n = fields.whole("n", 1, self.limits.most_choices, default=1)
        fields.whole("best_of", n, n)  # the best n of n
        return self.asked(fields, prompts, n, max_tokens, logprobs, self.stops(fields))

    def chat(self, body: bytes) -> AskedFor:
        """The body of a request to /v1/chat/completions."""
        fields = self.fields(body)
        prompt = self.encoded(chat_prompt(messages_of(fields)), "messages")
        top = fields.whole("top_logprobs", 0, self.limits.most_top_logprobs)
        if not fields.flag("logprobs"):
            if top is not None:
                raise fields.misplaced("top_logprobs", "logprobs: true")
            logprobs = None
        else:
            logprobs = top or 0
        max_tokens = fields.whole("max_completion_tokens", 1, self.limits.most_tokens)
        older = fields.whole("max_tokens", 1, self.limits.most_tokens)  # the older name
        if None not in (max_tokens, older) and max_tokens != older:
            raise fields.bad("max_tokens", "another name of max_completion_tokens", older)
        n = fields.whole("n", 1, self.limits.most_choices, default=1)
        stop = (*self.stops(fields), NEXT_TURN)
        return self.asked(fields, [prompt], n, max_tokens or older, logprobs, stop)

    def fields(self, body: bytes) -> Fields:
        """All parameters of a request to this model."""
        try:
            fields = Fields(parse_object(body))
        except ValueError as error:
            raise BadRequest(400, str(error), code="invalid_json") from None
        self.check_model(fields.text("model", default=self.model))
        return fields

    def check_model(self, model: str) -> None:
        if model != self.model:
            message = f"the model {model[:100]!r} is not served here; {self.model!r} is"
            raise BadRequest(404, message, "model", "model_not_found")

    def asked(
        self,
        fields: Fields,
        prompts: Sequence[Sequence[int]],
        n: int,
        max_tokens: int | None,
        logprobs: int | None,
        stop: tuple[str, ...],
    ) -> AskedFor:
        """The rest, which both endpoints share."""
        seed = fields.whole("seed", -(2**63), 2**63 - 1)
        top_k = fields.whole("top_k", -1, 2**31 - 1)
        parameters = SamplingParameters(
            max_tokens=max_tokens,
            temperature=fields.number("temperature", 0, 2, default=1),
            top_k=top_k if top_k is not None and top_k > 0 else None,
            top_p=fields.number("top_p", 0, 1, above=True),
            min_p=fields.number("min_p", 0, 1),
            seed=None if seed is None else seed % 2**64,
            stop=stop,
            logprobs=logprobs,
        )
        stream = fields.flag("stream")
        options = fields.object("stream_options")
        if options is not None and not stream:
            raise fields.misplaced("stream_options", "stream: true")
        include_usage = False
        if options is not None:
            include_usage = options.flag("include_usage")
            options.ignore({"include_obfuscation": bool}, {})
            options.none_left()
        fields.ignore(IGNORED, NEUTRAL)
        fields.none_left()
        most = self.limits.most_texts // len(prompts)
        if n > most:
            raise fields.bad("n", f"at most {most} for {len(prompts)} prompts", n)
        return AskedFor(prompts, parameters, n, stream, include_usage)

    def prompts(self, fields: Fields) -> list[list[int]]:
        """One text or several, each as a string or as tokens."""
        prompt = fields.take("prompt")
        if prompt is None:
            raise fields.missing("prompt")
        one = isinstance(prompt, str) or (isinstance(prompt, list) and is_tokens(prompt))
        many, most = [prompt] if one else prompt, self.limits.most_prompts
        if not isinstance(many, list) or not 1 <= len(many) <= most:
            rule = f"a string, a list of tokens, or a list of 1 to {most} of these"
            raise fields.bad("prompt", rule, prompt)
        for text in many:
            if not isinstance(text, str) and not (isinstance(text, list) and all(map(is_id, text))):
                raise fields.bad("prompt", "made of strings, or of lists of tokens", text)
        return [self.encoded(text, "prompt") for text in many]

    def encoded(self, text: str | list[int], param: str) -> list[int]:
        """The tokens of a prompt that fits; an empty one begins with the boundary of texts."""
        if isinstance(text, str) and len(text) > self.most_characters:
            message = (f"{param} has {len(text):,} characters; the model's context of "
                       f"{self.context} tokens holds at most {self.most_characters:,}")  # fmt: skip
            raise BadRequest(400, message, param, "context_length_exceeded")
        try:
            ids = self.tokenizer.encode(text) if isinstance(text, str) else text
        except ValueError as error:
            raise BadRequest(400, f"{param}: {error}", param, "unknown_character") from None
        ids = ids or [self.boundary]
        wrong = next((i for i in ids if not 0 <= i < self.vocab_size), None)
        if wrong is not None:
            message = f"{param} holds the token {wrong}; the model knows 0 to {self.vocab_size - 1}"
            raise BadRequest(400, message, param, "invalid_value")
        if len(ids) >= self.context:
            message = (f"{param} has {len(ids)} tokens; the model's context is {self.context}, of "
                       "which at least one is for the answer")  # fmt: skip
            raise BadRequest(400, message, param, "context_length_exceeded")
        return ids

    def stops(self, fields: Fields) -> tuple[str, ...]:
        """The strings that end a text."""
        stop = fields.take("stop", ())
        stops = (stop,) if isinstance(stop, str) else stop
        most, longest = self.limits.most_stops, self.limits.longest_stop
        fits = stop == () or (isinstance(stops, (list, tuple)) and 1 <= len(stops) <= most)
        if not fits or not all(isinstance(s, str) and 1 <= len(s) <= longest for s in stops):
            rule = f"a string of 1 to {longest} characters, or a list of 1 to {most} of them"
            raise fields.bad("stop", rule, stop)
        return tuple(stops)


def is_id(value: object) -> bool:
    return type(value) is int


def is_tokens(values: list) -> bool:
    return bool(values) and all(map(is_id, values))
