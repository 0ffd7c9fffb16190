"""Batches: a shuffled walk through the data that can be left and taken up again."""

from __future__ import annotations

import zlib
from typing import Any, Iterator

import numpy as np

from utils.seeding import generator

LOOKED_AT = 1000  # rows, evenly spaced, by which data is known again


class Batches:
    """An endless iterator over the rows of arrays, in a new random order every epoch.

    Yields one array for each of `arrays`, the same rows of all. The last batch of an epoch is
    smaller where the batch size does not divide the rows, or is left out with `drop_last`.
    `len` is the number of batches in an epoch; `state_dict` is where the walk stands.
    Raises ValueError for arrays of different lengths or without rows.
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int = 64,
        shuffle: bool = True,
        drop_last: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.arrays = [np.asarray(a) for a in arrays]
        lengths = {len(a) if a.ndim else 0 for a in self.arrays}
        if len(lengths) != 1 or lengths == {0}:
            shapes = " and ".join(str(a.shape) for a in self.arrays) or "no arrays"
            raise ValueError(f"batches need arrays of the same length, at least 1, not {shapes}")
        (self.rows,) = lengths
        most = self.rows if drop_last else np.inf
        if not (isinstance(batch_size, (int, np.integer)) and 1 <= batch_size <= most):
            raise ValueError(f"no batch of {batch_size} can be made of {self.rows} rows")
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.rng = rng
        self.epoch, self.position = 0, 0
        self._begin_epoch(self._draw_seed())

    def _draw_seed(self) -> int:
        return int(generator(self.rng).integers(2**63)) if self.shuffle else 0

    def _begin_epoch(self, seed: int) -> None:
        # An order that follows from one number, so that the state is small.
        self.seed = seed
        rows = np.arange(self.rows)
        self.order = np.random.default_rng(seed).permutation(rows) if self.shuffle else rows

    def _checksum(self) -> int:
        checksum = 0
        for a in self.arrays:
            checksum = zlib.crc32(f"{a.shape} {a.dtype}".encode(), checksum)
            if a.dtype.kind != "O":  # of objects only addresses are at hand
                some = a[:: max(self.rows // LOOKED_AT, 1)]
                checksum = zlib.crc32(some.tobytes(), checksum)
        return checksum

    def __len__(self) -> int:
        whole, rest = divmod(self.rows, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        return self

    def __next__(self) -> tuple[np.ndarray, ...]:
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
            self._begin_epoch(self._draw_seed())
        start = self.position * self.batch_size
        chosen = self.order[start : start + self.batch_size]
        self.position += 1
        return tuple(a[chosen] for a in self.arrays)

    def state_dict(self) -> dict[str, int]:
        """The epoch, the seed of its order, how many batches have been given, and of what data."""
        state = {"epoch": self.epoch, "seed": self.seed, "position": self.position}
        return {**state, "data": self._checksum()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken; ValueError for a place in other data."""
        if not 0 <= state["position"] <= len(self):
            raise ValueError(f"an epoch has {len(self)} batches: none at {state['position']}")
        if state.get("data") != self._checksum():
            raise ValueError("this is a place in other data: its rows were not these")
        self.epoch, self.position = state["epoch"], state["position"]
        self._begin_epoch(state["seed"])
