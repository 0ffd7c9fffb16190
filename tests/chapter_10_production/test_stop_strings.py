"""However a text is cut into tokens, the same of it is shown, and as soon as it can be."""

from __future__ import annotations

import itertools

import pytest

from chapter_02_text_generation import Tokenizer
from chapter_10_production.stop_strings import StoppedText, overlap


class Cuts(Tokenizer):
    """Token i stands for the i-th of some bytes."""

    def __init__(self, parts):
        self.parts, self.vocab_size, self.special_tokens = parts, len(parts), {}

    def decode(self, ids):
        return b"".join(self.parts[i] for i in ids).decode("utf-8", errors="replace")


def all_cuts(data):
    """Every way of cutting bytes into tokens."""
    for borders in itertools.product((False, True), repeat=max(len(data) - 1, 0)):
        places = [0, *(i + 1 for i, border in enumerate(borders) if border), len(data)]
        yield [data[a:b] for a, b in zip(places, places[1:])]


def shown(parts, stop):
    """The pieces that are shown, and whether a stop string was met."""
    text = StoppedText(Cuts(parts), stop)
    found = []
    for i in range(len(parts)):
        found.append(text.push(i))
        if text.stopped:
            break
    return [*found, text.finish()], text.stopped


def plainly(text, stop):
    """Letter by letter: the text before the stop string that is complete first."""
    for end in range(1, len(text) + 1):
        starts = [end - len(s) for s in stop if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)], True
    return text, False


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("aaab", ["aab"]),
        ("aabaab", ["aabaac", "baa"]),
        ("ababac", ["abac"]),
        ("abcd", ["abcd", "c"]),
        ("abcd", ["bcd", "cd", "d"]),
        ("abcabd", ["abd", "cab"]),
        ("xabc", ["abcd", "bcx"]),
        ("one\n\ntwo", ["\n\n"]),
        ("aaaa", ["a"]),
        ("aaaa", ["aaaaa"]),
        ("abab", []),
        ("né, é", ["é,"]),
        ("a–b…", ["–b"]),
        ("x\U0001f600y", ["\U0001f600"]),
        ("x\U0001f600é", ["é"]),
        ("éè", ["è", "éa"]),
    ],
)
def test_every_cut_shows_the_same(text, stop):
    wanted = plainly(text, stop)
    for parts in all_cuts(text.encode()):
        pieces, stopped = shown(parts, stop)
        assert ("".join(pieces), stopped) == wanted, f"cut into {parts}"


def test_every_short_text_of_two_letters_with_every_pair_of_stops():
    words = ["".join(w) for n in (1, 2, 3) for w in itertools.product("ab", repeat=n)]
    for letters in itertools.product("ab", repeat=5):
        text = "".join(letters)
        for stop in itertools.combinations(words, 2):
            wanted = plainly(text, stop)
            for size in (1, 2, 5):
                parts = [text[i : i + size].encode() for i in range(0, 5, size)]
                pieces, stopped = shown(parts, stop)
                assert ("".join(pieces), stopped) == wanted, f"{text} with {stop}, cut {parts}"


@pytest.mark.parametrize("stop", [["aab"], ["ab", "ba"], ["bbbb"], []])
def test_nothing_is_held_back_longer_than_it_has_to(stop):
    for letters in itertools.product("abc", repeat=6):
        text, seen = StoppedText(Cuts([c.encode() for c in letters]), stop), ""
        for i in range(6):
            seen += text.push(i)
            if text.stopped:
                break
            so_far = "".join(letters[: i + 1])
            possible = [
                n for s in stop for n in range(1, len(s)) if so_far.endswith(s[:n])
            ]  # fmt: skip
            held = len(so_far) - len(seen)
            assert held == max(possible, default=0), f"{held} letters of {so_far} held for {stop}"


def test_an_unfinished_character_is_shown_as_a_sign_at_the_end():
    parts = [b"a", "é".encode()[:1]]
    pieces, stopped = shown(parts, [])
    assert pieces == ["a", "", "\ufffd"] and not stopped
    pieces, stopped = shown([b"ab", "\U0001f600".encode()[:3]], ["bc"])
    assert "".join(pieces) == "ab\ufffd" and not stopped


def test_bytes_that_are_no_character_are_signs():
    pieces, _ = shown([b"\xff", b"a", b"\x80"], ["ab"])
    assert "".join(pieces) == "\ufffda\ufffd"


def test_after_the_stop_nothing_is_shown():
    text = StoppedText(Cuts([b"ab", b"c"]), ["b"])
    assert text.push(0) == "a" and text.stopped
    assert text.push(1) == "" and text.finish() == "", "what follows the stop string is shown"


def test_without_a_tokenizer_there_is_no_text():
    text = StoppedText(None, ["a"])
    assert text.push(3) == "" and text.finish() == "" and not text.stopped


@pytest.mark.parametrize(
    ("text", "stop", "letters"),
    [("xa", "ab", 1), ("aa", "aab", 2), ("aaa", "aab", 2), ("ab", "ab", 0), ("", "ab", 0)],
)
def test_overlap_by_hand(text, stop, letters):
    assert overlap(text, stop) == letters
