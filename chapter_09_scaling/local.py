"""Several processes on this machine as one group: a link to each other, and a line to who watches.

A rank that waits also hears from the watcher (`launch.py`), who says so when another rank has
ended; a rank that computes is interrupted. And a rank that has waited for a while says for whom, so
that the watcher sees when all of them wait for one another.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from typing import Any

import numpy as np

from chapter_09_scaling.communicator import Combine, Communicator, Message, Parcel, RankError
from chapter_09_scaling.link import Link

PATIENCE = 0.5  # seconds of waiting before the watcher is told
GRACE = 2.0  # seconds in which a rank may end by itself, after another has failed


class LocalCommunicator(Communicator):
    """One of the processes that `launch` has started, which calls its work with it."""

    def __init__(self, rank: int, links: dict[int, Link], watcher: socket.socket) -> None:
        super().__init__(rank, len(links) + 1)
        self.links, self.watcher = links, watcher
        self.failure: str | None = None  # what the watcher has said
        self.at_work = False  # whether the failure of another rank interrupts this one
        self.closed = False
        self.failed, self.ended = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._hear_of_failure, daemon=True)
        self.thread.start()

    def transfer(
        self, sent: Parcel | None, taken: Parcel | None, combine: Combine | None = None
    ) -> None:
        if self.closed:
            raise RankError(f"rank {self.rank} has closed its group")
        if sent is not None:
            to, data = self.links[sent.rank], memoryview(sent.array.reshape(-1).view(np.uint8))
            to.begin(sent.message)
        if taken is not None:
            source, out, begun = self.links[taken.rank], taken.array.reshape(-1), False
        while True:
            if sent is not None:
                data = data[to.push(data) :]
            if taken is not None:
                if not begun and source.headers:
                    taken.message.check(source.headers.popleft(), self.rank, taken.rank)
                    begun = True
                if begun:
                    out = out[source.pull(out, combine) :]
            awaited = [sent] if sent is not None and (len(data) or to.unsaid) else []
            if taken is not None and (not begun or len(out) or source.unsaid):
                awaited.append(taken)
            if not awaited:
                return
            self._wait(awaited)

    def _wait(self, awaited: list[Parcel]) -> None:
        """Until one of their ranks has something to say; raises RankError if none ever will."""
        for rank, message, _ in awaited:
            if not self.links[rank].open:
                self.failed.wait(GRACE)  # the watcher has seen the end as well, and knows why
                raise RankError(self.failure or f"rank {rank} has left before {message} was done")
        links = [self.links[parcel.rank] for parcel in awaited]
        speaking = [link for link in links if link.unsaid]
        ready: list[Link] = []
        writable: list[Link] = []
        told, begin = False, time.monotonic()
        while not (ready or writable):
            if self.failure is not None:
                raise RankError(self.failure)
            ready, writable, _ = select.select(links, speaking, [], PATIENCE / 2)
            if not (ready or writable or told) and time.monotonic() - begin > PATIENCE:
                whom = " and ".join(f"rank {p.rank} in {p.message}" for p in awaited)
                told = self._tell({"waits": f"rank {self.rank} waits for {whom}"})
        if told:
            self._tell({"waits": None})
        for link in writable:
            link.speak()
        for link in ready:
            link.listen()

    def check_all_received(self) -> None:
        """A barrier; RankError where another rank has sent what this one has not received."""
        name = "all is received"
        for rank, link in self.links.items():
            link.listen()
            sent = Message.unpacked(link.headers[0]) if link.headers else None
            if sent is not None and not sent.what.startswith(name):  # who is faster is there
                raise RankError(f"rank {rank} sent what rank {self.rank} never received: {sent}")
        self.barrier(name)  # or none of them has done its work

    def _hear_of_failure(self) -> None:
        """Wait for what the watcher says, if ever, and see that this rank ends."""
        heard = b""
        while not heard.endswith(b"\n"):
            try:
                data = self.watcher.recv(4096)
            except OSError:  # it has ended before it heard all that was said
                data = b""
            if not data:
                break
            heard += data
        if self.ended.is_set():
            return
        self.failure = heard.decode().strip() or "whoever started the ranks has ended"
        self.failed.set()
        if self.at_work:  # it may be computing, and would not look here for long
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        if not self.ended.wait(GRACE):
            os.write(2, f"rank {self.rank}: {self.failure}\n".encode())
            os._exit(1)  # whatever keeps it, nobody waits for it any more

    def raise_failure(self, *_: Any) -> None:
        """The handler of the signal that interrupts this rank."""
        if self.at_work:
            self.at_work = False
            raise RankError(self.failure or f"rank {self.rank} was interrupted by a signal")

    def _tell(self, what: dict[str, Any]) -> bool:
        with contextlib.suppress(OSError):  # whoever watched has ended, which the thread notices
            self.watcher.sendall(json.dumps(what).encode() + b"\n")
        return True

    def close(self) -> None:
        self.closed = True
        for link in self.links.values():
            link.close()

    def end(self, **how: Any) -> None:
        """Tell the watcher how this rank has ended, its `result` or its `error`, and leave."""
        self.at_work = False
        self._tell(how)
        self.ended.set()
        self.close()
        with contextlib.suppress(OSError):  # the other end was faster
            self.watcher.shutdown(socket.SHUT_RDWR)
        self.thread.join(GRACE)
        self.watcher.close()
