"""All-reduce of 4 MB among two ranks: our ring on both backends, beside MPI's own Allreduce.

Each backend has processes of its own, which take turns: a few rounds of one, then of the other.

    python tests/benchmarks/all_reduce.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from interleaved import need

from chapter_09_scaling import MPICommunicator, launch

REPEATS = 20  # of each job in a round


def seconds(comm, call) -> list[float]:
    """How long each of a few calls took, all ranks beginning together."""
    found = []
    for _ in range(REPEATS):
        comm.barrier()
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return found


def on_local(comm, length: int) -> list[float]:
    array = np.ones(length, np.float32)
    out = np.empty_like(array)
    comm.all_reduce(array, out=out)
    return seconds(comm, lambda: comm.all_reduce(array, out=out))


def on_mpi(length: int) -> None:
    """Under mpiexec: print the seconds of ours and of MPI's own, as JSON."""
    comm = MPICommunicator()
    array = np.ones(length, np.float32)
    out = np.empty_like(array)
    jobs = {
        "ours, MPI": lambda: comm.all_reduce(array, out=out),
        "MPI's Allreduce": lambda: comm.comm.Allreduce(array, out),
    }
    for name, job in jobs.items():
        job()
        if not np.all(out == comm.size):
            sys.exit(f"{name}: the sum is wrong")
    found = {name: seconds(comm, job) for name, job in jobs.items()}
    if comm.rank == 0:
        print(json.dumps(found))


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--length", type=int, default=1_000_000, help="float32 numbers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--under-mpi", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    need("mpi4py")
    if args.under_mpi:
        on_mpi(args.length)
        return
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", str(args.ranks),
               sys.executable, "-m", "mpi4py", __file__, "--under-mpi",
               "--length", str(args.length)]  # fmt: skip
    times: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        found = {"ours, local": launch(on_local, args.ranks, args.length)[0]}
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        for name, values in {**found, **json.loads(said)}.items():
            times.setdefault(name, []).extend(values)
    print(f"all-reduce of {args.length * 4 / 1e6:g} MB on {args.ranks} ranks, one call:")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"  {name:18} {value * 1e3:8.2f} ms")
    *ours, twin = medians
    for name in ours:
        print(f"  {name} / {twin} = {medians[name] / medians[twin]:.2f}")


if __name__ == "__main__":
    main()
