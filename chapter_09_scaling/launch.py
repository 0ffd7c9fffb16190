"""Start the ranks, watch over them, and let none of them wait for one that has ended.

The watcher makes the sockets and the shared memory, starts the processes, and listens. When a rank
ends otherwise than it should, is stopped, or all wait for one another, the others are told so and
raise it as an error; whoever has not come to an end soon after is ended.
"""

from __future__ import annotations

import contextlib
import inspect
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
from chapter_09_scaling.local import GRACE
from chapter_09_scaling.worker import SETTINGS

STUCK = 1.5  # seconds in which all ranks have waited for one another
LOOK = 0.2  # seconds between two looks at the processes
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL", "VECLIB")}
# Begun in the book's own folder, as the current one may hold modules of the same names.
BOOK = Path(__file__).resolve().parents[1]
PROGRAM = "from chapter_09_scaling.worker import main; raise SystemExit(main())"


class Rank:
    """A process that was started, and what it has said."""

    def __init__(self, number: int, process: subprocess.Popen, line: socket.socket) -> None:
        self.number, self.process, self.line = number, process, line
        self.line.setblocking(False)
        self.listening, self.unread = True, b""
        self.waits: str | None = None  # for whom, if it has waited for a while
        self.since = 0.0
        self.end: dict[str, Any] | None = None  # its result or its error

    def hear(self) -> bool:
        """Take in what it says; False where there is nothing (any more)."""
        try:
            data = self.line.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self.listening = bool(data)
        *lines, self.unread = (self.unread + data).split(b"\n")
        for said in map(json.loads, lines):
            if "waits" in said:
                self.waits, self.since = said["waits"], time.monotonic()
            elif said:
                self.end = said
        return self.listening

    def failure(self) -> str | None:
        """What is wrong with it, if anything is."""
        status = self.process.poll()
        while status is not None and self.listening and self.hear():
            pass  # its last words; a program that it has started may keep the line open
        if self.end is not None and "error" in self.end:
            return self.end["error"]
        if status is None:
            stopped = is_stopped(self.process.pid)
            return f"rank {self.number} was stopped by a signal" if stopped else None
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
    if type(ranks) is not int or ranks < 1:
        raise ValueError(f"ranks are counted from 1 up, not {ranks!r}")
    target, folder = place_of(work)
    given = json.dumps(arguments).encode()
    started: list[Rank] = []
    try:
        start(started, target, folder, ranks, given)
        failure = watch(started)
    except BaseException:
        end(started, "whoever started the ranks was interrupted")
        raise
    end(started, failure)
    if failure is not None:
        raise RankError(failure)
    return [rank.end["result"] for rank in started]


def place_of(work: Callable[..., Any]) -> tuple[str, Path]:
    """How another process names a function, "module:name" or "file.py:name", and where it looks."""
    if not inspect.isfunction(work) or "." in work.__qualname__ or work.__name__ == "<lambda>":
        raise ValueError(
            f"other processes need a function that they find in a module, not {work!r}"
        )
    module = work.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        raise ValueError(f"other processes do not find {work.__name__}, which is in no file: put "
                         "it into a module")  # fmt: skip
    file = Path(file).resolve()
    if module == "__main__":
        return f"{file}:{work.__name__}", file.parent
    depth = module.count(".") + (file.name == "__init__.py")
    return f"{module}:{work.__name__}", file.parents[depth]


def start(started: list[Rank], target: str, folder: Path, ranks: int, arguments: bytes) -> None:
    """Make the links of all pairs, and start the processes that hold their ends.

    They import from `folder` first, and then from where the environment says.
    """
    with contextlib.ExitStack() as stack:  # all of it is the processes' when they run

        def pair() -> tuple[socket.socket, socket.socket]:
            ends = socket.socketpair()
            for end_of_it in ends:
                stack.callback(end_of_it.close)
            return ends

        def memory(**size: int) -> int:
            descriptor = nameless_memory(**size)
            stack.callback(os.close, descriptor)
            return descriptor

        given = memory(size=len(arguments))
        os.pwrite(given, arguments, 0)
        links: list[list[tuple[int, int, int]]] = [[] for _ in range(ranks)]
        for a in range(ranks):
            for b in range(a + 1, ranks):
                ends, shared = pair(), memory()
                links[a].append((b, ends[0].fileno(), shared))
                links[b].append((a, ends[1].fileno(), shared))
        others = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        path = os.pathsep.join(map(os.path.abspath, (folder, *others)))
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": path}
        for rank in range(ranks):
            own, other = pair()
            environment[SETTINGS] = json.dumps(
                {
                    "rank": rank,
                    "work": target,
                    "folder": os.getcwd(),
                    "arguments": [given, len(arguments)],
                    "links": links[rank],
                    "watcher": other.fileno(),
                }
            )
            inherited = [given, other.fileno(), *(fd for link in links[rank] for fd in link[1:])]
            # A session of its own: the keyboard interrupts the watcher only, who ends the ranks.
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=environment,
                cwd=BOOK,
                pass_fds=inherited,
                start_new_session=True,
            )
            started.append(Rank(rank, process, own.dup()))


def watch(started: Sequence[Rank]) -> str | None:
    """Wait until all have ended well (None), or say which one did not, and how."""
    while any(rank.end is None for rank in started):
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
            # A little more than they give themselves, so that they can say why.
            rank.process.wait(max(last + LOOK - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            rank.process.kill()
            rank.process.wait()
        if failure is not None:
            with contextlib.suppress(ProcessLookupError):  # what it has started itself
                os.killpg(rank.process.pid, signal.SIGKILL)
        rank.line.close()
