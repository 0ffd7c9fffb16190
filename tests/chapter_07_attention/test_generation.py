"""Writing: where it stops, what the model sees, and characters that come whole."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from chapter_02_text_generation import BPETokenizer, CharacterTokenizer
from chapter_07_attention import pieces, stream


class Counting:
    """Says after each token that the next number comes, and takes down what it saw."""

    def __init__(self, vocab_size=10, block_size=4):
        self.config = SimpleNamespace(block_size=block_size, vocab_size=vocab_size)
        self.vocab_size, self.seen = vocab_size, []

    def next_logits(self, ids):
        self.seen.append(list(ids))
        logits = np.full(self.vocab_size, -1e3)
        logits[(ids[-1] + 1) % self.vocab_size] = 0
        return logits


def test_it_continues_up_to_the_number_asked_for():
    assert list(stream(Counting(), [1], 3)) == [2, 3, 4]
    assert list(stream(Counting(), [1], 0)) == []


def test_it_stops_at_the_end_and_does_not_say_it():
    assert list(stream(Counting(), [1], 100, end=5)) == [2, 3, 4]
    assert list(stream(Counting(), [1], 12, end=None)) == [*range(2, 10), 0, 1, 2, 3]
    assert list(stream(Counting(), [9], 2, end=0)) == [], "0 is an end like any other"


def test_tokens_come_one_at_a_time():
    model, prompt = Counting(), [1]
    assert list(islice(stream(model, prompt, 10**9), 2)) == [2, 3]
    assert len(model.seen) <= 3, "whoever reads two tokens does not wait for the others"
    assert prompt == [1], "the prompt is the caller's"


def test_the_model_sees_the_last_block(small_gpt):
    model = small_gpt(block_size=4)
    ids = list(stream(model, [1, 2, 3], 6, temperature=0))
    text = [1, 2, 3, *ids]
    for place in range(3, len(text)):
        window = np.array([text[max(place - 4, 0) : place]])
        assert model(window).data[0, -1].argmax() == text[place]


def test_the_same_seed_writes_the_same(small_gpt):
    model = small_gpt()
    write = lambda seed: list(stream(model, [1], 30, rng=np.random.default_rng(seed)))
    assert write(1) == write(1) != write(2)
    assert all(0 <= token < 11 for token in write(1))


def test_dropout_is_off_while_it_writes_and_on_again_afterwards(small_gpt):
    model = small_gpt(dropout=0.5)
    first = list(stream(model, [1], 10, temperature=0))
    assert list(stream(model, [1], 10, temperature=0)) == first and model.training


@pytest.mark.parametrize("prompt", [[], [1] * 5])
def test_prompts_that_do_not_fit(prompt):
    with pytest.raises(ValueError, match=f"1 to 4 tokens.*{len(prompt)}"):
        list(stream(Counting(), prompt, 3))


@pytest.mark.parametrize("token", [-1, 11, 10**6])
def test_tokens_that_the_model_does_not_know(token, small_gpt):
    with pytest.raises(ValueError, match=f"0 to 10, not {token}"):
        list(stream(small_gpt(), [1, token], 3))


@pytest.mark.parametrize("how", [{"temperature": -1}, {"top_k": 0}, {"top_p": 2}, {"top_k": 12}])
def test_ways_to_draw_that_are_none(how, small_gpt):
    with pytest.raises(ValueError, match=str(next(iter(how.values())))):
        list(stream(small_gpt(), [1], 3, **how))


# Pieces.

TEXT = "naïve café, 日本語のテキスト \U0001f389\U0001f44d\U0001f3fd x€y"


def as_pieces(tokenizer, ids):
    found = list(pieces(tokenizer, iter(ids)))
    assert "".join(found) == tokenizer.decode(ids), "the pieces together are the text"
    return found


def test_bytes_come_as_whole_characters():
    tokenizer = BPETokenizer.train("a", 256)
    found = as_pieces(tokenizer, tokenizer.encode(TEXT))
    assert found == list(TEXT), "a piece a character, also where it has four bytes"


def test_characters_come_as_they_are():
    tokenizer = CharacterTokenizer.train(TEXT)
    assert as_pieces(tokenizer, tokenizer.encode(TEXT)) == list(TEXT)
    assert as_pieces(tokenizer, []) == []


@pytest.mark.parametrize("vocab_size", [270, 300, 340])
def test_byte_pairs_come_as_whole_characters(vocab_size):
    """Pairs learnt from such text end in the middle of a character, and begin there."""
    text = "日本語日本人日曜日本日語人曜" * 3 + "€₭₮€₭₮𝒜𝓑𝒞𝒜𝓑" * 3
    tokenizer = BPETokenizer.train(text, vocab_size)
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = "".join(rng.choice(list(text), size=20))
        for piece in as_pieces(tokenizer, tokenizer.encode(drawn)):
            assert "\ufffd" not in piece, f"a character was torn apart: {piece!r} of {drawn!r}"


def test_tokens_that_hold_the_ends_of_two_characters():
    """Four tokens may be held and none of their characters lost: each ends in the midst of one."""
    data = "€€€€€€".encode()

    class Bytes:
        def decode(self, ids):
            return b"".join(parts[i] for i in ids).decode(errors="replace")

    parts = [data[:2], data[2:5], data[5:8], data[8:11], data[11:14], data[14:]]
    assert "".join(pieces(Bytes(), iter(range(6)))) == "€" * 6


def test_bytes_that_never_become_text_do_not_hold_up_the_rest():
    tokenizer = BPETokenizer.train("a", 256)
    ids = [0xFF, *b"abc", 0xE2, *b"def", 0x80, 0x80, 0x80, 0x80, 0x80, *b"end"]
    found = as_pieces(tokenizer, ids)
    assert found[-1].endswith("d") and len(found) > 6
    assert as_pieces(tokenizer, [*b"x", 0xE2, 0x82])[0] == "x", "the end may be torn, x is not"
