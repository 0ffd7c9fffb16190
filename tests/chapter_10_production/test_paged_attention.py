"""Tokens whose keys lie in pages get the answers of chapter 7's attention to the whole text."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chapter_07_attention import ALiBi, GPTConfig, attention, causal_mask, sliding_window_mask
from chapter_07_attention.attention import join_heads, split_heads
from chapter_10_production.paged_attention import PagedBatch, Piece
from chapter_10_production.paged_cache import PagedCache
from utils import Tensor

SIZE = 5  # of a head
KINDS = {
    "plain": {},
    "grouped": {"n_kv_head": 2},
    "one for all": {"n_kv_head": 1},
    "window": {"window": 3},
    "window of one": {"window": 1},
    "alibi": {"positions": "alibi"},
    "alibi, window, grouped": {"positions": "alibi", "window": 6, "n_kv_head": 2},
}


def config_of(**kind):
    return GPTConfig(11, 48, 2, 4, 4 * SIZE, **kind)


def whole_answer(config, packed):
    """Chapter 7's attention of all of a text to itself: (T, (H + 2 K) D) to (T, H D)."""
    heads, kv_heads = config.n_head, config.n_kv_head
    q, k, v = np.split(packed, [heads * SIZE, (heads + kv_heads) * SIZE], axis=-1)
    q = split_heads(q[None], heads)
    k, v = (np.repeat(split_heads(x[None], kv_heads), heads // kv_heads, axis=1) for x in (k, v))
    count = len(packed)
    mask = causal_mask(count)
    if config.window is not None:
        mask = sliding_window_mask(config.window, count)
    if config.positions == "alibi":
        slopes = ALiBi(heads).slopes.reshape(-1, 1, 1)
        apart = np.arange(count)[:, None] - np.arange(count)
        mask = np.where(mask, -slopes * apart, -np.inf)
    return join_heads(attention(Tensor(q), Tensor(k), Tensor(v), mask)).data[0]


class Texts:
    """Texts of random queries, keys and values, with pages anywhere in a cache full of rubbish."""

    def __init__(self, config, lengths, page_size, seed=0):
        rng = np.random.default_rng(seed)
        width = (config.n_head + 2 * config.n_kv_head) * SIZE
        self.config, self.page_size = config, page_size
        self.packed = [rng.normal(size=(n, width)).astype(np.float32) for n in lengths]
        most = -(-config.block_size // page_size)
        need = [-(-n // page_size) for n in lengths]
        self.cache = PagedCache(config, 1 + sum(need), page_size)
        for layer in self.cache.layers:
            layer[...] = rng.normal(size=layer.shape) * 50  # of texts that are gone
        pages = iter(rng.permutation(np.arange(1, 1 + sum(need))).tolist())
        self.tables = [np.array([next(pages) for _ in range(n)] + [0] * (most - n)) for n in need]

    def read(self, chunks):
        """Answers to new tokens (text, start, stop), read in one step: a list of arrays."""
        pieces = [Piece([t % 11 for t in range(b)], self.tables[i], a, b) for i, a, b in chunks]
        batch = PagedBatch(self.config, self.cache, pieces)
        rows = np.empty((sum(b - a for _, a, b in chunks), self.packed[0].shape[1]), np.float32)
        stops = [batch.last[j] + 1 for j in range(len(chunks))]
        for (i, a, b), stop in zip(chunks, stops):
            rows[stop - (b - a) : stop] = self.packed[i][a:b]
            assert batch.places[stop - (b - a) : stop].tolist() == list(range(a, b))
            assert batch.ids[stop - (b - a) : stop].tolist() == [t % 11 for t in range(a, b)]
        answers = [batch(layer, rows.copy()) for layer in range(self.config.n_layer)]
        np.testing.assert_array_equal(answers[0], answers[1], "each layer has its own cache")
        return [answers[0][s - (b - a) : s] for (_, a, b), s in zip(chunks, stops)]


@pytest.mark.parametrize("page_size", [1, 3, 16, 64])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_chunks_of_any_sizes_get_what_whole_texts_get(kind, page_size):
    config, rng = config_of(**kind), np.random.default_rng(1)
    lengths = [1, 2, 7, 16, 17, 30, 48]
    texts = Texts(config, lengths, page_size)
    wanted = [whole_answer(config, packed) for packed in texts.packed]
    read = [0] * len(lengths)
    while any(r < n for r, n in zip(read, lengths)):
        open_texts = [i for i in range(len(lengths)) if read[i] < lengths[i]]
        chosen = rng.permutation(open_texts)[: rng.integers(1, len(open_texts) + 1)].tolist()
        sizes = [int(rng.choice([1, 1, 2, 5, 11])) for _ in chosen]
        chunks = [(i, read[i], min(read[i] + n, lengths[i])) for i, n in zip(chosen, sizes)]
        for (i, a, b), answer in zip(chunks, texts.read(chunks)):
            np.testing.assert_allclose(
                answer, wanted[i][a:b], rtol=1e-4, atol=1e-5,
                err_msg=f"tokens {a} to {b} of a text of {lengths[i]}, read beside {chunks}",
            )  # fmt: skip
            read[i] = b


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_texts_of_equal_new_lengths_are_answered_as_alone(kind):
    config = config_of(**kind)
    lengths = [4, 9, 20, 33]
    texts = Texts(config, lengths, 4)
    texts.read([(i, 0, n - 3) for i, n in enumerate(lengths)])
    for i, answer in enumerate(texts.read([(i, n - 3, n) for i, n in enumerate(lengths)])):
        wanted = whole_answer(config, texts.packed[i])[-3:]
        np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-5)


def test_every_cut_of_a_text_in_two_is_the_same():
    config = config_of(window=5)
    wanted = None
    for cut in range(1, 9):
        texts = Texts(config, [9], 2)
        found = np.concatenate([texts.read([(0, 0, cut)])[0], texts.read([(0, cut, 9)])[0]])
        wanted = whole_answer(config, texts.packed[0]) if wanted is None else wanted
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_stood_on_a_page_before_has_no_weight():
    """Huge numbers of a text that is gone, behind the new one's last token and on page 0."""
    config = config_of()
    texts = Texts(config, [3, 14], 8)
    for layer in texts.cache.layers:
        layer[...] = 1e30
    for i, answer in enumerate(texts.read([(0, 0, 3), (1, 0, 14)])):
        np.testing.assert_allclose(
            answer, whole_answer(config, texts.packed[i]), rtol=1e-4, atol=1e-5
        )


def test_one_new_token_looks_at_itself_and_all_before():
    config = config_of()
    texts = Texts(config, [6], 2)
    texts.read([(0, 0, 5)])
    (answer,) = texts.read([(0, 5, 6)])
    np.testing.assert_allclose(answer[0], whole_answer(config, texts.packed[0])[5], rtol=1e-4)


def test_two_texts_read_on_from_shared_pages():
    config = config_of()
    texts = Texts(config, [10, 10], 4)
    texts.packed[1][:8] = texts.packed[0][:8]
    texts.tables[1][:2] = texts.tables[0][:2]
    texts.read([(0, 0, 10)])
    (answer,) = texts.read([(1, 8, 10)])
    wanted = whole_answer(config, texts.packed[1])
    np.testing.assert_allclose(answer, wanted[8:], rtol=1e-4, atol=1e-5)
    again = texts.read([(0, 9, 10)])[0]
    wanted = whole_answer(config, texts.packed[0])
    np.testing.assert_allclose(again, wanted[9:], rtol=1e-4, atol=1e-5, err_msg="it wrote on them")


def test_last_points_at_each_pieces_last_row_in_the_order_given():
    config = config_of()
    texts = Texts(config, [5, 3, 5, 1], 4)
    for order in itertools.permutations(range(4)):
        pieces = [Piece([i] * n, texts.tables[i], 0, n) for i, n in zip(order, (5, 3, 5, 1))]
        batch = PagedBatch(config, texts.cache, pieces)
        assert [batch.ids[row] for row in batch.last] == list(order)
        assert sorted(batch.last) == sorted(set(batch.last))


def test_slots_are_the_places_of_the_cache():
    cache = PagedCache(config_of(), 4, 3)
    rows = np.arange(2 * 8 * SIZE, dtype=np.float32).reshape(2, -1)
    cache.write(1, np.array([2 * 3 + 1, 3 * 3 + 2]), rows)
    np.testing.assert_array_equal(cache.layers[1][2, 1], rows[0])
    np.testing.assert_array_equal(cache.read(1, np.array([[3, 2]]))[0][[4, 2]], rows)
    assert cache.layers[0].max() == 0 and np.count_nonzero(cache.layers[1]) == rows.size - 1
    cache.clear([2, 3])
    assert cache.layers[1].max() == 0
    assert cache.nbytes == 2 * 4 * 3 * 2 * 4 * SIZE * 4, "two layers, 4 pages, 3 tokens, 160 bytes"
