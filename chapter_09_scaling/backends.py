"""One program for every backend: `run` calls a function as every rank of a group.

With "local" the caller starts the ranks and is none of them. With "mpi" the caller is one of them
already: mpiexec has started the whole program that often.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from typing import Any, Callable

import numpy as np

from chapter_09_scaling.communicator import Communicator, SingleProcess
from chapter_09_scaling.launch import launch
from chapter_09_scaling.mpi import PATIENCE, MPICommunicator
from utils.commandline import number, whole_number

BACKENDS = ("local", "mpi")
LAST_WORDS = 0.5  # seconds; mpiexec, told to end all, drops what it has not passed on yet


def add_flags(flags: argparse.ArgumentParser, ranks: int = 2) -> None:
    """The flags --ranks, --backend and --patience of a script."""
    flags.add_argument(
        "--backend", choices=BACKENDS, default="local", help="how the ranks reach one another"
    )
    flags.add_argument(
        "--ranks",
        type=whole_number(1, 16),
        default=ranks,
        help="how many, each a process with a core to itself; with mpi, as started",
    )
    flags.add_argument(
        "--patience",
        type=number(above=0),
        default=PATIENCE,
        help="with mpi, seconds that a rank waits for one that computes before it calls it lost",
    )


def run(
    work: Callable[..., Any],
    backend: str,
    ranks: int,
    *arguments: Any,
    patience: float = PATIENCE,
) -> list[Any] | None:
    """What work(comm, *arguments) returned on every rank; None on the ranks of MPI but the first.

    Arguments and results are what JSON can say; with "mpi", mpiexec decides how many ranks there
    are, and `patience` how long one may be silent (`MPICommunicator`); "local" sees by itself who
    is at work. Raises ValueError for another backend, RankError where a rank failed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend == "mpi":
        return run_as_rank(work, MPICommunicator(patience=patience), *arguments)
    if ranks != 1:
        return launch(work, ranks, *arguments)
    return [json.loads(json.dumps(work(SingleProcess(), *json.loads(json.dumps(arguments)))))]


def run_as_rank(work: Callable[..., Any], comm: MPICommunicator, *arguments: Any) -> list | None:
    """Be one of the ranks of MPI; an error in one ends all at once, or others would wait for it."""
    try:
        result = json.dumps(work(comm, *json.loads(json.dumps(arguments))))
        if comm.closed:
            comm = MPICommunicator(patience=comm.patience)
        comm.barrier("end of the work")
        found = collected(comm, result.encode())
    except BaseException:  # also where it would leave: the others are still at work
        sys.stderr.write(f"rank {comm.rank} has failed: {traceback.format_exc()}")
        sys.stderr.flush()
        time.sleep(LAST_WORDS)
        comm.MPI.COMM_WORLD.Abort(1)
        raise
    comm.close()
    return None if comm.rank else [json.loads(text) for text in found]


def collected(comm: Communicator, text: bytes) -> list[bytes]:
    """The texts of all ranks, on rank 0; nothing on the others."""
    lengths = comm.all_gather(np.array([len(text)]))
    own = np.frombuffer(text, np.uint8)
    if comm.rank:
        comm.send(own, 0)
        return []
    others = [comm.receive(np.empty(n, np.uint8), i) for i, n in enumerate(lengths) if i]
    return [text, *(array.tobytes() for array in others)]
