"""Text as examples for a model that reads T tokens and guesses the one after each of them."""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from chapter_02_text_generation import BPETokenizer, CharacterTokenizer, Tokenizer
from chapter_03_neural_nets.losses import IGNORED
from chapter_06_hierarchical import padded_sequences
from utils.data import split_names, split_text

BOUNDARY = "\n"  # before and behind each name
Examples = Tuple[np.ndarray, np.ndarray]  # ids and targets, (N, T) each


class Corpus(NamedTuple):
    """A tokenizer, and examples to learn from and to be judged on.

    `test` is None where the text has no such part; `boundary` is the id that begins and ends a
    document, None where the text is one; `characters` are those of the validation part.
    """

    tokenizer: Tokenizer
    train: Examples
    validation: Examples
    test: Examples | None
    boundary: int | None
    characters: int

    @property
    def block_size(self) -> int:
        """The longest example."""
        parts = self.train, self.validation, self.test
        return max(part[0].shape[1] for part in parts if part is not None)


def text_corpus(
    text: str,
    block_size: int,
    vocab_size: int | None = None,
    tokenizer: Tokenizer | None = None,
) -> Corpus:
    """A long text: every window of the first 90 % to learn from, and the last 10 % cut in blocks.

    Tokens are those of a tokenizer, or `vocab_size` byte pairs learnt from the first part, or else
    characters. Raises ValueError for a text that is too short for a block, or that the tokenizer
    cannot read.
    """
    train, validation = split_text(text)
    if tokenizer is None and vocab_size is None:
        tokenizer = CharacterTokenizer.train(text)
    elif tokenizer is None:
        tokenizer = BPETokenizer.train(train, vocab_size)
    ids = np.array(tokenizer.encode(train))
    if len(ids) <= block_size:
        raise ValueError(f"a text of {len(ids)} tokens is too short for blocks of {block_size}: "
                         "give more text, or a shorter context")  # fmt: skip
    windows = sliding_window_view(ids, block_size + 1)
    examples = windows[:, :-1], windows[:, 1:]
    blocks = in_blocks(tokenizer.encode(validation), block_size)
    return Corpus(tokenizer, examples, blocks, None, None, len(validation))


def in_blocks(ids: Sequence[int], block_size: int) -> Examples:
    """A text cut in blocks, so that each token but the first is guessed once.

    What is missing in the last block is token 0, and ignored. Raises ValueError for fewer than two.
    """
    if len(ids) < 2:
        raise ValueError(f"a text of {len(ids)} tokens leaves nothing to guess")
    blocks = -(-(len(ids) - 1) // block_size)
    inputs = np.zeros(blocks * block_size, np.int64)
    targets = np.full(blocks * block_size, IGNORED, np.int64)
    inputs[: len(ids) - 1], targets[: len(ids) - 1] = ids[:-1], ids[1:]
    return inputs.reshape(blocks, block_size), targets.reshape(blocks, block_size)


def names_corpus(names: Sequence[str]) -> Corpus:
    """Documents of a line each, split 80/10/10; shorter ones than the longest are filled up."""
    tokenizer = CharacterTokenizer.train("".join(names), [BOUNDARY])
    parts = split_names(names)
    (boundary,) = tokenizer.encode(BOUNDARY)
    train, validation, test = (
        padded_sequences(map(tokenizer.encode, part), boundary) for part in parts
    )
    characters = sum(len(name) + 1 for name in parts[1])
    return Corpus(tokenizer, train, validation, test, boundary, characters)
