"""Ranks that send arrays to one another: what every backend can do, and what follows from it.

A program runs as `size` copies, its ranks. All they can do is `exchange`: send an array to one rank
while one comes from another. Whatever all do together (`collectives.py`) is made of that. What
travels are bytes behind a header that says what they are, so that ranks that have come apart find
out at the next message instead of adding up what does not belong together.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, NamedTuple

import numpy as np

from chapter_09_scaling.collectives import Collectives

Combine = Callable[..., Any]  # a ufunc: combine(own, received, out=own)
HEADER = struct.Struct("<I120s")
NAME_BYTES = 60  # of a call, in a header: what is longer is cut, and leaves room for the shape
NUMBERS = "biufc"  # kinds of dtypes that may travel


class RankError(ConnectionError):
    """Another rank has ended, or does something else; the message says which, and what."""


class Message(NamedTuple):
    """What a header says: the number of the call that all ranks make together, and what comes."""

    call: int
    what: str

    def packed(self) -> bytes:
        return HEADER.pack(self.call % 2**32, self.what.encode())

    @staticmethod
    def unpacked(data: bytes) -> Message:
        call, what = HEADER.unpack(data)
        return Message(call, what.rstrip(b"\0").decode(errors="replace"))

    def check(self, data: bytes, rank: int, source: int) -> None:
        """Raise RankError where another header has come than the one a rank waits for."""
        if data != self.packed():
            raise RankError(
                f"rank {rank} is in {self}, but rank {source} is in {Message.unpacked(data)}: all "
                "ranks must make the same calls in the same order, with arrays that fit"
            )

    def __str__(self) -> str:
        return f"call {self.call} ({self.what})"


class Parcel(NamedTuple):
    """An array that goes to a rank, or is filled from one, and the header before it."""

    rank: int
    message: Message
    array: np.ndarray


class Communicator(Collectives):
    """One rank's end of a group of `size` ranks; it counts its calls, and the bytes it sends.

    Subclasses define `transfer`.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.calls, self.name = 0, "exchange"
        self.sent_bytes = 0

    def transfer(
        self, sent: Parcel | None, taken: Parcel | None, combine: Combine | None = None
    ) -> None:
        """Send one parcel while the other is filled; either may be missing.

        Raises RankError where the other end is gone, or its header is not the one awaited.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define transfer")

    def exchange(
        self,
        outgoing: np.ndarray | None = None,
        to: int | None = None,
        incoming: np.ndarray | None = None,
        source: int | None = None,
        combine: Combine | None = None,
        names: tuple[str | None, str | None] = (None, None),
    ) -> None:
        """Send `outgoing` to a rank while `incoming` is filled from another; None is left out.

        With `combine`, a ufunc, what comes is combined with what is there. Both are C-contiguous
        arrays of numbers, and both ends give them the same shape, dtype and name (by default the
        name of the present call). Raises RankError where the other end does not.
        """
        sent = None if outgoing is None else self.parcel(outgoing, to, names[0])
        taken = None if incoming is None else self.parcel(incoming, source, names[1])
        if sent is not None:
            self.sent_bytes += outgoing.nbytes
        self.transfer(sent, taken, combine)

    def parcel(self, array: np.ndarray, rank: int | None, name: str | None = None) -> Parcel:
        """An array addressed; ValueError where there is no such rank, or it cannot travel."""
        if not (isinstance(rank, (int, np.integer)) and 0 <= rank < self.size):
            raise ValueError(f"there are the ranks 0 to {self.size - 1}, not {rank}")
        if rank == self.rank:
            raise ValueError(f"rank {rank} has nothing to send to itself")
        if not array.flags.c_contiguous:
            raise ValueError("what travels is C-contiguous: see np.ascontiguousarray")
        return Parcel(rank, self.message(array, name), array)

    def message(self, array: np.ndarray, name: str | None = None) -> Message:
        """The header of an array in the present call."""
        if array.dtype.kind not in NUMBERS:
            raise TypeError(f"arrays of numbers travel between ranks, not of {array.dtype}")
        if not array.dtype.isnative:
            raise TypeError(
                f"numbers travel in this machine's order of bytes, not as {array.dtype}"
            )
        shape = "x".join(map(str, array.shape)) or "one"
        cut = (name or self.name).encode()[:NAME_BYTES].decode(errors="ignore")
        return Message(self.calls, f"{cut}, {shape} {array.dtype.name}")

    def begin(self, name: str, array: np.ndarray | None = None) -> None:
        """The next call that all ranks make together: its messages carry its number and name.

        Each tells its right neighbour what it is about to do, so that no two can do different
        things, or with arrays of another shape or dtype, without one of them noticing. Raises
        RankError there.
        """
        self.calls, self.name = self.calls + 1, name
        if self.size > 1:
            empty = np.empty(0, np.uint8)
            message = self.message(empty if array is None else array)
            right, left = (self.rank + 1) % self.size, (self.rank - 1) % self.size
            self.transfer(Parcel(right, message, empty), Parcel(left, message, empty))

    def send(self, array: np.ndarray, to: int, name: str = "send") -> None:
        """Send an array to a rank, which must `receive` it."""
        self.exchange(np.asarray(array, order="C"), to, names=(name, None))

    def receive(self, out: np.ndarray, source: int, name: str = "send") -> np.ndarray:
        """Fill `out` with what a rank sends."""
        self.exchange(incoming=out, source=source, names=(None, name))
        return out

    def close(self) -> None:
        """Leave the group, for good."""

    def __enter__(self) -> Communicator:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank {self.rank} of {self.size})"


class SingleProcess(Communicator):
    """A group of one: whatever all do together is done at once."""

    def __init__(self) -> None:
        super().__init__(0, 1)
