"""Batches: every row once an epoch, rows kept together, and a walk that can be taken up again."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from chapter_03_neural_nets import Batches
from utils import manual_seed


def rows(batches, count=None):
    """The first column of the next batches: of an epoch if no count is given."""
    taken = itertools.islice(batches, len(batches) if count is None else count)
    return [batch[0].tolist() for batch in taken]


def flat(lists):
    return [x for row in lists for x in row]


@pytest.mark.parametrize("size", [1, 3, 4, 10, 11])
def test_every_row_comes_once_an_epoch(size):
    batches = Batches(np.arange(10), batch_size=size)
    orders = []
    for epoch in range(3):
        epoch_rows = rows(batches)
        assert batches.epoch == epoch
        assert sorted(flat(epoch_rows)) == list(range(10))
        assert [len(batch) for batch in epoch_rows[:-1]] == [size] * (len(batches) - 1)
        orders.append(flat(epoch_rows))
    assert len({tuple(order) for order in orders}) == 3, "each epoch has a new order"


@pytest.mark.parametrize("n, size, whole, all_of_them", [(10, 3, 3, 4), (9, 3, 3, 3), (3, 3, 1, 1)])
def test_the_number_of_batches(n, size, whole, all_of_them):
    assert len(Batches(np.arange(n), batch_size=size)) == all_of_them
    batches = Batches(np.arange(n), batch_size=size, drop_last=True)
    assert len(batches) == whole
    assert all(len(batch) == size for batch in rows(batches, 3 * whole))


def test_rows_of_all_arrays_stay_together():
    x = np.arange(14).reshape(7, 2)
    for a, b, c in itertools.islice(Batches(x, x[:, 0] * 10, x * 1.5, batch_size=3), 9):
        np.testing.assert_array_equal(b, a[:, 0] * 10)
        np.testing.assert_array_equal(c, a * 1.5)
        assert b.dtype == x.dtype and c.dtype == np.float64


def test_without_shuffling_the_order_is_that_of_the_data():
    batches = Batches(np.arange(5), batch_size=2, shuffle=False)
    assert rows(batches) == rows(batches) == [[0, 1], [2, 3], [4]]


def test_a_batch_is_the_readers_own():
    data = np.arange(4)
    (batch,) = next(Batches(data, batch_size=4, shuffle=False))
    batch += 100
    assert data.tolist() == [0, 1, 2, 3], "changing a batch must not change the data"


def test_orders_are_drawn_evenly():
    batches = Batches(np.arange(4), batch_size=4, rng=np.random.default_rng(0))
    orders = np.array(rows(batches, 4000))
    places = np.array([np.mean(orders == i, axis=0) for i in range(4)])
    np.testing.assert_allclose(places, 0.25, atol=0.03)


def test_the_same_seed_gives_the_same_walk():
    make = lambda seed: Batches(np.arange(9), batch_size=2, rng=np.random.default_rng(seed))
    assert rows(make(1), 20) == rows(make(1), 20) != rows(make(2), 20)
    walks = []
    for _ in range(2):
        manual_seed(6)
        walks.append(rows(Batches(np.arange(9), batch_size=2), 20))
    assert walks[0] == walks[1]


@pytest.mark.parametrize("taken", [0, 1, 3, 5, 6, 13])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_walk_is_taken_up_where_it_was_left(taken, shuffle):
    make = lambda seed: Batches(
        np.arange(10), batch_size=2, shuffle=shuffle, rng=np.random.default_rng(seed)
    )
    batches, other = make(1), make(2)
    rows(batches, taken)
    rows(other, 3)
    state = json.loads(json.dumps(batches.state_dict()))
    generator = batches.rng.bit_generator.state
    expected = rows(batches, 12)
    other.load_state_dict(state)
    other.rng.bit_generator.state = generator
    assert rows(other, 12) == expected
    assert other.state_dict() == batches.state_dict()


def test_the_rest_of_an_epoch_needs_no_generator():
    batches, other = (Batches(np.arange(10), batch_size=2) for _ in range(2))
    rows(batches, 2)
    other.load_state_dict(batches.state_dict())
    assert rows(other, 3) == rows(batches, 3)


@pytest.mark.parametrize(
    "arrays, options, message",
    [
        ([], {}, "no arrays"),
        ([np.zeros((0, 3))], {}, r"at least 1, not \(0, 3\)"),
        ([np.zeros(3), np.zeros((4, 2))], {}, r"\(3,\) and \(4, 2\)"),
        ([np.zeros(3)], {"batch_size": 0}, "no batch of 0"),
        ([np.zeros(3)], {"batch_size": -2}, "no batch of -2"),
        ([np.zeros(3)], {"batch_size": float("nan")}, "no batch of nan"),
        ([np.zeros(3)], {"batch_size": 4, "drop_last": True}, "no batch of 4 .* 3 rows"),
    ],
)
def test_what_makes_no_batches_is_shown(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        Batches(*arrays, **options)


X, Y = np.arange(5000.0), np.arange(5000)


@pytest.mark.parametrize(
    "arrays", [(X[::-1], Y), (X + (Y % 5 == 0), Y), (X.astype("f4"), Y), (X, Y + 1), (X,)]
)
def test_other_data_of_the_same_length_is_known(arrays):
    """The place is one in an order of certain rows: among others it means nothing."""
    batches, others = Batches(X, Y), Batches(*arrays)
    rows(batches, 3)
    before = others.state_dict()
    with pytest.raises(ValueError, match="place in other data"):
        others.load_state_dict(batches.state_dict())
    assert others.state_dict() == before
    Batches(X.copy(), Y.copy()).load_state_dict(batches.state_dict())


def test_a_place_in_other_data_is_refused():
    batches, shorter = Batches(np.arange(100), batch_size=2), Batches(np.arange(10), batch_size=2)
    rows(batches, 20)
    before = shorter.state_dict()
    with pytest.raises(ValueError, match="5 batches: none at 20"):
        shorter.load_state_dict(batches.state_dict())
    assert shorter.state_dict() == before
