"""Sequences of unequal lengths in one batch, without a single number of padding.

Sorted by length, the sequences that are still going on at a step are always the first few of the
batch. So all of them are stored step by step, one below the other: the first token of each, then
the second of each that has one, and so on; `batch_sizes` says how many there are at every step.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

from utils import Tensor
from utils.primitives import scatter_add


class PackedSequence(NamedTuple):
    """data (all tokens, ...), how many there are at each step, and the order of the sequences.

    `sorted_indices` are the numbers of the sequences from the longest on, None if they came so.
    """

    data: Any
    batch_sizes: np.ndarray
    sorted_indices: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        """The length of each sequence, from the longest on: (B,)."""
        sequence = np.arange(self.batch_sizes[0])
        return (self.batch_sizes[:, None] > sequence).sum(axis=0)

    @property
    def steps_and_sequences(self) -> tuple[np.ndarray, np.ndarray]:
        """At which step, and in which of the sorted sequences, each token stands."""
        return np.nonzero(self.batch_sizes[:, None] > np.arange(self.batch_sizes[0]))

    @property
    def order(self) -> np.ndarray:
        """Which sequence of the batch each of the sorted ones is: (B,)."""
        given = self.sorted_indices
        return np.arange(self.batch_sizes[0]) if given is None else given

    def place(self, step: np.ndarray, sequence: np.ndarray) -> np.ndarray:
        """Where the token of that step stands in the data."""
        return (np.cumsum(self.batch_sizes) - self.batch_sizes)[step] + sequence


def pack_padded_sequence(
    x: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack x (T, B, ...), of whose sequences only the first `lengths` (B,) tokens count.

    Raises ValueError for lengths that do not fit x, and for unsorted ones with `enforce_sorted`.
    """
    lengths = np.asarray(lengths)
    x = np.swapaxes(x, 0, 1) if batch_first else x
    whole = lengths.dtype.kind in "iu" and lengths.shape == x.shape[1:2] and lengths.size
    if not whole or lengths.min() < 1 or lengths.max() > len(x):
        raise ValueError(f"lengths are {x.shape[1]} numbers from 1 to {len(x)}, not {lengths}")
    order = np.argsort(-lengths, kind="stable")
    if enforce_sorted and (np.diff(lengths) > 0).any():
        raise ValueError(f"lengths {lengths} do not fall: sort them, or say enforce_sorted=False")
    batch_sizes = (lengths > np.arange(lengths.max())[:, None]).sum(axis=1)
    packed = PackedSequence(x, batch_sizes, None if enforce_sorted else order)
    step, sequence = packed.steps_and_sequences
    return packed._replace(data=x[step, packed.order[sequence]])


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (length, ...) of any lengths from 1 up."""
    if len(sequences) == 0:
        raise ValueError("there are no sequences to pack")
    lengths = [len(sequence) for sequence in sequences]
    padded = [
        np.pad(s, [(0, max(lengths) - len(s)), *((0, 0) for _ in s.shape[1:])]) for s in sequences
    ]
    return pack_padded_sequence(np.stack(padded, axis=1), lengths, enforce_sorted=enforce_sorted)


def pad_packed_sequence(
    packed: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, np.ndarray]:
    """The way back: x (T, B, ...) in the order before packing, and the lengths (B,)."""
    steps = len(packed.batch_sizes) if total_length is None else total_length
    if steps < len(packed.batch_sizes):
        raise ValueError(f"total_length={steps} cuts sequences of {len(packed.batch_sizes)} tokens")
    step, sequence = packed.steps_and_sequences
    index = step, packed.order[sequence]
    shape = (steps, packed.batch_sizes[0], *packed.data.shape[1:])
    x = scatter_add(packed.data, index, shape)
    if padding_value != 0:
        empty = np.ones(shape, bool)
        empty[index] = False
        x = np.where(empty, packed.data.dtype.type(padding_value), x)
    lengths = np.empty(packed.batch_sizes[0], np.int64)
    lengths[packed.order] = packed.lengths
    return (np.swapaxes(x, 0, 1) if batch_first else x), lengths
