"""Who holds which page, and which pages hold what another text begins with as well.

Two texts with the same beginning have the same keys and values there, as no token looks ahead. A
full page never changes, so it can be shared: it is found by a fingerprint of all tokens up to its
end. A page that nobody holds any more keeps its contents, and may be found again, until its memory
is needed; those that were given back first go first.
"""

from __future__ import annotations

import hashlib
from typing import Iterable, Sequence

import numpy as np


class PagePool:
    """Pages 1 to `pages` - 1, each held by nobody, by one text, or by several that share it.

    Source: Kwon et al., 2023, arXiv:2309.06180 (section 4.4 on sharing).
    """

    def __init__(self, pages: int, page_size: int) -> None:
        self.page_size = page_size
        self.pages = pages - 1
        self.blank = list(range(pages - 1, 0, -1))
        self.known: dict[int, None] = {}  # held by nobody, but with contents; oldest first
        self.holders = [0] * pages
        self.page_of: dict[bytes, int] = {}
        self.fingerprint_of: dict[int, bytes] = {}

    @property
    def available(self) -> int:
        """How many can be taken."""
        return len(self.blank) + len(self.known)

    @property
    def held(self) -> int:
        return self.pages - self.available

    def take(self) -> int:
        """A page to write on; the caller has seen that one is available."""
        if self.blank:
            page = self.blank.pop()
        else:
            page = next(iter(self.known))
            self.forget(page)
        self.holders[page] = 1
        return page

    def forget(self, page: int) -> None:
        """What is on a page is not to be found any more."""
        self.known.pop(page, None)
        if page in self.fingerprint_of:
            del self.page_of[self.fingerprint_of.pop(page)]

    def give_back(self, pages: Sequence[int]) -> None:
        """Hold these, the pages of a text in order, no longer.

        Those that nobody holds any more are known if they have a fingerprint, else blank; from the
        last page to the first.
        """
        # The end of a text first: its beginning is more likely to be asked for again.
        for page in reversed(pages):
            self.holders[page] -= 1
            if self.holders[page] == 0:
                if page in self.fingerprint_of:
                    self.known[page] = None
                else:
                    self.blank.append(page)

    def share(self, fingerprint: bytes) -> int | None:
        """The page with this beginning of a text, held once more; None if there is none."""
        page = self.page_of.get(fingerprint)
        if page is not None:
            self.known.pop(page, None)
            self.holders[page] += 1
        return page

    def remember(self, page: int, fingerprint: bytes) -> None:
        """The page is full now, and may be shared."""
        if fingerprint not in self.page_of:
            self.page_of[fingerprint] = page
            self.fingerprint_of[page] = fingerprint


def fingerprint(before: bytes, tokens: Iterable[int]) -> bytes:
    """Of a page, given that of the one before it: equal only for equal texts up to its end."""
    return hashlib.blake2b(before + np.array(tokens, "<i8").tobytes(), digest_size=16).digest()
