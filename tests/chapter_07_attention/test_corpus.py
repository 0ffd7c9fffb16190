"""Text as examples: every window to learn from, and each token guessed exactly once when judged."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import Identity, evaluate
from chapter_07_attention import in_blocks, names_corpus, text_corpus
from utils import Tensor

IGNORED = -100
TEXT = "the quick brown fox jumps over the lazy dog. " * 10


@pytest.mark.parametrize("count", [2, 4, 5, 6, 9, 10, 11])
@pytest.mark.parametrize("size", [1, 3, 5, 20])
def test_each_token_but_the_first_is_guessed_once_behind_the_one_before_it(count, size):
    ids = np.arange(100, 100 + count)
    inputs, targets = in_blocks(ids.tolist(), size)
    assert inputs.shape == targets.shape and inputs.shape[1] == size
    guessed = targets != IGNORED
    assert targets[guessed].tolist() == ids[1:].tolist(), "in order, each once"
    assert inputs[guessed].tolist() == ids[:-1].tolist()
    assert guessed.ravel()[: count - 1].all(), "only the end of the last block is filled up"
    assert (inputs[~guessed] == 0).all(), "with a token that every model knows"
    assert guessed.any(axis=1).all(), "no block is empty"


@pytest.mark.parametrize("ids", [[], [3]])
def test_a_text_with_nothing_to_guess(ids):
    with pytest.raises(ValueError, match=f"{len(ids)} tokens"):
        in_blocks(ids, 4)


def test_windows_of_a_text():
    corpus = text_corpus(TEXT, 8)
    (inputs, targets), decode = corpus.train, corpus.tokenizer.decode
    train = TEXT[: len(TEXT) * 9 // 10]
    assert inputs.shape == targets.shape == (len(train) - 8, 8), "a window begins at every place"
    for start in (0, 1, 57, len(inputs) - 1):
        assert decode(inputs[start]) == train[start : start + 8]
        assert decode(targets[start]) == train[start + 1 : start + 9], "one token ahead"
    assert corpus.test is None and corpus.boundary is None and corpus.block_size == 8


def test_the_last_tenth_is_never_learnt_from():
    text = "ab" * 450 + "cd" * 50
    corpus = text_corpus(text, 5)
    assert set(corpus.tokenizer.decode(corpus.train[0].ravel())) == {"a", "b"}
    inputs, targets = corpus.validation
    guessed = targets[targets != IGNORED]
    assert corpus.tokenizer.decode(guessed) == ("cd" * 50)[1:]
    assert corpus.characters == 100


def test_byte_pairs_are_learnt_from_the_first_part_alone():
    text = "ab" * 450 + "cd" * 50
    corpus = text_corpus(text, 5, vocab_size=258)
    assert corpus.tokenizer.vocab_size == 258
    assert corpus.tokenizer.encode("ab") == [256] and len(corpus.tokenizer.encode("cd")) == 2
    guessed = corpus.validation[1] != IGNORED
    first = corpus.validation[0][0, :1]
    whole = corpus.tokenizer.decode([*first, *corpus.validation[1][guessed]])
    assert whole == "cd" * 50


def test_a_text_can_be_read_in_known_tokens():
    known = text_corpus("abcdefgh" * 20, 4).tokenizer
    corpus = text_corpus("hgfedcba" * 20, 4, tokenizer=known)
    assert corpus.tokenizer is known
    assert known.decode(corpus.train[0][0]) == "hgfe" and known.decode(corpus.train[1][0]) == "gfed"
    with pytest.raises(ValueError, match="'x' at position 0"):
        text_corpus("x" * 20, 4, tokenizer=known)


def test_a_text_shorter_than_a_block_is_refused():
    with pytest.raises(ValueError, match="9 tokens is too short for blocks of 9"):
        text_corpus("0123456789", 9)


def test_names_have_a_boundary_before_and_behind_them():
    names = [f"{a}{b}{'x' * (i % 4)}" for i, a in enumerate("abcdefgh") for b in "klmno"]
    corpus = names_corpus(names)
    decode = corpus.tokenizer.decode
    assert corpus.tokenizer.decode([corpus.boundary]) == "\n"
    found = []
    for part in (corpus.train, corpus.validation, corpus.test):
        for inputs, targets in zip(*part):
            length = int((targets != IGNORED).sum())
            name = decode(targets[: length - 1])
            assert inputs[0] == corpus.boundary == targets[length - 1]
            assert inputs[1:length].tolist() == targets[: length - 1].tolist()
            assert (targets[length:] == IGNORED).all()
            found.append(name)
    assert sorted(found) == sorted(names)
    assert [len(p[0]) for p in (corpus.train, corpus.validation, corpus.test)] == [32, 4, 4]
    assert corpus.block_size == 6, "the longest name and a boundary"
    assert corpus.characters == sum(len(name) + 1 for name in found[32:36])


def test_judging_where_every_target_is_ignored_is_no_number():
    """Chapter 3's evaluate: the mean of nothing is an error, a batch of nothing is none."""
    logits = np.zeros((3, 2, 4), np.float32)
    targets = np.full((3, 2), IGNORED)
    with pytest.raises(ValueError, match="all targets are ignored"):
        evaluate(Rows(logits), np.arange(3), targets)
    targets[2, 1] = 0
    found = evaluate(Rows(logits), np.arange(3), targets, batch_size=1)
    assert found == {"loss": pytest.approx(np.log(4)), "accuracy": 1.0}


class Rows(Identity):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, rows):
        return Tensor(self.table[rows])
