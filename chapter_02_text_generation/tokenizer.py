"""A network reads and writes integers; a tokenizer turns text into them and back. This is the shape
that every tokenizer of the book shares: `encode`, `decode`, `vocab_size`, `special_tokens`, and a
JSON file to keep a trained one in.
"""

from __future__ import annotations

import io
import json
import operator
import os
from typing import Iterable

from utils.files import atomic_write, open_regular


class Tokenizer:
    """Text to ids and back: `decode(encode(text)) == text`.

    Subclasses set `vocab_size` (ids run from 0 to vocab_size - 1) and `special_tokens` (their ids
    by name), and take what `_state()` returns as the arguments of their constructor.
    """

    vocab_size: int
    special_tokens: dict[str, int]

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        raise NotImplementedError

    def _state(self) -> dict[str, list]:
        raise NotImplementedError

    def _checked(self, ids: Iterable[int]) -> list[int]:
        """`ids` as Python integers; ValueError on the first that names no token."""
        ids = [operator.index(i) for i in ids]
        # min and max first: the search for the culprit is slow, and hardly ever needed.
        if ids and (min(ids) < 0 or max(ids) >= self.vocab_size):
            bad = next(i for i in ids if not 0 <= i < self.vocab_size)
            raise ValueError(f"decode: id {bad} is not one of the ids 0 to {self.vocab_size - 1}")
        return ids

    def save(self, path: str | os.PathLike) -> None:
        """Write the tokenizer to `path` as JSON, whole or (on an error) not at all."""
        text = json.dumps({"tokenizer": type(self).__name__, **self._state()})
        with atomic_write(path) as file:
            file.write(text.encode("ascii"))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Tokenizer:
        """Read what `save` wrote; a ValueError names the file if it holds anything else."""
        state = read_json_object(path)
        kind = state.pop("tokenizer", None)
        if kind != cls.__name__:
            raise ValueError(
                f"{path}: expected a saved {cls.__name__}, its 'tokenizer' is {kind!r}"
            )
        try:
            return cls(**state)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a valid {cls.__name__}: {error}") from None


def read_text(path: str | os.PathLike) -> str:
    """The text of a UTF-8 file; OSError if it cannot be opened, ValueError if it is not UTF-8."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (at byte {error.start})") from None


def read_json_object(path: str | os.PathLike) -> dict:
    """The JSON object in a file; ValueError if the file holds anything else."""
    text = read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value
