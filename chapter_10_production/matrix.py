"""A matrix that is only read: what is left of a layer when nothing is learnt any more.

Inference asks three things of a weight: its product with a few vectors, some of its rows (the
embedding of a token is one), and how much memory it takes. Whatever answers these may stand in a
model, in whatever form its numbers are kept (`quantization.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Matrix:
    """Numbers (out, in) in float32, as they were learnt, kept as `columns` (in, out).

    A few rows times tall columns is the product that a library does fastest: as it copies the
    matrix into its own order before it multiplies, that order should be near.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.columns = np.ascontiguousarray(array.T)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.columns.T.shape

    @property
    def nbytes(self) -> int:
        return self.columns.nbytes

    def apply(self, x: np.ndarray) -> np.ndarray:
        """The matrix times each row of x: (N, in) to (N, out)."""
        return x @ self.columns

    def rows(self, ids: Any) -> np.ndarray:
        """Rows by number, in float32: (n, in)."""
        return self.columns.T[ids]

    def dense(self) -> np.ndarray:
        """All of it in float32: (out, in)."""
        return self.columns.T

    def state(self, name: str) -> dict[str, np.ndarray]:
        """Its arrays by name, as a file keeps them."""
        return {name: np.ascontiguousarray(self.dense())}
