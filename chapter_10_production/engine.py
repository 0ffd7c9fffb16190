"""The engine: texts come in at any time, and each step moves all of them on by a token or more.

A step asks the scheduler who reads what, lets the model read all of it as one batch, draws the next
token of each text that is read to its end, and says what is new. It knows nothing of threads or
networks; whoever owns it calls `step` as long as there is work (`engine_thread.py`).
"""

from __future__ import annotations

import operator
from typing import NamedTuple, Sequence

import numpy as np

from chapter_02_text_generation import Tokenizer
from chapter_07_attention.config import whole_number
from chapter_10_production.batch_sampling import NO_TOKEN, draw, log_probabilities
from chapter_10_production.decoder import Decoder
from chapter_10_production.paged_attention import PagedBatch
from chapter_10_production.paged_cache import PagedCache
from chapter_10_production.pages import PagePool
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.scheduler import Scheduler
from chapter_10_production.sequence import Progress, Text
from chapter_10_production.speculative import Speculator


class Completion(NamedTuple):
    """A finished continuation."""

    tokens: list[int]
    text: str
    logprobs: list
    finish_reason: str


class Engine:
    """Serves a model; `tokenizer` turns tokens into text, `end` is the token that ends a text.

    `cached_tokens` is the room in the cache, in all, cut into pages of `page_size`; `most_running`
    texts are written at once; a step reads at most `most_tokens`, though never fewer than a token
    of each. A `draft` with the same vocabulary proposes `ahead` tokens a step. Without
    `share_prefixes` no pages are shared.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer | None = None,
        end: int | None = None,
        cached_tokens: int | None = None,
        page_size: int = 16,
        most_running: int = 32,
        most_tokens: int = 256,
        draft: Decoder | None = None,
        ahead: int = 4,
        share_prefixes: bool = True,
    ) -> None:
        self.model, self.tokenizer, self.end = model, tokenizer, end
        self.longest = model.config.block_size
        if draft is not None:
            check_draft(model, draft)
        sizes = {"page_size": page_size, "most_running": most_running, "most_tokens": most_tokens}
        for name, size in {**sizes, "ahead": ahead}.items():
            whole_number(name, size)
        if cached_tokens is None:
            pages = most_running * -(-self.longest // page_size)
        else:
            pages = -(-whole_number("cached_tokens", cached_tokens) // page_size)
        self.pool = PagePool(pages + 1, page_size)
        self.cache = PagedCache(model.config, pages + 1, page_size)
        rows = 1 if draft is None else 1 + ahead  # of a text that is being written
        self.scheduler = Scheduler(self.pool, most_running, max(most_tokens, most_running * rows))
        self.speculator = None if draft is None else Speculator(draft, self.pool, ahead)
        self.share_prefixes = share_prefixes
        self.read = self.written = self.proposed = self.accepted = 0

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.scheduler.waiting or self.scheduler.running)

    def add(self, prompt: Sequence[int], parameters: SamplingParameters) -> Text:
        """Take a text in, to be continued from the next step on.

        Raises ValueError for a prompt that is empty, has no room for a continuation, or holds what
        is no token.
        """
        text = Text(self.checked(prompt), parameters, self.longest, self.tokenizer, self.pool)
        needed = -(-text.most // self.pool.page_size)
        if needed > self.pool.pages:
            raise ValueError(f"a text of up to {text.most} tokens needs {needed} pages of the "
                             f"cache, which has {self.pool.pages}")  # fmt: skip
        self.scheduler.waiting.append(text)
        return text

    def checked(self, prompt: Sequence[int]) -> list[int]:
        try:
            prompt = [operator.index(token) for token in prompt]
        except TypeError as error:
            raise ValueError(f"a prompt holds whole numbers: {error}") from None
        if not 1 <= len(prompt) < self.longest:
            raise ValueError(f"a prompt has 1 to {self.longest - 1} tokens, one less than the "
                             f"model's context; not {len(prompt)}")  # fmt: skip
        vocab = self.model.config.vocab_size
        bad = [token for token in prompt if not 0 <= token < vocab]
        if bad:
            raise ValueError(f"the prompt holds token {bad[0]}; the model knows 0 to {vocab - 1}")
        return prompt

    def cancel(self, text: Text) -> None:
        """End a text before the next step; nothing happens to one that has ended."""
        text.cancelled = True

    def step(self) -> list[Progress]:
        """Move on; what is new, for each text that has something new."""
        news = [self.finished(text, [], [], "", "cancelled") for text in self.cancelled()]
        planned = self.scheduler.plan(self.speculator.ahead if self.speculator else 0)
        if not planned:
            return news
        proposed: dict[Text, list[int]] = {}
        if self.speculator:
            proposed = self.speculator.propose([t for t in planned if t.unread == 1])
        pieces = [
            text.piece(text.computed, text.computed + count + len(ahead), ahead)
            for text, count in planned.items()
            for ahead in [proposed.get(text, [])]
        ]
        batch = PagedBatch(self.model.config, self.cache, pieces)
        hidden = self.model(batch.ids, batch.places, batch)
        self.read += len(batch.ids)
        # A text whose prompt is not read to its end has no next token yet.
        ready, spoilt, rows = [], [], []
        for text, last in zip(planned, batch.last):
            if planned[text] == text.unread:
                ready.append(text)
                rows += range(last - len(proposed.get(text, [])), last + 1)
            elif not np.isfinite(hidden[last + 1 - planned[text] : last + 1]).all():
                spoilt.append(text)
        for text, count in planned.items():
            text.computed += count
        news += [self.finished(text, [], [], "", "error") for text in spoilt]
        if ready:
            news += self.write(ready, self.model.head.apply(hidden[rows]), proposed)
        if self.speculator:
            behind = [t for t in planned if t.finish_reason is None and t not in proposed]
            if behind:
                self.speculator.read(behind)
        for text in self.scheduler.running:
            self.remember(text)
        return news

    def write(self, texts: list[Text], logits: np.ndarray, proposed: dict) -> list[Progress]:
        """Draw the next tokens of texts, one more than were proposed and right.

        `logits` have, text by text, a row behind its last token and one behind each proposal; row i
        of a text is drawn with `text.uniform(i)`. Adds to the counts of tokens `proposed` and
        `accepted`; returns what `append` says of each text.
        """
        counts = [1 + len(proposed.get(text, [])) for text in texts]
        parameters = [t.parameters for t, count in zip(texts, counts) for _ in range(count)]
        uniforms = [t.uniform(i) for t, count in zip(texts, counts) for i in range(count)]
        drawn = draw(logits, parameters, uniforms).tolist()
        news, first = [], 0
        for text, count in zip(texts, counts):
            own = drawn[first : first + count]
            guesses = proposed.get(text, [])
            right = next((i for i, guess in enumerate(guesses) if guess != own[i]), len(guesses))
            self.proposed += len(guesses)
            self.accepted += right
            news.append(self.append(text, own[: right + 1], logits[first : first + count]))
            first += count
        return news

    def append(self, text: Text, tokens: list[int], logits: np.ndarray) -> Progress:
        """Add drawn tokens to a text, up to its end."""
        added, logprobs, shown, reason = [], [], "", None
        for token, row in zip(tokens, logits):
            if token == NO_TOKEN:
                reason = "error"
                break
            if token == self.end:
                reason = "stop"
                break
            if added:
                text.computed += 1  # as a proposal it was read already
            text.ids.append(token)
            del text.uniforms[0]
            added.append(token)
            shown += text.output.push(token)
            if text.parameters.logprobs is not None:
                logprobs.append(log_probabilities(row, token, text.parameters.logprobs))
            if text.output.stopped or len(text.ids) == text.most:
                reason = "stop" if text.output.stopped else "length"
                break
        self.written += len(added)
        text.drafted = min(text.drafted, text.computed)  # what it read besides was wrong
        if reason is not None:
            return self.finished(text, added, logprobs, shown, reason)
        return Progress(text, added, shown, logprobs, None)

    def finished(self, text: Text, tokens: list, logprobs: list, shown: str, reason: str):
        shown += text.output.finish()
        if text.output.stopped and reason != "error":
            reason = "stop"
        text.finish_reason = reason
        if reason == "error":
            self.clear(text)
        else:
            self.remember(text)
        self.scheduler.remove(text)
        return Progress(text, tokens, shown, logprobs, reason)

    def remember(self, text: Text) -> None:
        """Let others share what was read of a text, by the draft as well."""
        if self.share_prefixes:
            read = min(text.computed, text.drafted) if self.speculator else text.computed
            text.remember_pages(read)

    def clear(self, text: Text) -> None:
        """Let nobody meet what is in the pages of a text whose logits were no numbers."""
        own = [page for page in text.pages if self.pool.holders[page] == 1]
        for page in own:
            self.pool.forget(page)
        self.cache.clear(own)
        if self.speculator:
            self.speculator.cache.clear(own)

    def cancelled(self) -> list[Text]:
        waiting, running = self.scheduler.waiting, self.scheduler.running
        return [text for text in (*running, *waiting) if text.cancelled]

    def generate(
        self, prompts: Sequence[Sequence[int]], *parameters: SamplingParameters
    ) -> list[Completion]:
        """Continue all prompts, with parameters for each or one for all; returns when all end.

        Texts that were there before are moved on as well, but what they add is not returned.
        """
        if len(parameters) not in (1, len(prompts)):
            raise ValueError(f"{len(parameters)} parameters for {len(prompts)} prompts: give one "
                             "for all, or one each")  # fmt: skip
        each = parameters * len(prompts) if len(parameters) == 1 else parameters
        found: dict[Text, tuple[str, list]] = {}
        try:
            for prompt, how in zip(prompts, each):
                found[self.add(prompt, how)] = "", []
            while any(text.finish_reason is None for text in found):
                for progress in self.step():
                    if progress.request in found:
                        shown, logprobs = found[progress.request]
                        both = shown + progress.text, logprobs + progress.logprobs
                        found[progress.request] = both
        finally:
            for text in found:
                self.cancel(text)  # an error or Ctrl-C leaves nothing to be written
        return [
            Completion(text.ids[text.prompt_length :], shown, logprobs, text.finish_reason)
            for text, (shown, logprobs) in found.items()
        ]


def check_draft(model: Decoder, draft: Decoder) -> None:
    if draft.config.vocab_size != model.config.vocab_size:
        raise ValueError(f"the draft knows {draft.config.vocab_size} tokens and the model "
                         f"{model.config.vocab_size}: they must be the same")  # fmt: skip
    if draft.config.block_size < model.config.block_size:
        raise ValueError(f"the draft reads texts of {draft.config.block_size} tokens and the model "
                         f"of {model.config.block_size}: it must read as many")  # fmt: skip
