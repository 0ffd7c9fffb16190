"""What can be known of a model's data: which text it was, and how well the rest of it is guessed.

A name does not tell one text from another, a hash does. And a loss says something of a model only
on what it has not learnt from, together with the number of characters that its tokens stand for.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Sequence

import numpy as np

from chapter_02_text_generation import Tokenizer, bits_per_character, perplexity
from chapter_03_neural_nets import evaluate
from chapter_06_hierarchical import padded_sequences
from chapter_07_attention import GPT, in_blocks

TOKENS_AT_ONCE = 2048  # that are judged


class Data(NamedTuple):
    """A text, or names in lines, by what tells it from others."""

    name: str
    characters: int
    sha256: str

    @classmethod
    def of(cls, name: str, text: str) -> Data:
        return cls(name, len(text), hashlib.sha256(text.encode("utf-8")).hexdigest())


class HeldOut(NamedTuple):
    """The loss on what was not learnt from, in nats a token, and how much that was."""

    loss: float
    tokens: int
    characters: int

    @property
    def perplexity(self) -> float:
        return perplexity(self.loss)

    @property
    def bits_per_character(self) -> float:
        return bits_per_character(self.loss, self.tokens, self.characters)


def judged_on_text(model: GPT, tokenizer: Tokenizer, text: str) -> HeldOut:
    """The loss on a text, cut in blocks as long as the model reads.

    Raises ValueError for a text of which the tokenizer knows too little.
    """
    inputs, targets = in_blocks(tokenizer.encode(text), model.config.block_size)
    return judged(model, inputs, targets, len(text))


def judged_on_names(model: GPT, tokenizer: Tokenizer, names: Sequence[str]) -> HeldOut:
    """The loss on names, each of which begins and ends with the tokenizer's first special token.

    Raises ValueError for a tokenizer without one, and for longer names than the model reads.
    """
    if not tokenizer.special_tokens:
        raise ValueError("names end with a special token, and the tokenizer has none")
    boundary = next(iter(tokenizer.special_tokens.values()))
    inputs, targets = padded_sequences(map(tokenizer.encode, names), boundary)
    return judged(model, inputs, targets, sum(len(name) + 1 for name in names))


def judged(model: GPT, inputs: np.ndarray, targets: np.ndarray, characters: int) -> HeldOut:
    at_once = max(TOKENS_AT_ONCE // inputs.shape[1], 1)
    loss = evaluate(model, inputs, targets, batch_size=at_once)["loss"]
    return HeldOut(loss, int((targets >= 0).sum()), characters)
