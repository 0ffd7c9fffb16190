"""What all ranks do together, written on messages from one to another.

N ranks have an array of n bytes each and want the sum. Naively, all send theirs to rank 0 and get
the sum back: rank 0 takes and sends (N - 1) n bytes, and the others wait. A tree needs log2 N
rounds up and as many down, each with the whole array. A ring cuts the array in N chunks: each rank
passes a chunk to its right while one comes from its left, N - 1 times to add up and N - 1 times to
spread, so that everybody sends 2 (N - 1) / N n bytes, however many they are, and nobody can do with
less. Who adds what in which order is fixed, so all ranks get the same bits, every time.

Source: Patarasuk, Yuan, 2009, doi:10.1016/j.jpdc.2008.09.002; Thakur, Rabenseifner, Gropp, 2005,
doi:10.1177/1094342005051521.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np


def bounds(length: int, parts: int) -> list[int]:
    """Where `parts` nearly equal chunks of so many elements begin and end: parts + 1 numbers."""
    return [length * i // parts for i in range(parts + 1)]


def chunks(flat: np.ndarray, parts: int) -> list[np.ndarray]:
    """Views of nearly equal lengths that make up an array (n,); some are empty where n < parts."""
    ends = bounds(len(flat), parts)
    return [flat[a:b] for a, b in zip(ends, ends[1:])]


class Collectives:
    """The part of a `Communicator` that follows from `exchange`.

    Every rank of a group makes the same call with arrays of the same shape and dtype, else all of
    them raise RankError. `op` is a ufunc of two arguments whose order does not matter.
    """

    def all_reduce(
        self,
        array: np.ndarray,
        op: np.ufunc = np.add,
        algorithm: str = "ring",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """The array of all ranks' arrays combined, on every rank, bit for bit the same.

        `algorithm` is "ring", "tree" or "naive"; with `out`, a C-contiguous array that may be the
        given one, the result is written there.
        """
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm is one of {', '.join(ALGORITHMS)}, not {algorithm!r}")
        result = self._result(array, out)
        self.begin(f"all_reduce {op.__name__} {algorithm}", result)
        ALGORITHMS[algorithm](self, result.reshape(-1), op)
        return result

    def broadcast(
        self, array: np.ndarray, root: int = 0, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The root's array on every rank; the others give one of its shape and dtype."""
        if not 0 <= root < self.size:
            raise ValueError(f"there are the ranks 0 to {self.size - 1}, not {root}")
        result = self._result(array, out)
        self.begin(f"broadcast from {root}", result)
        _spread(self, result.reshape(-1), root)
        return result

    def reduce_scatter(self, array: np.ndarray, op: np.ufunc = np.add) -> np.ndarray:
        """This rank's chunk (about n / N,) of all ranks' arrays of n numbers, combined."""
        result = self._result(array, None)
        self.begin(f"reduce_scatter {op.__name__}", result)
        parts = chunks(result.reshape(-1), self.size)
        _ring_reduce(self, parts, op)
        return parts[self.rank].copy()

    def all_gather(
        self, chunk: np.ndarray, length: int | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The chunks (n,) of all ranks one behind the other, on every rank: (length,).

        Chunks are as `reduce_scatter` cuts `length` numbers; without it all are of one length.
        With `out`, of which the chunk may be a view, the result is written there. Raises ValueError
        for a chunk of another length.
        """
        if length is None:
            length = chunk.size * self.size if out is None else out.size
        result = np.empty(length, chunk.dtype)
        result = result if out is None else self._result(result, out, copied=False)
        parts = chunks(result, self.size)
        if chunk.size != parts[self.rank].size:
            raise ValueError(
                f"of {length} numbers, rank {self.rank} of {self.size} has "
                f"{parts[self.rank].size}, and gave {chunk.size}"
            )
        self.begin("all_gather", result)
        parts[self.rank][...] = chunk.reshape(-1)
        _ring_gather(self, parts)
        return result

    def all_to_all(
        self, outgoing: Sequence[np.ndarray], incoming: Sequence[np.ndarray]
    ) -> Sequence[np.ndarray]:
        """outgoing[i] goes to rank i, incoming[i] is filled from rank i; shapes may differ.

        In round k each rank sends k places to the right and takes from k places to the left, so
        that nobody is asked by two at once.
        """
        if len(outgoing) != self.size or len(incoming) != self.size:
            given = f"{len(outgoing)} to send and {len(incoming)} to fill"
            raise ValueError(f"all_to_all of {self.size} ranks takes as many arrays, not {given}")
        own, room = outgoing[self.rank], incoming[self.rank]
        if (own.shape, own.dtype) != (room.shape, room.dtype):
            raise ValueError(f"rank {self.rank} keeps {own.dtype} of {own.shape} for itself, and "
                             f"has made room for {room.dtype} of {room.shape}")  # fmt: skip
        self.begin("all_to_all")
        room[...] = own
        for k in range(1, self.size):
            to, source = (self.rank + k) % self.size, (self.rank - k) % self.size
            self.exchange(np.asarray(outgoing[to], order="C"), to, incoming[source], source)
        return incoming

    def barrier(self, name: str = "barrier") -> None:
        """Wait until all ranks have come here, to a barrier of this name."""
        self.begin(name)
        _tree(self, np.zeros(1, np.uint8), np.bitwise_or)

    @staticmethod
    def _result(array: np.ndarray, out: np.ndarray | None, copied: bool = True) -> np.ndarray:
        if out is None:
            return np.array(array, order="C")
        if (out.shape, out.dtype) != (array.shape, array.dtype) or not out.flags.c_contiguous:
            raise ValueError(
                f"out must be a C-contiguous {array.dtype} array of {array.shape}, "
                f"not {out.dtype} of {out.shape}"
            )
        if copied and out is not array:
            out[...] = array
        return out


def _ring(comm, flat: np.ndarray, op: np.ufunc) -> None:
    parts = chunks(flat, comm.size)
    _ring_reduce(comm, parts, op)
    _ring_gather(comm, parts)


def _ring_reduce(comm, parts: Sequence[np.ndarray], op: np.ufunc) -> None:
    """Afterwards rank r has the whole of part r; the other parts are of some ranks only."""
    left, right = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    for step in range(comm.size - 1):
        outgoing, incoming = (parts[(comm.rank - step - i) % comm.size] for i in (1, 2))
        comm.exchange(outgoing, right, incoming, left, combine=op)


def _ring_gather(comm, parts: Sequence[np.ndarray]) -> None:
    """Rank r has part r; afterwards all have all."""
    left, right = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    for step in range(comm.size - 1):
        outgoing, incoming = (parts[(comm.rank - step - i) % comm.size] for i in (0, 1))
        comm.exchange(outgoing, right, incoming, left)


def _tree(comm, flat: np.ndarray, op: np.ufunc) -> None:
    distance = 1
    while distance < comm.size:  # pairs, pairs of pairs, ...: the lower rank takes
        if comm.rank % (2 * distance):
            comm.exchange(flat, comm.rank - distance)
            break
        if comm.rank + distance < comm.size:
            comm.exchange(incoming=flat, source=comm.rank + distance, combine=op)
        distance *= 2
    _spread(comm, flat, 0)


def _spread(comm, flat: np.ndarray, root: int) -> None:
    """Whoever has it passes it on: twice as many in every round."""
    own = (comm.rank - root) % comm.size
    distance = 1
    while distance < comm.size:
        if own < distance and own + distance < comm.size:
            comm.exchange(flat, (own + distance + root) % comm.size)
        elif distance <= own < 2 * distance:
            comm.exchange(incoming=flat, source=(own - distance + root) % comm.size)
        distance *= 2


def _naive(comm, flat: np.ndarray, op: np.ufunc) -> None:
    if comm.rank == 0:
        for source in range(1, comm.size):
            comm.exchange(incoming=flat, source=source, combine=op)
        for to in range(1, comm.size):
            comm.exchange(flat, to)
    else:
        comm.exchange(flat, 0)
        comm.exchange(incoming=flat, source=0)


ALGORITHMS = {"ring": _ring, "tree": _tree, "naive": _naive}
