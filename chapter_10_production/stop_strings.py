"""Text as it becomes certain, up to the first of the strings that end it.

A stop string may come in several tokens, and its first letters may turn out to be no part of one.
So whatever could still become one is held back, and shown when it cannot.
"""

from __future__ import annotations

from typing import Sequence

from chapter_02_text_generation import Tokenizer
from chapter_07_attention import TextPieces


class StoppedText:
    """The text of tokens that come one by one; `stopped` once it has met a stop string."""

    def __init__(self, tokenizer: Tokenizer | None, stop: Sequence[str] = ()) -> None:
        self.pieces = None if tokenizer is None else TextPieces(tokenizer)
        self.stop, self.held, self.stopped = tuple(stop), "", False

    def push(self, token: int) -> str:
        """The text that can be shown after one more token."""
        return "" if self.pieces is None else self.show(self.pieces.push(token))

    def finish(self) -> str:
        """What was held back, now that no more tokens come."""
        if self.pieces is None or self.stopped:
            return ""
        text = self.show(self.pieces.finish())
        rest, self.held = "" if self.stopped else self.held, ""
        return text + rest

    def show(self, piece: str) -> str:
        """What is certain of the held text with this piece behind it; the rest is held.

        Up to the stop string that is complete first, the longest of those that end together; else
        all but the longest end that could still become one.
        """
        self.held += piece
        found = [(self.held.find(s), len(s)) for s in self.stop if s in self.held]
        if found:
            self.stopped = True
            # The one that is complete first, in however many tokens it came.
            end = min((place + length, place) for place, length in found)[1]
        else:
            end = len(self.held) - max([overlap(self.held, s) for s in self.stop], default=0)
        text, self.held = self.held[:end], self.held[end:]
        return text


def overlap(text: str, stop: str) -> int:
    """How many letters at the end of the text could be the beginning of a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
