"""Counting alone says that what was not seen cannot happen, and a longer text always holds
something new. Smoothing moves some probability from what was seen to what was not: evenly (add-k),
or as a shorter context suggests (Kneser-Ney).
"""

from __future__ import annotations

import numpy as np

from chapter_02_text_generation.ngram import Counts, Smoothing


class AddK(Smoothing):
    """Add-k smoothing: every n-gram counts as if it had been seen `k` times more than it was.

    p(w | context) = (count(context, w) + k) / (total(context) + k V)

    k = 1 is Laplace's rule, k = 0 no smoothing: what was not seen has probability 0. A context
    never seen says nothing, so that without smoothing all V tokens are equally likely after it.
    Source: Chen & Goodman, 1999, doi:10.1006/csla.1999.0128, section 2.1.
    """

    def __init__(self, k: float = 1.0) -> None:
        if not 0 <= k < np.inf:
            raise ValueError(f"k is a number of counts to add, 0 or more, not {k}")
        self.k = k

    def tables(self, longest: Counts, order: int) -> list[Counts]:
        """The counts of the longest n-grams alone: add-k asks no shorter context."""
        return [longest]

    def probability(
        self, tables: list[Counts], context: np.ndarray, token: np.ndarray
    ) -> np.ndarray:
        table = tables[0]
        total = table.total(context) + self.k * table.vocab_size
        share = (table.count(context, token) + self.k) / np.where(total > 0, total, 1)
        return np.where(total > 0, share, 1 / table.vocab_size)


class KneserNey(Smoothing):
    """Interpolated Kneser-Ney smoothing: what a count loses, a shorter context gives out again.

    p_n(w | context) = max(count(context, w) - D, 0) / total(context)
                       + D followers(context) / total(context) * p_{n-1}(w | shorter context)

    and so on down to p_0 = 1 / V; after a context never seen, p_n is p_{n-1}. Shorter contexts are
    there for new combinations, so they count not how often an n-gram occurs but how many different
    tokens stand in front of it: "Francisco" may be frequent, yet it follows only "San". The
    discount D of each length is n1 / (n1 + 2 n2), where n1 and n2 n-grams have the counts 1 and 2
    (1/2 if there are none), unless `discount` gives it.
    Source: Kneser & Ney, 1995, doi:10.1109/ICASSP.1995.479394; interpolated and with this D in
    Chen & Goodman, 1999, doi:10.1006/csla.1999.0128.
    """

    def __init__(self, discount: float | None = None) -> None:
        if discount is not None and not 0 < discount < 1:
            raise ValueError(f"discount is a part of one count, between 0 and 1, not {discount}")
        self.discount = discount

    def tables(self, longest: Counts, order: int) -> list[Counts]:
        """The counts behind p_1, p_2, ..., p_order: of different tokens in front, save the last."""
        vocab_size, grams = longest.vocab_size, longest.grams
        tables = [longest]
        for length in range(order - 1, 0, -1):
            # The remainder drops the first token; what differed in it alone is now the same n-gram.
            grams, fronts = np.unique(grams % vocab_size**length, return_counts=True)
            tables.append(Counts(grams, fronts, vocab_size))
        return tables[::-1]

    def probability(
        self, tables: list[Counts], context: np.ndarray, token: np.ndarray
    ) -> np.ndarray:
        p = np.full(np.broadcast(context, token).shape, 1 / tables[0].vocab_size)
        for length, table in enumerate(tables):
            shorter = context % table.vocab_size**length
            discount = self._discount(table)
            total = table.total(shorter)
            kept = np.maximum(table.count(shorter, token) - discount, 0)
            given_out = discount * table.followers(shorter)
            p = np.where(total > 0, (kept + given_out * p) / np.maximum(total, 1), p)
        return p

    def _discount(self, table: Counts) -> float:
        if self.discount is not None:
            return self.discount
        if table.once == 0 or table.twice == 0:
            return 0.5
        return table.once / (table.once + 2 * table.twice)
