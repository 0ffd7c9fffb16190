"""Writing, token by token, as it comes."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

from chapter_02_text_generation import Tokenizer, next_token
from chapter_07_attention.gpt import GPT

UNFINISHED = "\ufffd"  # how bytes that are not yet a character are decoded


def stream(
    model: GPT, ids: Sequence[int], max_tokens: int, end: int | None = None, **how: Any
) -> Iterator[int]:
    """The tokens that continue `ids`, one at a time, up to `end` or so many.

    `how` goes to `next_token`: temperature, top_k, top_p, min_p, rng. The model sees the last
    `block_size` tokens; ValueError where `ids` alone are more, or none.
    """
    ids = list(ids)
    longest = model.config.block_size
    if not 1 <= len(ids) <= longest:
        raise ValueError(f"a prompt has 1 to {longest} tokens, the model's context; not {len(ids)}")
    for _ in range(max_tokens):
        token = next_token(model.next_logits(ids), **how)
        if token == end:
            return
        ids.append(token)
        yield token


class TextPieces:
    """The text of tokens as far as it is certain: a character of several bytes comes whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.held: list[int] = []
        self.shown = 0  # characters of those held

    def push(self, token: int) -> str:
        """What has become certain with one more token; often nothing, or several characters."""
        self.held.append(token)
        text = self.tokenizer.decode(self.held)
        # Of all signs for bytes that are no character, only the last can still become one.
        certain = len(text) - text.endswith(UNFINISHED)
        piece = text[self.shown : certain]
        # It has at most three bytes so far, which lie in the last three tokens.
        self.held = self.held[-3:] if certain < len(text) else []
        self.shown = max(len(self.tokenizer.decode(self.held)) - 1, 0)
        return piece

    def finish(self) -> str:
        """A sign for the bytes that no longer become a character, if there are some."""
        return UNFINISHED if self.held else ""


def pieces(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """The text of tokens, piece by piece, as soon as it is certain."""
    text = TextPieces(tokenizer)
    yield from filter(None, map(text.push, tokens))
    yield from filter(None, [text.finish()])
