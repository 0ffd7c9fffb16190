"""One rank: the process that `launch` starts. It calls the function it is told to, and reports."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import traceback
from typing import Any, Callable

from chapter_09_scaling.communicator import RankError
from chapter_09_scaling.link import Link
from chapter_09_scaling.local import LocalCommunicator

SETTINGS = "DLFP_RANK"  # the environment variable by which a process knows which rank it is


def main() -> int:
    """Be the rank that the environment says; the exit status."""
    settings = json.loads(os.environ.pop(SETTINGS))
    os.chdir(settings["folder"])
    file, length = settings["arguments"]
    arguments = json.loads(os.pread(file, length, 0))
    comm = communicator(settings)
    signal.signal(signal.SIGUSR1, comm.raise_failure)
    try:
        work = find(settings["work"])
        comm.at_work = True
        result = work(comm, *arguments)
        json.dumps(result)  # what cannot be said is this rank's error
        if not comm.closed:
            comm.barrier("end of the work")
            comm.check_all_received()
        comm.end(result=result)
    except BaseException as error:
        comm.at_work = False
        said = described(error, comm.rank)
        told = f"{said}\n" if isinstance(error, RankError) else traceback.format_exc()
        sys.stderr.write(f"rank {comm.rank}: {told}")
        sys.stderr.flush()
        comm.end(**({} if comm.failure else {"error": said}))
        return 1
    return 0


def communicator(settings: dict[str, Any]) -> LocalCommunicator:
    """What a rank was given, none of which it hands on to programs that it starts itself."""
    watcher = socket.socket(fileno=settings["watcher"])
    links = {}
    for other, descriptor, memory in settings["links"]:
        os.set_inheritable(descriptor, False)
        links[other] = Link(socket.socket(fileno=descriptor), memory, settings["rank"] < other)
    os.set_inheritable(settings["watcher"], False)
    os.close(settings["arguments"][0])
    return LocalCommunicator(settings["rank"], links, watcher)


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


def described(error: BaseException, rank: int) -> str:
    """What happened to a rank, in one line."""
    said = " ".join(str(error).split())
    if isinstance(error, RankError):
        return said
    if isinstance(error, SystemExit):
        return f"rank {rank} has left with exit status {error.code} before its work was done"
    return f"rank {rank} has failed: {type(error).__name__}: {said}"
