"""Masks: True where a query may look; also where queries are the last of more keys."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_07_attention import causal_mask, padding_mask, sliding_window_mask

EXPECTED_CAUSAL = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
EXPECTED_WINDOW = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_masks_by_hand():
    assert causal_mask(4).dtype == bool
    assert causal_mask(4).astype(int).tolist() == EXPECTED_CAUSAL
    assert sliding_window_mask(2, 4).astype(int).tolist() == EXPECTED_WINDOW
    found = padding_mask([1, 3])
    assert found.shape == (2, 1, 1, 3), "it broadcasts over heads and queries"
    assert found[:, 0, 0].astype(int).tolist() == [[1, 0, 0], [1, 1, 1]]
    assert padding_mask(np.array([0, 2]), 4)[:, 0, 0].sum(axis=-1).tolist() == [0, 2]


@pytest.mark.parametrize("queries", [0, 1, 3, 5])
def test_queries_are_the_last_of_the_keys(queries):
    """What a cache needs: a token written last sees all before it, not only the first."""
    np.testing.assert_array_equal(causal_mask(queries, 5), causal_mask(5)[5 - queries :])
    window = sliding_window_mask(2, 5)[5 - queries :]
    np.testing.assert_array_equal(sliding_window_mask(2, queries, 5), window)


@pytest.mark.parametrize("window", [1, 2, 3, 7, 100])
def test_a_window_is_so_many_places_its_own_counted(window):
    mask = sliding_window_mask(window, 7)
    assert mask.sum(axis=1).tolist() == [min(i + 1, window) for i in range(7)]
    assert mask.diagonal().all(), "each place sees itself"
    assert (mask <= causal_mask(7)).all(), "and nobody the future"


def test_masks_combine_by_and():
    both = causal_mask(3) & padding_mask([2, 3])
    assert both.shape == (2, 1, 3, 3)
    assert both[0, 0].astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert both[1, 0].astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("window", [0, -1, math.nan])
def test_windows_that_see_nothing(window):
    with pytest.raises(ValueError, match=f"window .*{window}"):
        sliding_window_mask(window, 4)


@pytest.mark.parametrize("lengths", [[5], [-1, 2], [1.5], [[1, 2]], 3, [True]], ids=str)
def test_lengths_that_are_none(lengths):
    with pytest.raises(ValueError, match="lengths are whole numbers"):
        padding_mask(lengths, 4)


def test_fewer_keys_than_queries():
    for make in (causal_mask, lambda *sizes: sliding_window_mask(2, *sizes)):
        with pytest.raises(ValueError, match="3 queries .* only 2"):
            make(3, 2)
