"""Ranks in rows and columns: groups within a group, one along each axis.

Twelve ranks may be three copies of a model that is cut among four. Who holds the same part forms a
group that adds up gradients; who shares a copy forms one that passes activations. Which axis comes
last matters where machines are many: its groups are of neighbours.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

from chapter_09_scaling.communicator import Combine, Communicator, Parcel


class Subgroup(Communicator):
    """Some ranks of a group as a group of their own, numbered in the order given.

    Its messages travel over the larger group, whose counter sees their bytes too.
    """

    def __init__(self, parent: Communicator, ranks: Sequence[int]) -> None:
        ranks = [int(rank) for rank in ranks]
        known = set(ranks) <= set(range(parent.size))
        if len(set(ranks)) < len(ranks) or parent.rank not in ranks or not known:
            raise ValueError(f"rank {parent.rank} of {parent.size} makes a group of different "
                             f"ranks with itself among them, not {ranks}")  # fmt: skip
        super().__init__(ranks.index(parent.rank), len(ranks))
        self.parent, self.ranks = parent, ranks

    def transfer(
        self, sent: Parcel | None, taken: Parcel | None, combine: Combine | None = None
    ) -> None:
        if sent is not None:
            self.parent.sent_bytes += sent.array.nbytes  # it does not pass its `exchange`
            sent = sent._replace(rank=self.ranks[sent.rank])
        if taken is not None:
            taken = taken._replace(rank=self.ranks[taken.rank])
        self.parent.transfer(sent, taken, combine)


def grid(comm: Communicator, **sizes: int) -> dict[str, Subgroup]:
    """The groups that a rank belongs to, one for each axis of a grid of all ranks.

    grid(comm, data=3, tensor=4): ranks 0 to 3 are the first copy, 0, 4 and 8 hold the same part.
    Raises ValueError where the sizes do not make up all ranks.
    """
    if not sizes or math.prod(sizes.values()) != comm.size or min(sizes.values()) < 1:
        given = " x ".join(f"{size} {name}" for name, size in sizes.items()) or "nothing"
        raise ValueError(f"{comm.size} ranks cannot be arranged as {given}")
    ranks = np.arange(comm.size).reshape(tuple(sizes.values()))
    place = np.argwhere(ranks == comm.rank)[0]
    groups = {}
    for axis, name in enumerate(sizes):
        line = tuple(slice(None) if i == axis else k for i, k in enumerate(place))
        groups[name] = Subgroup(comm, ranks[line])
    return groups
