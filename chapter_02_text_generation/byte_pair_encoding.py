"""Byte pair encoding builds a vocabulary from the text: start from the 256 bytes, so that any text
can be written, then again and again give the pair of tokens that stands side by side most often a
token of its own. Common words end up as one token, rare ones as a few pieces, and nothing is ever
unknown. Encoding a new text replays the merges in the order in which they were learnt.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from typing import Iterable, Sequence

from chapter_02_text_generation.byte_pair_training import NOTHING, Pair, learn_merges
from chapter_02_text_generation.gpt2_files import read_gpt2_files
from chapter_02_text_generation.pretokenizer import split_words
from chapter_02_text_generation.tokenizer import Tokenizer

# The cache of encoded words is emptied at this many words; longer words than this are not kept.
CACHED_WORDS = 2**16
CACHED_WORD_LENGTH = 64


class BPETokenizer(Tokenizer):
    """Byte-level byte pair encoding: ids 0 to 255 are bytes, 256 + i is what merge i joins.

    `merges` are pairs of ids, each older than the token they make; `byte_order[i]` is the byte that
    id i stands for (by default i itself); the `special_tokens` take the ids after the last merge.
    `tokenizer.merges` gives, in order, each pair and the id it becomes.
    Source: Gage, "A New Algorithm for Data Compression", 1994; Sennrich et al., arXiv:1508.07909;
    on bytes: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """

    def __init__(
        self,
        merges: Sequence[Pair],
        byte_order: Sequence[int] | None = None,
        special_tokens: Sequence[str] = (),
    ) -> None:
        byte_order = list(range(256)) if byte_order is None else list(byte_order)
        if sorted(byte_order) != list(range(256)):
            raise ValueError("byte_order must hold each of the bytes 0 to 255 once")
        tokens = [bytes([byte]) for byte in byte_order]
        self.merges: dict[Pair, int] = {}
        for i, pair in enumerate(merges):
            left, right = pair
            if not all(isinstance(part, int) and 0 <= part < len(tokens) for part in pair):
                raise ValueError(
                    f"merge {i} joins ids {left!r} and {right!r}, not two below {256 + i}"
                )
            if (left, right) in self.merges:
                raise ValueError(f"merge {i} joins ids {left} and {right} a second time")
            self.merges[left, right] = len(tokens)
            tokens.append(tokens[left] + tokens[right])
        _check_special_tokens(special_tokens)
        self.special_tokens = {token: len(tokens) + i for i, token in enumerate(special_tokens)}
        self._tokens = tokens + [token.encode("utf-8") for token in special_tokens]
        self.vocab_size = len(self._tokens)
        self._byte_ids = [byte_order.index(byte) for byte in range(256)]
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(cls, text: str, vocab_size: int, special_tokens: Sequence[str] = ()) -> BPETokenizer:
        """Learn merges from `text` until there are `vocab_size` tokens, or no pair is left.

        Each step merges the most frequent pair of neighbours within words; among equally frequent
        ones the pair with the smallest ids, so the result depends on the text alone. Text that
        reads like a special token separates documents: it is not learnt from.
        """
        _check_special_tokens(special_tokens)
        smallest = 256 + len(special_tokens)
        if not vocab_size >= smallest:
            raise ValueError(
                f"vocab_size is {vocab_size}, the bytes and special tokens need {smallest}"
            )
        _check_surrogates(text)
        documents = _split_at(special_tokens, text)[::2]
        frequencies = Counter(word for document in documents for word in split_words(document))
        merges = learn_merges(
            {word.encode("utf-8"): n for word, n in frequencies.items()}, vocab_size - smallest
        )
        return cls(merges, special_tokens=special_tokens)

    @classmethod
    def from_gpt2(cls, folder: str | os.PathLike) -> BPETokenizer:
        """GPT-2's own tokenizer, from the files `encoder.json` and `vocab.bpe` in `folder`.

        Raises OSError for a missing file, and ValueError, with file and line, for a damaged one.
        """
        return cls(*read_gpt2_files(folder))

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`; ValueError if it holds a lone surrogate, which has no UTF-8 form.

        What reads like a special token is ordinary text unless `allow_special` is true: leave it
        false for text from others, who could otherwise end the document in the middle of it.
        """
        _check_surrogates(text)
        if not allow_special:
            return self._encode_ordinary(text)
        ids = []
        for i, part in enumerate(_split_at(list(self.special_tokens), text)):
            ids += [self.special_tokens[part]] if i % 2 else self._encode_ordinary(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD; ValueError for an unknown id.

        A token may hold part of a character: decode all ids of a text at once.
        """
        joined = b"".join([self._tokens[i] for i in self._checked(ids)])
        return joined.decode("utf-8", errors="replace")

    def _state(self) -> dict[str, list]:
        return {
            "merges": list(self.merges),
            "byte_order": [token[0] for token in self._tokens[:256]],
            "special_tokens": list(self.special_tokens),
        }

    def _encode_ordinary(self, text: str) -> list[int]:
        ids = []
        for word in split_words(text):
            word_ids = self._cache.get(word)
            if word_ids is None:
                word_ids = self._encode_word(word.encode("utf-8"))
                if len(word) <= CACHED_WORD_LENGTH:
                    if len(self._cache) >= CACHED_WORDS:
                        self._cache.clear()
                    self._cache[word] = word_ids
            ids += word_ids
        return ids

    def _encode_word(self, word: bytes) -> list[int]:
        """Merge the pair learnt earliest, leftmost first, until no pair is left to merge.

        The tokens stay in place in a doubly linked list and the pairs wait in a heap, so that a
        word of n bytes takes O(n log n) even where there are no spaces to end it.
        """
        n = len(word)
        # The NOTHING at the end is the neighbour of both ends, as index -1 is the last one.
        ids = [*(self._byte_ids[byte] for byte in word), NOTHING]
        before = list(range(-1, n))
        after = [*range(1, n + 1), n]
        heap: list[Pair] = []

        def offer(left: int) -> None:
            merged = self.merges.get((ids[left], ids[after[left]]))
            if merged is not None:
                heapq.heappush(heap, (merged, left))

        for left in range(n):
            offer(left)
        while heap:
            merged, left = heapq.heappop(heap)
            right = after[left]
            # Either half may have gone into another merge while the pair was waiting.
            if self.merges.get((ids[left], ids[right])) != merged:
                continue
            ids[left], ids[right] = merged, NOTHING
            after[left] = after[right]
            before[after[left]] = left
            offer(before[left])
            offer(left)
        return [i for i in ids if i != NOTHING]


def _split_at(separators: Sequence[str], text: str) -> list[str]:
    """`text` cut at every separator: stretches of text at even indexes, separators at odd ones."""
    if not separators:
        return [text]
    longest_first = sorted(separators, key=len, reverse=True)
    return re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)


def _check_special_tokens(special_tokens: Sequence[str]) -> None:
    if isinstance(special_tokens, str):
        raise ValueError(
            f"special_tokens is a list of strings, not the one string {special_tokens!r}"
        )
    if not all(isinstance(token, str) and token for token in special_tokens):
        raise ValueError(f"special tokens are strings, none of them empty, not {special_tokens!r}")
    if len(set(special_tokens)) < len(special_tokens):
        raise ValueError(f"special tokens must differ, these do not: {special_tokens!r}")


def _check_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{text[error.start]!r} at position {error.start} is a lone surrogate, half a "
            "character with no UTF-8 form: repair the text where it was decoded"
        ) from None
