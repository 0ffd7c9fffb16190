"""A text while it is being written: its tokens, its pages, and how far the model has read it."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from chapter_02_text_generation import Tokenizer
from chapter_10_production.batch_sampling import TokenLogprob
from chapter_10_production.paged_attention import Piece
from chapter_10_production.pages import PagePool, fingerprint
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.stop_strings import StoppedText
from utils.seeding import generator


class Progress(NamedTuple):
    """What one step added to a text.

    `finish_reason` is None while it goes on, then "stop" (a stop string, or the end of the text),
    "length" (enough tokens, or no room), "cancelled" or "error".
    """

    request: Text
    tokens: list[int]
    text: str
    logprobs: list[TokenLogprob]
    finish_reason: str | None


class Text:
    """One request. `ids` are prompt and continuation; the first `computed` are in the cache.

    Keys and values of token t lie in page `table[t // page_size]`.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        parameters: SamplingParameters,
        longest: int,
        tokenizer: Tokenizer | None,
        pool: PagePool,
    ) -> None:
        self.ids, self.prompt_length = list(prompt), len(prompt)
        self.parameters, self.pool = parameters, pool
        wanted = parameters.max_tokens
        room = longest - len(self.ids)
        self.most = longest if wanted is None or wanted > room else len(self.ids) + wanted
        self.computed = self.drafted = 0
        self.pages: list[int] = []
        self.table = np.zeros(-(-longest // pool.page_size), np.int64)
        self.fingerprints: list[bytes] = []
        seed = generator().integers(2**63) if parameters.seed is None else parameters.seed
        self.rng = np.random.default_rng(seed)
        self.uniforms: list[float] = []  # drawn, but not used yet
        self.output = StoppedText(tokenizer, parameters.stop)
        self.cancelled = False
        self.finish_reason: str | None = None

    @property
    def written(self) -> int:
        """How many tokens were added to the prompt."""
        return len(self.ids) - self.prompt_length

    @property
    def unread(self) -> int:
        """How many tokens the model has not read; the last of them is always among these."""
        return len(self.ids) - self.computed

    def reach(self, ahead: int) -> int:
        """How many tokens there are with `ahead` proposed ones; the last place is the model's."""
        return len(self.ids) + min(ahead, self.most - len(self.ids) - 1)

    def uniform(self, ahead: int) -> float:
        """The random number of the token after the next `ahead` ones."""
        while len(self.uniforms) <= ahead:
            self.uniforms.append(self.rng.random())
        return self.uniforms[ahead]

    def cover(self, tokens: int) -> bool:
        """Take pages for so many tokens in all; False where there are not enough."""
        missing = -(-tokens // self.pool.page_size) - len(self.pages)
        if missing > self.pool.available:
            return False
        for _ in range(missing):
            self.hold(self.pool.take())
        return True

    def share_beginning(self) -> None:
        """Begin with pages that hold the same tokens, if there are some."""
        size, found = self.pool.page_size, b""
        # The last token is read in any case, as what follows it is asked for.
        for end in range(size, len(self.ids), size):
            found = fingerprint(found, self.ids[end - size : end])
            page = self.pool.share(found)
            if page is None:
                break
            self.hold(page)
            self.fingerprints.append(found)
            self.computed = self.drafted = end

    def remember_pages(self, read: int) -> None:
        """Let others share the pages that are full, `read` tokens having been read."""
        size = self.pool.page_size
        while (len(self.fingerprints) + 1) * size <= read:
            page = len(self.fingerprints)
            before = self.fingerprints[-1] if page else b""
            found = fingerprint(before, self.ids[page * size : (page + 1) * size])
            self.fingerprints.append(found)
            self.pool.remember(self.pages[page], found)

    def hold(self, page: int) -> None:
        self.table[len(self.pages)] = page
        self.pages.append(page)

    def release(self) -> None:
        """Give all pages back; what was in them is to be computed again, or found again."""
        self.pool.give_back(self.pages)
        self.pages, self.fingerprints = [], []
        self.table.fill(0)
        self.computed = self.drafted = 0

    def piece(self, start: int, stop: int, ahead: Sequence[int] = ()) -> Piece:
        """Some of the tokens, those that are only proposed behind the others."""
        return Piece([*self.ids, *ahead] if ahead else self.ids, self.table, start, stop)
