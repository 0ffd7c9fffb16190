"""A matrix that is only read: what is left of a layer when nothing is learnt any more.

Inference asks three things of a weight: its product with a few vectors, some of its rows (the
embedding of a token is one), and how much memory it takes. Whatever answers these may stand in a
model, in whatever form its numbers are kept (`quantization.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Matrix:
    """Numbers (out, in) in float32, as they were learnt."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def apply(self, x: np.ndarray) -> np.ndarray:
        """The matrix times each row of x: (N, in) to (N, out)."""
        # Few columns beside a tall matrix are multiplied faster than few rows before a wide one.
        return np.matmul(self.array, x.T).T

    def rows(self, ids: Any) -> np.ndarray:
        """Rows by number, in float32: (n, in)."""
        return self.array[ids]

    def dense(self) -> np.ndarray:
        """All of it in float32: (out, in)."""
        return self.array

    def state(self, name: str) -> dict[str, np.ndarray]:
        """Its arrays by name, as a file keeps them."""
        return {name: self.array}
