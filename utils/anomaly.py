"""Finding the operation that first made a NaN or infinity, or whose saved arrays were changed."""

from __future__ import annotations

import contextlib
import sys
import zlib
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from utils.graph import Node
from utils.modes import record_with

# NumPy before 1.25 dispatches in a file that does not exist.
INSIDE = (str(Path(__file__).parent), str(Path(np.__file__).parent), "<__array_function__")


class WatchedNode(Node):
    """A node that remembers where it was made and what its saved arrays held."""

    __slots__ = ("place", "checksums")

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.place = _caller()
        self.checksums = [_checksum(a) for a in self._watched()]

    def _watched(self) -> Iterator[np.ndarray]:
        return _arrays((self.saved, *(self.keywords or {}).values()))

    @staticmethod
    def inspect(name: str, arrays: Sequence, y: np.ndarray) -> None:
        """Raise if `y` holds a NaN or an infinity that none of the arguments held."""
        made = _new_trouble(arrays, y)
        if made:
            raise FloatingPointError(f"{name} made {made}, called from {_caller()}")

    def gradients(self, g, wanted, lift):
        for array, before in zip(self._watched(), self.checksums):
            if _checksum(array) != before:
                raise RuntimeError(
                    f"an array of shape {array.shape} that the gradient of {self.operation.name} "
                    f"(called from {self.place}) needs was changed in place after the forward pass"
                )
        found = super().gradients(g, wanted, lift)
        for _, gradient in found:
            made = _new_trouble([getattr(g, "array", g)], getattr(gradient, "array", gradient))
            if made:
                raise FloatingPointError(
                    f"the gradient of {self.operation.name}, called from {self.place}, made {made}"
                )
        return found


def detect_anomaly() -> contextlib.AbstractContextManager[None]:
    """Raise at the first operation, forward or backward, that makes a NaN or an infinity.

    It is named with the line that called it (FloatingPointError). Arrays that the backward pass
    needs and that were changed in place are found too (RuntimeError). Slow: for finding faults.
    """
    return record_with(WatchedNode)


def _new_trouble(before: Sequence, after: np.ndarray) -> str | None:
    before = [a for a in map(np.asarray, before) if a.dtype.kind == "f"]
    if np.isnan(after).any() and not any(np.isnan(a).any() for a in before):
        return "a NaN"
    if np.isinf(after).any() and all(np.isfinite(a).all() for a in before):
        return "an infinity"
    return None


def _arrays(saved: Any) -> Iterator[np.ndarray]:
    """The arrays among what a node saved, those that a kernel's backward encloses included."""
    if isinstance(saved, np.ndarray):
        yield saved
    elif isinstance(saved, (tuple, list)):
        for item in saved:
            yield from _arrays(item)
    elif callable(saved):
        for cell in getattr(saved, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # a variable that was never assigned
                if not callable(cell.cell_contents):
                    yield from _arrays(cell.cell_contents)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def _caller() -> str:
    """The nearest line outside the engine and NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
