"""The simplest vocabulary is the alphabet of the text itself: every character that occurs gets a
number. Nothing is lost and the vocabulary is small, but sequences are long, and a character that
never occurred in training has no number at all. (Byte pair encoding mends both.)
"""

from __future__ import annotations

from typing import Iterable, Sequence

from chapter_02_text_generation.tokenizer import Tokenizer


class CharacterTokenizer(Tokenizer):
    """One id for each character: `special_tokens` first, from id 0, then `characters`.

    All are strings of one character. A special token marks something that is not part of the text,
    such as the boundary between names (makemore's is "." with id 0, A. Karpathy, 2022). It is
    encoded like any other character, so choose one that the text itself does not use.
    """

    def __init__(self, characters: Sequence[str], special_tokens: Sequence[str] = ()) -> None:
        vocabulary = [*special_tokens, *characters]
        if not vocabulary:
            raise ValueError("the vocabulary is empty: give a text with at least one character")
        for token in vocabulary:
            if not isinstance(token, str) or len(token) != 1:
                raise ValueError(f"a token is one character, not {token!r}")
        self._ids = {character: i for i, character in enumerate(vocabulary)}
        if len(self._ids) < len(vocabulary):
            repeated = next(c for i, c in enumerate(vocabulary) if self._ids[c] != i)
            raise ValueError(f"the vocabulary holds {repeated!r} more than once")
        self._characters = vocabulary
        self.vocab_size = len(vocabulary)
        self.special_tokens = {token: self._ids[token] for token in special_tokens}

    @classmethod
    def train(cls, text: str, special_tokens: Sequence[str] = ()) -> CharacterTokenizer:
        """Number the distinct characters of `text` in the order of their code points."""
        return cls(sorted(set(text).difference(special_tokens)), special_tokens)

    def encode(self, text: str) -> list[int]:
        """One id for each character of `text`; ValueError at the first that has none."""
        try:
            return [self._ids[character] for character in text]
        except KeyError as unknown:
            character = unknown.args[0]
        alphabet = "".join(self._characters)
        raise ValueError(
            f"encode: {character!r} at position {text.index(character)} is not among the "
            f"{self.vocab_size} characters of the vocabulary {alphabet!r}"
        )

    def decode(self, ids: Iterable[int]) -> str:
        """The characters of `ids`, special tokens included; ValueError for an unknown id."""
        return "".join([self._characters[i] for i in self._checked(ids)])

    def _state(self) -> dict[str, list]:
        special = list(self.special_tokens)
        return {"characters": self._characters[len(special) :], "special_tokens": special}
