"""How the tests of chapter 9 start ranks, and find out what came of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from chapter_09_scaling import RankError, launch

ROOT = Path(__file__).resolve().parents[2]
FIND = os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT)])
WORK = ROOT / "tests" / "support" / "rank_work.py"
NO_MPI = "MPI is missing: install the distributed extra, pip install -e .[distributed]"


def environment() -> dict:
    """The variables of a process that finds this module and the chapters."""
    return {**os.environ, "PYTHONPATH": FIND}


def mpiexec() -> str | None:
    """The mpiexec of PyPI's mpich lies beside Python; else the one on the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def command(backend: str, ranks: int, name: str, *arguments) -> list:
    """How this script is started, as the chapter's README says to."""
    script = [str(WORK), backend, str(ranks), name, json.dumps(arguments)]
    if backend == "mpi":
        return [mpiexec(), "-n", str(ranks), sys.executable, "-m", "mpi4py", *script]
    return [sys.executable, *script]


def started(backend: str, ranks: int, name: str, *arguments, seconds: float = 90):
    """The finished process of this script; subprocess.TimeoutExpired if it hangs."""
    return subprocess.run(
        command(backend, ranks, name, *arguments), env=environment(), text=True, timeout=seconds,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip


def answer(done: subprocess.CompletedProcess) -> dict:
    """What the script printed; a failing test shows what it said instead."""
    assert done.stdout, f"exit status {done.returncode}, and nothing but: {done.stderr}"
    return json.loads(done.stdout)


class Outcome(NamedTuple):
    """What came of a launch: the error, what each rank said, and what is left."""

    error: str  # of launch; nothing if there was none
    said: list  # what each rank wrote on its standard error
    seconds: float  # from the moment when the ranks came apart, or one failed
    left: list  # processes

    def lines(self, rank: int) -> list:
        """The last words of a rank."""
        return [line for line in self.said[rank].splitlines() if line.startswith(f"rank {rank}: ")]


def outcome(folder: Path, work, ranks: int, *arguments) -> Outcome:
    """launch(work, ranks, folder, *arguments), where each rank begins with `speak_into`."""
    error = ""
    try:
        launch(work, ranks, str(folder), *arguments)
    except RankError as failure:
        error = str(failure)
    end, apart = time.time(), folder / "apart"
    said = [folder / f"rank {rank}" for rank in range(ranks)]
    return Outcome(
        error, [path.read_text() if path.exists() else "" for path in said],
        end - apart.stat().st_mtime if apart.exists() else 0.0, survivors(str(folder)),
    )  # fmt: skip


def speak_into(folder: str, rank: int) -> None:
    """From now on a rank's standard error is a file of its own."""
    file = os.open(Path(folder) / f"rank {rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 2)
    os.close(file)


def survivors(argument: str) -> list:
    """Processes that live and have this in their arguments, or in the name of their stderr."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            started_so = argument.encode() in (folder / "cmdline").read_bytes()
            started_so = started_so or argument in os.readlink(folder / "fd" / "2")
        except OSError:
            continue  # it has just ended, or is not ours to see
        if started_so and state != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def descriptors() -> int:
    """How many files this process has open (0 where the system does not say)."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0
