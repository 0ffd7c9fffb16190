"""Chapter 9: many processes for one model, and one machine for more of it."""

from __future__ import annotations

from chapter_09_scaling.backends import run
from chapter_09_scaling.communicator import Communicator, RankError, SingleProcess
from chapter_09_scaling.grid import grid
from chapter_09_scaling.launch import launch
from chapter_09_scaling.local import LocalCommunicator
from chapter_09_scaling.mpi import MPICommunicator
from chapter_09_scaling.replicas import DataParallel
from chapter_09_scaling.sharding import ZeRO, sharded
from chapter_09_scaling.shared_batches import SharedBatches, shared

__all__ = [
    "Communicator",
    "DataParallel",
    "LocalCommunicator",
    "MPICommunicator",
    "RankError",
    "SharedBatches",
    "SingleProcess",
    "ZeRO",
    "grid",
    "launch",
    "run",
    "sharded",
    "shared",
]
