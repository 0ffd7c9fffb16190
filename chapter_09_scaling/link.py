"""A link between two processes: a pair of sockets for words, shared memory for the bytes.

Each direction has a few slots of shared memory. Who sends copies a piece into a free slot and says
so over the socket; who receives works on it right there, and says that the slot is free again. The
memory and the sockets are made by whoever started both processes and have no names: nothing listens
anywhere, and when both are gone, whatever ended them, nothing is left.
"""

from __future__ import annotations

import collections
import mmap
import os
import socket
import tempfile

import numpy as np

from chapter_09_scaling.communicator import HEADER, Combine, Message

SLOT, SLOTS = 1 << 17, 8  # bytes of a slot, and how many a direction has
SHARED_BYTES = 2 * SLOTS * SLOT
FREE, PIECE, BEGIN = b"f", b"p", b"b"  # words: a slot is free; a piece lies in one; a header comes
LENGTH = 4  # bytes that say how long a piece is
SIZES = {FREE: 1, PIECE: 1 + LENGTH, BEGIN: 1 + HEADER.size}


def nameless_memory(size: int = SHARED_BYTES) -> int:
    """A file of zeros that has no name and goes with its last user: its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("link")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Link:
    """One end; `first` says which of the two directions it sends in."""

    def __init__(self, sock: socket.socket, descriptor: int, first: bool) -> None:
        self.socket = sock
        self.socket.setblocking(False)
        half = SLOTS * SLOT
        both = memoryview(mmap.mmap(descriptor, SHARED_BYTES))
        os.close(descriptor)
        self.own, self.other = (both[:half], both[half:]) if first else (both[half:], both[:half])
        self.open = True  # until the other end is gone
        self.free, self.sent, self.taken = SLOTS, 0, 0
        self.unread, self.unsaid = bytearray(), bytearray()
        self.pieces: collections.deque[int] = (
            collections.deque()
        )  # the lengths of those that lie in slots
        self.headers: collections.deque[bytes] = collections.deque()

    def fileno(self) -> int:
        return self.socket.fileno()

    def begin(self, message: Message) -> None:
        self._say(BEGIN + message.packed())

    def push(self, data: memoryview) -> int:
        """Put as much as there are free slots for; returns how many bytes that was."""
        done = 0
        while self.free and done < len(data):
            piece = data[done : done + SLOT]
            start = self.sent % SLOTS * SLOT
            self.own[start : start + len(piece)] = piece
            self.sent, self.free, done = self.sent + 1, self.free - 1, done + len(piece)
            self._say(PIECE + len(piece).to_bytes(LENGTH, "little"))
        return done

    def pull(self, out: np.ndarray, combine: Combine | None) -> int:
        """Fill the array (n,) with the pieces that are there, or combine it with them: how many."""
        done, itemsize = 0, out.itemsize
        while self.pieces and done < len(out):
            length = self.pieces.popleft()
            start = self.taken % SLOTS * SLOT
            piece = np.frombuffer(self.other[start : start + length], out.dtype)
            own = out[done : done + length // itemsize]
            if combine is None:
                own[...] = piece
            else:
                combine(own, piece, out=own)
            self.taken, done = self.taken + 1, done + len(own)
            self._say(FREE)
        return done

    def listen(self) -> None:
        """Take in the words that have come."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self.open = bool(data)
        self.unread += data
        while self.unread and self._word():
            pass

    def _word(self) -> bool:
        """Understand the first word of what is unread, if it is there as a whole."""
        kind = bytes(self.unread[:1])
        if len(self.unread) < SIZES[kind]:
            return False
        body = bytes(self.unread[1 : SIZES[kind]])
        del self.unread[: SIZES[kind]]
        if kind == FREE:
            self.free += 1
        elif kind == PIECE:
            self.pieces.append(int.from_bytes(body, "little"))
        else:
            self.headers.append(body)
        return True

    def _say(self, word: bytes) -> None:
        self.unsaid += word
        self.speak()

    def speak(self) -> None:
        """Say what there is room for; the rest waits for the other end to listen."""
        try:
            while self.unsaid:
                del self.unsaid[: self.socket.send(self.unsaid)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.unsaid.clear()  # what the other end sent before it left may still be read

    def close(self) -> None:
        self.socket.close()
