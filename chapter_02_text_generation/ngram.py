"""An n-gram model predicts the next token from the n - 1 tokens before it by counting: how often
did this token follow this context in the training text? How counts become probabilities, above all
of what was never seen, is left to a smoothing (see `smoothing.py`).
"""

from __future__ import annotations

from typing import Iterable, Sequence

import numpy as np


class NGram:
    """The probability of each token given the `order - 1` before it, from the counts of a text.

    A document is a sequence of ids below `vocab_size`. It is framed by the id `boundary`: order - 1
    of them in front, so that its first token has a context too, and one behind, which is predicted
    like any token: the model learns where documents end. `smoothing` is an `AddK` or a `KneserNey`.
    Source: Markov, 1913; Shannon, "A Mathematical Theory of Communication", 1948.
    """

    def __init__(
        self, order: int, vocab_size: int, smoothing: Smoothing, boundary: int = 0
    ) -> None:
        if not order >= 1:
            raise ValueError(f"order is the length of an n-gram, at least 1, not {order}")
        if not 0 <= boundary < vocab_size:
            raise ValueError(f"boundary is {boundary}, not one of the ids 0 to {vocab_size - 1}")
        if vocab_size**order > np.iinfo(np.int64).max:
            raise ValueError(
                f"{vocab_size}**{order} different n-grams are more than 64 bits can number: "
                "take a lower order or a smaller vocabulary"
            )
        self.order, self.vocab_size, self.boundary = order, vocab_size, boundary
        self.smoothing = smoothing
        self._tables: list[Counts] | None = None

    def fit(self, documents: Iterable[Sequence[int]]) -> NGram:
        """Count the n-grams of `documents`, in place of what was counted before; returns itself."""
        grams, counts = np.unique(self._grams(documents), return_counts=True)
        longest = Counts(grams, counts, self.vocab_size)
        self._tables = self.smoothing.tables(longest, self.order)
        return self

    @property
    def size(self) -> int:
        """How many counts it keeps, of n-grams of all lengths that the smoothing needs."""
        return sum(len(table.grams) for table in self._tables or ())

    def probabilities(self, context: Sequence[int]) -> np.ndarray:
        """The probability of every token after `context`, the document so far: (vocab_size,).

        Only the last order - 1 ids count; a shorter context stands at the start of the document.
        """
        framed = [self.boundary] * (self.order - 1) + list(context)
        context_code = 0
        for token in self._checked(framed[len(framed) - self.order + 1 :]):
            context_code = context_code * self.vocab_size + token
        return self._probability(np.asarray(context_code), np.arange(self.vocab_size))

    def next_logits(self, context: Sequence[int]) -> np.ndarray:
        """The logarithms of `probabilities(context)`, which is what sampling asks of a model."""
        with np.errstate(divide="ignore"):
            return np.log(self.probabilities(context))

    def mean_nll(self, documents: Iterable[Sequence[int]]) -> float:
        """The mean of -log p over all tokens and closing boundaries, in nats per token.

        It is infinite if the model holds a token that occurs for impossible.
        """
        grams = self._grams(documents)
        p = self._probability(grams // self.vocab_size, grams % self.vocab_size)
        with np.errstate(divide="ignore"):
            return float(-np.log(p).mean())

    def _probability(self, context: np.ndarray, token: np.ndarray) -> np.ndarray:
        if self._tables is None:
            raise ValueError("this n-gram model has counted nothing yet: call fit(documents) first")
        return self.smoothing.probability(self._tables, context, token)

    def _grams(self, documents: Iterable[Sequence[int]]) -> np.ndarray:
        """Every token with the context before it as one integer (see `Counts`): (tokens,)."""
        front = [self.boundary] * (self.order - 1)
        stream: list[int] = []
        ends_gram: list[bool] = []
        for document in documents:
            if not hasattr(document, "__len__"):
                raise ValueError(
                    f"a document is a sequence of ids, not {document!r}: "
                    "put a single document into a list, [document]"
                )
            stream.extend([*front, *document, self.boundary])
            ends_gram.extend([False] * len(front) + [True] * (len(document) + 1))
        if not stream:
            raise ValueError("there are no documents to count")
        ids = self._checked(stream)
        grams = np.zeros(len(ids) - self.order + 1, dtype=np.int64)
        for i in range(self.order):
            grams = grams * self.vocab_size + ids[i : i + len(grams)]
        return grams[ends_gram[self.order - 1 :]]

    def _checked(self, ids: Sequence[int]) -> np.ndarray:
        ids = np.asarray(ids, dtype=np.int64 if not len(ids) else None)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError("a document is a sequence of integer ids: encode the text first")
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            bad = ids[(ids < 0) | (ids >= self.vocab_size)][0]
            raise ValueError(f"id {bad} is not one of the ids 0 to {self.vocab_size - 1}")
        return ids.astype(np.int64)


class Counts:
    """How often each n-gram of one length occurs, and what follows from that for its context.

    An n-gram is kept as one integer, its ids read as the digits of a number in base `vocab_size`,
    so its context is `gram // vocab_size`. `grams` is sorted, without repeats, for binary search.
    """

    def __init__(self, grams: np.ndarray, counts: np.ndarray, vocab_size: int) -> None:
        self.grams, self.counts, self.vocab_size = grams, counts, vocab_size
        self.contexts, first = np.unique(grams // vocab_size, return_index=True)
        self._totals = np.add.reduceat(counts, first)
        self._followers = np.diff(np.append(first, len(grams)))
        self.once, self.twice = np.sum(counts == 1), np.sum(counts == 2)

    def count(self, context: np.ndarray, token: np.ndarray) -> np.ndarray:
        """How often `token` followed `context`."""
        return _look_up(context * self.vocab_size + token, self.grams, self.counts)

    def total(self, context: np.ndarray) -> np.ndarray:
        """How often `context` was followed by anything."""
        return _look_up(context, self.contexts, self._totals)

    def followers(self, context: np.ndarray) -> np.ndarray:
        """How many different tokens followed `context`."""
        return _look_up(context, self.contexts, self._followers)


def _look_up(keys: np.ndarray, table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value beside each key in the sorted `table`, 0 for a key that is not there."""
    place = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return np.where(table[place] == keys, values[place], 0)


class Smoothing:
    """What turns counts into probabilities: `AddK` or `KneserNey`."""

    def tables(self, longest: Counts, order: int) -> list[Counts]:
        """All the counts that `probability` needs, from those of the n-grams of `order` tokens."""
        raise NotImplementedError

    def probability(
        self, tables: list[Counts], context: np.ndarray, token: np.ndarray
    ) -> np.ndarray:
        """p(token | context) for arrays that broadcast; a context is one integer (see `Counts`)."""
        raise NotImplementedError
