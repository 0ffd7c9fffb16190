"""Pages are held, shared, given back and found again as a plain account of them says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chapter_10_production.pages import PagePool, fingerprint


class Account:
    """What a pool is to do, kept in the plainest way: a line a page, and a list of the free."""

    def __init__(self, pages):
        self.holders = dict.fromkeys(range(1, pages), 0)
        self.contents = {}
        self.given_back = []  # of these with contents, the first is overwritten first

    def check_take(self, page):
        blank = [p for p, n in self.holders.items() if n == 0 and p not in self.contents]
        if blank:
            assert page in blank, f"page {page} was taken although {blank} hold nothing of use"
        else:
            assert page == self.given_back.pop(0), "the page given back first is to go first"
            del self.contents[page]
        assert self.holders[page] == 0, f"page {page} is held by another text"
        self.holders[page] = 1

    def give_back(self, pages):
        for page in reversed(pages):  # a text's end is of no use without its beginning
            self.holders[page] -= 1
            if self.holders[page] == 0 and page in self.contents:
                self.given_back.append(page)

    def find(self, mark):
        return next((page for page, known in self.contents.items() if known == mark), None)

    def share(self, mark):
        page = self.find(mark)
        if page is not None:
            self.holders[page] += 1
            if page in self.given_back:
                self.given_back.remove(page)
        return page

    def remember(self, page, mark):
        if self.find(mark) is None:
            self.contents[page] = mark

    def check(self, pool):
        held = sum(n > 0 for n in self.holders.values())
        assert pool.held == held, f"{held} pages are held, each counted once; not {pool.held}"
        assert pool.available == len(self.holders) - held, "what nobody holds can be taken"
        assert pool.pages == len(self.holders), "page 0 does not count"


@pytest.mark.parametrize("pages", [2, 3, 9, 40])
@pytest.mark.parametrize("seed", range(4))
def test_random_walks_agree_with_a_plain_account(pages, seed):
    rng = np.random.default_rng(seed)
    pool, account, texts = PagePool(pages, 4), Account(pages), []
    for _ in range(600):
        account.check(pool)
        move = rng.integers(5)
        if move <= 1 and pool.available:  # a text begins, or grows
            if not texts or rng.random() < 0.4:
                texts.append([])
            page = pool.take()
            account.check_take(page)
            texts[rng.integers(len(texts))].append(page)
        elif move == 2:
            mark = bytes([rng.integers(12)])
            page = pool.share(mark)
            assert page == account.share(mark), f"the page marked {mark} is another one"
            if page is not None:
                texts.append([page])
        elif move == 3 and texts:
            held = [p for text in texts for p in text if p not in account.contents]
            if held:
                page, mark = int(rng.choice(held)), bytes([rng.integers(12)])
                pool.remember(page, mark)
                account.remember(page, mark)
        elif move == 4 and texts:
            text = texts.pop(rng.integers(len(texts)))
            pool.give_back(text)
            account.give_back(text)
    for text in texts:
        pool.give_back(text)
    assert pool.held == 0 and pool.available == pages - 1, "all was given back"


def test_pages_taken_are_all_there_are_but_page_0():
    pool = PagePool(6, 4)
    assert sorted(pool.take() for _ in range(5)) == [1, 2, 3, 4, 5], "page 0 belongs to nobody"
    assert pool.available == 0 and pool.held == 5


def test_a_page_shared_by_three_is_free_when_the_third_gives_it_back():
    pool = PagePool(3, 4)
    page = pool.take()
    pool.remember(page, b"beginning")
    assert pool.share(b"beginning") == pool.share(b"beginning") == page
    for left in (1, 1, 0):
        pool.give_back([page])
        assert pool.held == left, "it is held until the third gives it back"
    assert pool.share(b"beginning") == page, "it keeps its contents until its memory is needed"


def test_the_end_of_a_text_is_overwritten_before_its_beginning():
    pool = PagePool(4, 4)
    text = [pool.take() for _ in range(3)]
    for i, page in enumerate(text):
        pool.remember(page, bytes([i]))
    pool.give_back(text)
    assert pool.take() == text[2], "the last page can be shared by fewest texts"
    assert [pool.share(bytes([i])) for i in range(3)] == [text[0], text[1], None]


def test_a_page_found_again_is_not_the_next_to_go():
    pool = PagePool(4, 4)
    text = [pool.take() for _ in range(3)]
    for i, page in enumerate(text):
        pool.remember(page, bytes([i]))
        pool.give_back([page])
    pool.give_back([pool.share(bytes([0]))])
    assert [pool.take() for _ in range(3)] == [text[1], text[2], text[0]]


def test_what_is_forgotten_is_not_found():
    pool = PagePool(3, 4)
    page = pool.take()
    pool.remember(page, b"spoilt")
    pool.forget(page)
    assert pool.share(b"spoilt") is None
    pool.forget(page)
    pool.give_back([page])
    assert pool.held == 0 and pool.available == 2


def test_the_second_page_with_the_same_contents_is_not_another_answer():
    pool = PagePool(4, 4)
    first, second = pool.take(), pool.take()
    pool.remember(first, b"same")
    pool.remember(second, b"same")
    pool.give_back([second])
    assert pool.share(b"same") == first
    pool.give_back([first])
    pool.give_back([first])
    assert sorted(pool.take() for _ in range(3)) == [1, 2, 3], "each page is taken once"


def chain(tokens, page_size):
    """The fingerprints of the full pages of a text."""
    marks, before = [], b""
    for end in range(page_size, len(tokens) + 1, page_size):
        before = fingerprint(before, tokens[end - page_size : end])
        marks.append(before)
    return marks


def test_fingerprints_are_equal_only_for_equal_texts_up_to_the_end_of_the_page():
    seen = {}
    for length in (2, 4, 6, 8):
        for tokens in itertools.product((0, 1, 2), repeat=length):
            mark = chain(tokens, 2)[-1]
            assert seen.setdefault(mark, tokens) == tokens, (
                f"{tokens} and {seen[mark]} have the same fingerprint, so one would continue "
                "from the other's keys and values"
            )
    assert len(seen) == 9 + 81 + 729 + 6561


def test_the_same_tokens_at_another_place_or_after_others_are_another_page():
    tokens = [5, 6, 7, 8]
    assert len(set(chain(tokens * 3, 4))) == 3
    assert chain([1, 2, 3, 4, *tokens], 4)[1] != chain([4, 3, 2, 1, *tokens], 4)[1]


@pytest.mark.parametrize(
    ("one", "other"), [([1, 11], [11, 1]), ([1, 256], [256, 1]), ([0, 0], [0]), ([65536], [1, 0])]
)
def test_tokens_are_told_apart_wherever_they_are_cut(one, other):
    assert fingerprint(b"", one) != fingerprint(b"", other)


def test_the_kind_of_whole_number_does_not_matter():
    assert fingerprint(b"", [1, 2]) == fingerprint(b"", np.array([1, 2]).tolist())
    assert fingerprint(b"", [1, 2]) == fingerprint(b"", (1, 2))
