"""The ring without processes: ranks are threads, and what they exchange is copied and counted."""

from __future__ import annotations

import queue
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from chapter_09_scaling.collectives import _ring_reduce, chunks

PATIENCE = 10  # seconds; a rank that waits longer waits for what nobody sends


class Rank:
    """As much of a `Communicator` as the ring needs."""

    def __init__(self, rank: int, size: int, wires: dict) -> None:
        self.rank, self.size, self.wires, self.sent = rank, size, wires, []

    def exchange(self, outgoing, to, incoming, source, combine=None) -> None:
        self.wires[self.rank, to].put(outgoing.copy())
        self.sent.append((to, outgoing.size))
        came = self.wires[source, self.rank].get(timeout=PATIENCE)
        incoming[...] = came if combine is None else combine(incoming, came)


def ring(size: int, length: int, op=np.add):
    """The ranks, their arrays before, and their parts afterwards."""
    wires = defaultdict(queue.Queue)
    ranks = [Rank(rank, size, wires) for rank in range(size)]
    before = np.random.default_rng(0).integers(100, size=(size, length))
    parts = [chunks(array.copy(), size) for array in before]
    with ThreadPoolExecutor(size) as pool:
        list(pool.map(lambda rank: _ring_reduce(rank, parts[rank.rank], op), ranks))
    return ranks, before, parts


@pytest.mark.parametrize("op", [np.add, np.maximum])
@pytest.mark.parametrize(("size", "length"), [(1, 5), (2, 6), (3, 10), (4, 8), (5, 3)])
def test_each_rank_ends_with_its_part_of_all(size, length, op):
    ranks, before, parts = ring(size, length, op)
    whole = chunks(op.reduce(before, axis=0), size)
    for rank in ranks:
        np.testing.assert_array_equal(
            parts[rank.rank][rank.rank], whole[rank.rank], f"part {rank.rank} of rank {rank.rank}"
        )


@pytest.mark.parametrize("size", [2, 3, 4])
def test_everybody_sends_to_the_right_a_part_at_a_time(size):
    ranks, _, _ = ring(size, 12)
    for rank in ranks:
        assert rank.sent == [((rank.rank + 1) % size, 12 // size)] * (
            size - 1
        ), "N - 1 messages of a part each: more is too much, and less cannot do"
