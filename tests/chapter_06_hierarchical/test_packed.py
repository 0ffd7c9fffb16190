"""Packed sequences: by hand, with gradients, and what cannot be packed."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_06_hierarchical import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)
from utils import Tensor, check_gradients

IDS = [np.array([1, 2]), np.array([3, 4, 5, 6]), np.array([7])]


def test_packing_by_hand():
    packed = pack_sequence(IDS, enforce_sorted=False)
    assert packed.data.tolist() == [3, 1, 7, 4, 2, 5, 6], "step by step, the longest first"
    assert packed.batch_sizes.tolist() == [3, 2, 1, 1]
    assert packed.sorted_indices.tolist() == packed.order.tolist() == [1, 0, 2]
    assert packed.lengths.tolist() == [4, 2, 1]
    steps, sequences = packed.steps_and_sequences
    assert steps.tolist() == [0, 0, 0, 1, 1, 2, 3] and sequences.tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert packed.place(steps, sequences).tolist() == list(range(7))


def test_sorted_sequences_need_no_order():
    packed = pack_sequence([IDS[1], IDS[0], IDS[2]])
    assert packed.sorted_indices is None and packed.order.tolist() == [0, 1, 2]
    assert packed.data.tolist() == [3, 1, 7, 4, 2, 5, 6]


def test_of_equal_lengths_the_first_stays_first():
    packed = pack_sequence([IDS[2], IDS[0], IDS[0] + 10], enforce_sorted=False)
    assert packed.order.tolist() == [1, 2, 0] and packed.data.tolist() == [1, 11, 7, 2, 12]


@pytest.mark.parametrize("first", [False, True])
def test_whole_numbers_there_and_back(first):
    packed = pack_sequence(IDS, enforce_sorted=False)
    x, lengths = pad_packed_sequence(packed, first, padding_value=-1, total_length=5)
    rows = np.asarray(x if first else x.T)
    assert rows.tolist() == [[1, 2, -1, -1, -1], [3, 4, 5, 6, -1], [7, -1, -1, -1, -1]]
    assert rows.dtype == IDS[0].dtype and lengths.tolist() == [2, 4, 1]


def test_what_is_beyond_the_lengths_does_not_count(rng):
    x = rng.normal(size=(4, 2, 3))
    packed = pack_padded_sequence(x, [4, 2])
    x[2:, 1] = np.nan
    again = pack_padded_sequence(x, [4, 2])
    assert np.array_equal(packed.data, again.data) and packed.data.shape == (6, 3)


def test_packing_sequences_is_packing_them_padded(rng):
    sequences = [rng.normal(size=(n, 2)).astype(np.float32) for n in (3, 1, 4)]
    padded = np.zeros((3, 4, 2), np.float32)
    for row, sequence in zip(padded, sequences):
        row[: len(sequence)] = sequence
    one = pack_sequence(sequences, enforce_sorted=False)
    other = pack_padded_sequence(padded, [3, 1, 4], batch_first=True, enforce_sorted=False)
    assert np.array_equal(one.data, other.data) and one.data.dtype == np.float32
    assert one.batch_sizes.tolist() == other.batch_sizes.tolist()


def test_gradients_there_and_back(rng):
    def back(*sequences):
        packed = pack_sequence(sequences, enforce_sorted=False)
        return pad_packed_sequence(packed._replace(data=packed.data**2), padding_value=3)[0]

    check_gradients(back, [rng.normal(size=(n, 2)) for n in (2, 3, 1)], order=2, tolerance=1e-6)


def test_padding_has_no_gradient(rng):
    x = Tensor(rng.normal(size=(3, 2, 1)), requires_grad=True)
    packed = pack_padded_sequence(x, [1, 3], enforce_sorted=False)
    pad_packed_sequence(packed, padding_value=np.inf, total_length=9)[0][:3, 1].sum().backward()
    assert x.grad[:, 0].tolist() == [[0], [0], [0]] and x.grad[:, 1].tolist() == [[1], [1], [1]]


def test_a_packed_sequence_is_a_plain_tuple():
    packed = PackedSequence(np.ones((3, 2)), np.array([2, 1]))
    data, batch_sizes, order = packed
    assert data is packed.data and order is None and batch_sizes.tolist() == [2, 1]


@pytest.mark.parametrize(
    "sequences", [np.array([[1, 2], [3, 4]]), (np.ones(2), np.ones(1))], ids=str
)
def test_an_array_and_a_tuple_of_sequences(sequences):
    packed = pack_sequence(sequences)
    assert len(packed.data) == sum(map(len, sequences)) and packed.data[0] == sequences[0][0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: pack_padded_sequence(x, [2.0, 1.0]), r"2 numbers from 1 to 3, not \[2"),
        (lambda x: pack_padded_sequence(x, [[2, 1]]), "2 numbers from 1 to 3"),
        (lambda x: pack_padded_sequence(x, 2), "2 numbers from 1 to 3, not 2"),
        (lambda x: pack_padded_sequence(x, [3, -1]), "2 numbers from 1 to 3"),
        (lambda x: pack_padded_sequence(x, [True, True]), "2 numbers"),
        (lambda x: pack_padded_sequence(x[:, :0], []), "0 numbers"),
        (lambda x: pack_padded_sequence(x, [3, 2, 1], batch_first=True), "3 numbers from 1 to 2"),
        (lambda x: pack_padded_sequence(x, [1, 2]), r"\[1 2\] do not fall: .* enforce_sorted"),
        (lambda x: pack_sequence([x[:1, 0], x[:2, 0]]), "do not fall"),
        (lambda x: pack_sequence([x[:2, 0], x[:0, 0]]), r"from 1 to 2, not \[2 0\]"),
        (lambda x: pad_packed_sequence(pack_padded_sequence(x, [3, 1]), total_length=1),
         "total_length=1 cuts sequences of 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_packed(make, message, rng):
    with pytest.raises(ValueError, match=message):
        make(rng.normal(size=(3, 2, 4)))


def test_sequences_of_different_widths_have_no_common_shape(rng):
    with pytest.raises(ValueError, match="shape"):
        pack_sequence([rng.normal(size=(2, 4)), rng.normal(size=(1, 3))])
