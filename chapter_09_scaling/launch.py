"""Start the ranks, watch over them, and let none of them wait for one that has ended.

The watcher makes the sockets and the shared memory, starts the processes, and listens. When a rank
ends otherwise than it should, is stopped, or all wait for one another, the others are told so and
raise it as an error; whoever has not come to an end soon after is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from chapter_09_scaling.communicator import RankError
from chapter_09_scaling.link import nameless_memory
from chapter_09_scaling.local import GRACE, SETTINGS

STUCK = 1.5  # seconds in which all ranks have waited for one another
LOOK = 0.2  # seconds between two looks at the processes
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL", "VECLIB")}


class Rank:
    """A process that was started, and what it has said."""

    def __init__(self, number: int, process: subprocess.Popen, line: socket.socket) -> None:
        self.number, self.process, self.line = number, process, line
        self.listening, self.unread = True, b""
        self.waits: str | None = None  # for whom, if it has waited for a while
        self.since = 0.0
        self.end: dict[str, Any] | None = None  # its result or its error

    def hear(self) -> None:
        """Take in what it says."""
        try:
            data = self.line.recv(1 << 16)
        except OSError:
            data = b""
        self.listening = bool(data)
        *lines, self.unread = (self.unread + data).split(b"\n")
        for said in map(json.loads, lines):
            if "waits" in said:
                self.waits, self.since = said["waits"], time.monotonic()
            else:
                self.end = said

    def failure(self) -> str | None:
        """What is wrong with it, if anything is."""
        if self.end is not None and "error" in self.end:
            return self.end["error"]
        status = self.process.poll()
        if status is None:
            stopped = is_stopped(self.process.pid)
            return f"rank {self.number} was stopped by a signal" if stopped else None
        if self.listening:
            return None  # its last words are still to be heard
        if status < 0:
            return f"rank {self.number} was ended by {signal.Signals(-status).name}"
        if status or self.end is None:
            return f"rank {self.number} has left with exit status {status} before its work was done"
        return None


def is_stopped(pid: int) -> bool:
    """Whether a child lives but does not run; False on systems that do not tell (macOS)."""
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def launch(work: Callable[..., Any], ranks: int, *arguments: Any) -> list[Any]:
    """Run work(comm, *arguments) in so many processes on this machine: what each returned.

    `work` is a function of a module, or of the script that calls this; what goes in and comes back
    is what JSON can say. Each rank has one BLAS thread, as they share the cores. Raises RankError,
    when all have ended, where one was killed, stopped, raised, or left before its work was done.
    """
    if os.name != "posix":
        raise RankError("ranks on one machine need a POSIX system; MPI runs on others too")
    if not (isinstance(ranks, int) and ranks >= 1):
        raise ValueError(f"ranks are counted from 1 up, not {ranks}")
    started = start(name_of(work), ranks, json.dumps(arguments))
    try:
        failure = watch(started)
    except BaseException:
        end(started, "whoever started the ranks was interrupted")
        raise
    end(started, failure)
    if failure is not None:
        raise RankError(failure)
    return [rank.end["result"] for rank in started]


def name_of(work: Callable[..., Any]) -> str:
    """Where another process finds a function: "module:name", or "file.py:name"."""
    if "<locals>" in work.__qualname__ or "<lambda>" in work.__qualname__:
        raise ValueError(f"{work.__qualname__} is made inside a function: other processes need one "
                         "that they find in a module")  # fmt: skip
    if work.__module__ != "__main__":
        return f"{work.__module__}:{work.__qualname__}"
    return f"{Path(sys.modules['__main__'].__file__).resolve()}:{work.__qualname__}"


def start(target: str, ranks: int, arguments: str) -> list[Rank]:
    """Make the links of all pairs, and start the processes that hold their ends."""
    links: list[list[tuple[int, int, int]]] = [[] for _ in range(ranks)]
    sockets: list[socket.socket] = []
    memories: list[int] = []
    for a in range(ranks):
        for b in range(a + 1, ranks):
            sockets += socket.socketpair()
            memories.append(nameless_memory())
            links[a].append((b, sockets[-2].fileno(), memories[-1]))
            links[b].append((a, sockets[-1].fileno(), memories[-1]))
    started = []
    for rank in range(ranks):
        line, other = socket.socketpair()
        sockets.append(other)
        settings = {"rank": rank, "links": links[rank], "watcher": other.fileno()}
        # Whatever the caller can import, its ranks can.
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        variables = {**os.environ, **ONE_THREAD, "PYTHONPATH": path, SETTINGS: json.dumps(settings)}
        inherited = [fd for link in links[rank] for fd in link[1:]] + [other.fileno()]
        command = [sys.executable, "-m", "chapter_09_scaling.worker", target, arguments]
        # A session of its own: the keyboard interrupts the watcher only, who ends the ranks.
        process = subprocess.Popen(
            command, env=variables, pass_fds=inherited, start_new_session=True
        )
        started.append(Rank(rank, process, line))
    for sock in sockets:
        sock.close()
    for memory in memories:
        os.close(memory)
    return started


def watch(started: Sequence[Rank]) -> str | None:
    """Wait until all have ended well (None), or say which one did not, and how."""
    while any(rank.process.poll() is None or rank.listening for rank in started):
        lines = {rank.line: rank for rank in started if rank.listening}
        for line in select.select(list(lines), [], [], LOOK)[0]:
            lines[line].hear()
        failures = [failure for rank in started if (failure := rank.failure()) is not None]
        if failures or (failures := stuck(started)):
            return failures[0]
    return None


def stuck(started: Sequence[Rank]) -> list[str]:
    """That all who are at work have waited for one another for too long, if so."""
    working = [rank for rank in started if rank.end is None]
    now = time.monotonic()
    if working and all(rank.waits and now - rank.since > STUCK for rank in working):
        return [f"all wait for one another: {', '.join(rank.waits or '' for rank in working)}"]
    return []


def end(started: Sequence[Rank], failure: str | None) -> None:
    """Tell all who live what has failed, and end those who do not end by themselves."""
    last = time.monotonic() + GRACE
    for rank in started:
        with contextlib.suppress(OSError):  # it has ended
            rank.line.sendall(f"{failure}\n".encode() if failure else b"")
    for rank in started:
        try:
            rank.process.wait(max(last - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            rank.process.kill()
            rank.process.wait()
        rank.line.close()
