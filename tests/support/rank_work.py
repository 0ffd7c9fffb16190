"""What ranks do in the tests of chapter 9, and how a test has them do it.

Ranks are processes of their own, so their work lies here, where they can import it. As a script it
starts one of these functions, `rank_work.py local 3 NAME ARGUMENTS` or, under mpiexec, `mpi`, and
prints as JSON what came out; a test reads that, and what the ranks said on their standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from rank_start import speak_into
from rank_table import beside_mpi, many_empty_sends, numbers, small_works, table  # noqa: F401

from chapter_09_scaling import RankError, grid, run
from utils.blas import _openblas


def main(backend: str, ranks: str, name: str, arguments: str) -> None:
    """Print what the ranks returned, or the error of `launch`."""
    # A shell's background jobs inherit that a keyboard interrupt is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        said = {"results": run(globals()[name], backend, int(ranks), *json.loads(arguments))}
    except RankError as error:
        said = {"error": str(error)}
    if said.get("results", ...) is not None:
        print(json.dumps(said))


# Small works.


def told(comm, *given) -> list:
    """Which rank this is, of how many, and what it was given."""
    return [comm.rank, comm.size, *given]


def long_text(comm, length: int) -> str:
    return f"{comm.rank}é" + "x" * length


def not_json(comm) -> object:
    return {1, 2}


def pair(comm) -> tuple:
    return (1, {"a": (2, 3)})


def fails_in(comm, rank: int) -> None:
    comm.barrier()
    if comm.rank == rank:
        raise ValueError("a planted\n error")
    comm.barrier()


def closes(comm, how: str) -> int:
    """Leave the group as the last thing that is done, in one way or another."""
    total = int(comm.all_reduce(np.ones(1))[0])
    if how == "with":
        with comm:
            return total
    for _ in range(int(how)):
        comm.close()
    return total


def threads(comm) -> list:
    """How many threads BLAS has, and how many there are after it has worked."""
    a = np.ones((600, 600))
    (a @ a).sum()
    functions = _openblas()
    tasks = Path("/proc/self/task")
    return [functions[0]() if functions else None,
            len(list(tasks.iterdir())) if tasks.exists() else None]  # fmt: skip


def open_files(comm) -> list:
    """The files of this process, its memory, and what the system says of its sockets."""
    comm.all_reduce(np.ones(1000))
    files = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd")
             if os.path.lexists(entry.path)]  # fmt: skip
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "rw-s" in line]
    inodes = {file[8:-1] for file in files[3:] if file.startswith("socket:[")}
    sockets = []
    for kind in ("unix", "tcp", "tcp6", "udp", "udp6"):
        table_of_kind = Path("/proc/self/net") / kind
        rows = table_of_kind.read_text().splitlines()[1:] if table_of_kind.exists() else []
        sockets += [[kind, row] for row in rows if inodes & set(row.split())]
    return [[file for file in files[3:] if "memfd" not in file], maps, sockets]


def slow_one(comm, seconds: float) -> float:
    """All wait for rank 1, who is at work, for longer than it takes to be called stuck."""
    if comm.rank == 1:
        time.sleep(seconds)
    return float(comm.all_reduce(np.ones(3))[0])


def silent(comm, patience: float) -> None:
    """On MPI: rank 0 waits for what rank 1 never sends."""
    comm.patience = patience
    comm.barrier()
    if comm.rank == 0:
        comm.receive(np.ones(3), 1, "activations")
    else:
        time.sleep(10 * patience)


def grids(comm) -> dict:
    """2 x 2 ranks: sums along each axis, the bytes they took, and groups within a group."""
    own = np.arange(6.0) + 10**comm.rank
    groups = grid(comm, data=2, tensor=2)
    said = {"ranks": {name: group.ranks for name, group in groups.items()}}
    said["numbers"] = {name: [group.rank, group.size] for name, group in groups.items()}
    before = comm.sent_bytes
    said["sums"] = {name: group.all_reduce(own).tolist() for name, group in groups.items()}
    said["sent"] = [group.sent_bytes for group in groups.values()] + [comm.sent_bytes - before]
    tensor = groups["tensor"]
    said["gathered"] = tensor.all_gather(np.array([comm.rank])).tolist()
    said["from the last"] = tensor.broadcast(np.array([comm.rank]), 1).item()
    said["scattered"] = groups["data"].reduce_scatter(np.arange(4.0)).tolist()
    incoming = [np.empty(1, int), np.empty(1, int)]
    tensor.all_to_all([np.array([10 * comm.rank + i]) for i in range(2)], incoming)
    said["exchanged"] = [int(array[0]) for array in incoming]
    whole = grid(comm, all=4)["all"]
    inner = grid(whole, outer=2, inner=2)["inner"]
    before = comm.sent_bytes
    said["inner"] = [inner.ranks, inner.all_reduce(own).tolist()]
    said["nested"] = [inner.sent_bytes, whole.sent_bytes, comm.sent_bytes - before]
    return said


def wrong_grid(comm, sizes: dict) -> str:
    try:
        grid(comm, **sizes)
    except ValueError as error:
        comm.barrier()
        return str(error)
    return ""


def groups_of_one(comm) -> list:
    groups = grid(comm, data=1, tensor=comm.size)
    alone = groups["data"].all_reduce(np.array([comm.rank]))
    return [alone.item(), groups["tensor"].all_reduce(np.array([1])).item(), groups["data"].size]


def apart_in_a_group(comm, folder: str) -> None:
    """Ranks 2 and 3 form a group, and give it arrays that do not fit."""
    speak_into(folder, comm.rank)
    tensor = grid(comm, data=2, tensor=2)["tensor"]
    comm.barrier()
    (Path(folder) / "apart").touch()
    tensor.all_reduce(np.ones(5 if comm.rank == 3 else 4))
    comm.barrier()


# Calls that do not fit together: rank 1 does otherwise than the rest.


def mismatch(comm, folder: str, kind: str) -> None:
    """All ranks agree once, then come apart in a certain way, and go on."""
    speak_into(folder, comm.rank)
    comm.all_reduce(np.ones(5))
    (Path(folder) / "apart").touch()
    MISMATCHES[kind](comm, comm.rank == 1)
    if kind not in AT_THE_END:
        comm.all_reduce(np.ones(7))


def skip_one(comm, odd: bool) -> None:
    if not odd:
        comm.broadcast(np.ones(3))


def swapped(comm, odd: bool) -> None:
    calls = [lambda: comm.broadcast(np.ones(3)), lambda: comm.reduce_scatter(np.ones(3))]
    for call in reversed(calls) if odd else calls:
        call()


def lengths_of_chunks(comm, odd: bool) -> None:
    comm.all_gather(np.ones(4 if odd else 3))


def pieces(comm, odd: bool) -> None:
    """Rank 1 awaits longer pieces than the others send."""
    comm.all_to_all(
        [np.ones(2)] * comm.size, [np.ones(2 + (odd and i != 1)) for i in range(comm.size)]
    )


def long_names(comm, odd: bool) -> None:
    """A name that fills the header must not hide that the arrays differ."""
    name = "activations of a layer with a name that is longer than anybody thought it would be"
    if comm.rank == 0:
        comm.send(np.ones(2, np.float32), 1, name)
    elif comm.rank == 1:
        comm.receive(np.ones(2, np.int32), 0, name)


def never_received(source: int, to: int):
    def call(comm, odd: bool) -> None:
        if comm.rank == source:
            comm.send(np.ones(3), to, "activations")

    return call


def all_reduce(*given, **options):
    """A mismatch: the first for rank 1, the second for the rest."""

    def call(comm, odd: bool) -> None:
        array = given[0] if odd else given[1]
        comm.all_reduce(array, **{key: values[not odd] for key, values in options.items()})

    return call


def waiting(sources: dict):
    """Ranks that wait for what nobody sends."""

    def call(comm, odd: bool) -> None:
        if comm.rank in sources:
            comm.receive(np.ones(3), sources[comm.rank], "activations")

    return call


CIRCLES = {"two wait for one another": {0: 1, 1: 0},
           "three wait in a circle": {0: 1, 1: 2, 2: 0}}  # fmt: skip
ONE = np.ones(6, np.float32)
MISMATCHES = {
    "lengths": all_reduce(np.ones(5), np.ones(6)),
    "shapes of one size": all_reduce(np.ones((2, 3)), np.ones((3, 2))),
    "dtypes": all_reduce(ONE, ONE.astype(np.float64)),
    "dtypes of one size": all_reduce(ONE, ONE.astype(np.int32)),
    "an empty array": all_reduce(ONE[:0], ONE),
    "ops": all_reduce(ONE, ONE, op=(np.add, np.maximum)),
    "algorithms": all_reduce(ONE, ONE, algorithm=("ring", "tree")),
    "large arrays": all_reduce(np.ones(10**6), np.ones(10**6 + 1)),
    "roots": lambda comm, odd: comm.broadcast(np.ones(3), root=int(odd)),
    "order": swapped,
    "lengths of chunks": lengths_of_chunks,
    "pieces": pieces,
    "one call fewer": skip_one,
    "one call more": lambda comm, odd: skip_one(comm, not odd),
    "one barrier more at the end": lambda comm, odd: comm.barrier() if odd else None,
    "one barrier fewer at the end": lambda comm, odd: None if odd else comm.barrier(),
    "never received from the left": never_received(0, 1),
    "never received from the right": never_received(2, 1),
    "long names": long_names,
    **{kind: waiting(sources) for kind, sources in CIRCLES.items()},
    "one waits for what nobody sends": waiting({2: 1}),
}
AT_THE_END = {kind for kind in MISMATCHES if "at the end" in kind or "never received" in kind}


# Ranks that fail.


def failing(comm, folder: str, way: str, moment: str, others: str) -> None:
    """Rank 1 fails in a certain way before, in or after an all_reduce; the others are at work."""
    speak_into(folder, comm.rank)
    large = np.sin(np.arange(1 << 20, dtype=np.float32))

    def fail(*_) -> None:
        (Path(folder) / "apart").touch()
        WAYS[way]()

    comm.barrier()
    if moment == "after":
        comm.all_reduce(large)
    if comm.rank == 1 and moment != "in":
        time.sleep(0.5)  # the others are at it
        fail()
    if comm.rank == 1:
        signal.signal(signal.SIGALRM, fail)  # in the middle of its own all_reduce
        signal.setitimer(signal.ITIMER_REAL, 0.3)
    OTHERS[others](comm, large)


def working(comm, folder: str, others: str) -> None:
    """Say that this rank is there, and work until interrupted."""
    speak_into(folder, comm.rank)
    comm.barrier()
    (Path(folder) / f"ready {comm.rank}").touch()
    OTHERS[others](comm, np.sin(np.arange(1 << 20, dtype=np.float32)))


def killed_while_starting(comm, folder: str) -> None:
    speak_into(folder, comm.rank)
    if comm.rank == 1:
        (Path(folder) / "apart").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    long_call(comm, np.sin(np.arange(1 << 20, dtype=np.float32)))


def killed_with_a_child(comm, folder: str) -> None:
    """Rank 1 is killed while a program that it has started goes on, and holds what it inherited."""
    speak_into(folder, comm.rank)
    if comm.rank == 1:
        os.system("sleep 25 &")
        (Path(folder) / "apart").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    comm.barrier()


def ever_all_reduce(comm, large: np.ndarray) -> None:
    while True:
        comm.all_reduce(large, out=large, op=np.maximum)


def python(comm, large: np.ndarray) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(i * i for i in range(1000))


def long_call(comm, large: np.ndarray) -> None:
    """One call of many minutes, which nothing interrupts in its midst."""
    np.linalg.eigvals(np.broadcast_to(large.reshape(1024, 1024), (20, 1024, 1024)))


WAYS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": lambda: [].index("a planted error"),
    "sys.exit(0)": lambda: sys.exit(0),
    "os._exit(0)": lambda: os._exit(0),
    "os._exit(3)": lambda: os._exit(3),
}
OTHERS = {"all_reduce": ever_all_reduce, "Python": python, "NumPy": long_call}


if __name__ == "__main__":
    main(*sys.argv[1:])
