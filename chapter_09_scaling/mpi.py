"""The same group over MPI: the ranks of an `mpiexec`, on one machine or on many.

mpiexec -n 4 python -m mpi4py chapter_09_scaling/data_parallel.py --backend mpi

MPI starts the processes, finds the fastest way between them, and ends all when one has failed; run
by `-m mpi4py`, an error in one rank is such a failure. What goes over it are our messages, header
and bytes, so that collectives, checks and counts are those of every backend.
Source: MPI: A Message-Passing Interface Standard, version 4.0, 2021; mpi4py: Dalcin, Fang, 2021,
doi:10.1109/MCSE.2021.3083216.
"""

from __future__ import annotations

import time
from typing import Any, Sequence

import numpy as np

from chapter_09_scaling.communicator import HEADER, Combine, Communicator, Parcel, RankError

PATIENCE = 1800.0  # seconds, which others may well spend on their work
EAGER = 1000  # looks without a pause: messages on one machine take less
PAUSE = 5e-5  # seconds between two looks afterwards
INSTALL = "pip install mpi4py mpich (the extra 'distributed')"


def load_mpi() -> Any:
    """The module mpi4py.MPI; ImportError, with what to do, where it or MPI itself is missing."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"the backend mpi needs mpi4py and an MPI library ({error}): {INSTALL}"
        ) from error
    return MPI


class MPICommunicator(Communicator):
    """A rank of an MPI communicator, by default of all there are.

    Raises RankError where another rank has sent nothing for `patience` seconds in which this one
    waited. MPI ends all ranks by itself when one has died; this is for ranks that wait for one
    another, and nobody can tell these from ranks that compute for long. So it must be more than
    any of them computes while another waits, an evaluation by rank 0, say; math.inf is no limit.
    """

    def __init__(self, comm: Any = None, patience: float = PATIENCE) -> None:
        if not patience > 0:
            raise ValueError(f"patience is a number of seconds above 0, not {patience}")
        self.MPI = load_mpi()
        # A copy, so that nobody else's messages come between ours.
        self.comm = (self.MPI.COMM_WORLD if comm is None else comm).Dup()
        self.patience = patience
        self.closed = False
        super().__init__(self.comm.Get_rank(), self.comm.Get_size())

    def transfer(
        self, sent: Parcel | None, taken: Parcel | None, combine: Combine | None = None
    ) -> None:
        if self.closed:
            raise RankError(f"rank {self.rank} has closed its group")
        requests = []
        if sent is not None:
            header = sent.message.packed()
            requests.append(self.comm.Isend([header, self.MPI.BYTE], sent.rank))
            requests.append(self.comm.Isend([_bytes(sent.array), self.MPI.BYTE], sent.rank))
        if taken is not None:
            header = bytearray(HEADER.size)
            came = self.comm.Irecv([header, self.MPI.BYTE], taken.rank)
            self._wait([came], taken)
            taken.message.check(bytes(header), self.rank, taken.rank)
            into = taken.array if combine is None else np.empty_like(taken.array)
            self._wait([self.comm.Irecv([_bytes(into), self.MPI.BYTE], taken.rank)], taken)
            if combine is not None:
                combine(taken.array, into, out=taken.array)
        self._wait(requests, sent)

    def _wait(self, requests: Sequence[Any], parcel: Parcel | None) -> None:
        begin, looks = time.monotonic(), 0
        while not self.MPI.Request.Testall(requests):
            looks += 1
            if looks > EAGER:
                time.sleep(PAUSE)
                if time.monotonic() - begin > self.patience:
                    raise RankError(f"rank {parcel.rank} has been silent for {self.patience:g} s "
                                    f"in {parcel.message}: if it is at work all the while, give "
                                    "the ranks more patience")  # fmt: skip

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.comm.Free()


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)
