"""One rank: the process that `launch` starts. It calls the function it is told to, and reports."""

from __future__ import annotations

import importlib
import importlib.util
import json
import signal
import sys
import traceback
from typing import Any, Callable

from chapter_09_scaling.communicator import RankError
from chapter_09_scaling.local import LocalCommunicator


def find(target: str) -> Callable[..., Any]:
    """The function that `module:name` or `file.py:name` names."""
    place, _, name = target.rpartition(":")
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), name)
    spec = importlib.util.spec_from_file_location("work_of_ranks", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules["work_of_ranks"] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def main(target: str, arguments: str) -> int:
    comm = LocalCommunicator.from_environment()
    signal.signal(signal.SIGUSR1, comm.raise_failure)
    try:
        work = find(target)
        comm.at_work = True
        result = work(comm, *json.loads(arguments))
        comm.barrier()  # who has more to say to the others than they want to hear finds out
        comm.report(result=result)
    except Exception as error:
        comm.at_work = False
        said = described(error, comm.rank)
        if comm.failure is None:
            comm.report(error=said)
        told = f"{said}\n" if isinstance(error, RankError) else traceback.format_exc()
        sys.stderr.write(f"rank {comm.rank}: {told}")
        return 1
    finally:
        comm.at_work = False
        comm.close()
    return 0


def described(error: Exception, rank: int) -> str:
    """What happened to a rank, in one line."""
    said = " ".join(str(error).split())
    if isinstance(error, RankError):
        return said
    return f"rank {rank} has failed: {type(error).__name__}: {said}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
