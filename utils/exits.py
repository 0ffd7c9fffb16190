"""The ways out of the graph: what leaves it silently elsewhere raises here."""

from __future__ import annotations

from typing import Any

import numpy as np


class Exits:
    """Conversions of a Tensor to plain values.

    `item()` and `tolist()` are meant as exits, as `data` and `detach()` are. What Python and NumPy
    call on their own would lose a gradient unseen, so it raises while one is required.
    """

    __slots__ = ()

    def item(self) -> float:
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def __bool__(self) -> bool:
        return bool(self.array)

    def __float__(self) -> float:
        return float(self._outside_the_graph("float()"))

    def __int__(self) -> int:
        return int(self._outside_the_graph("int()"))

    def __index__(self) -> int:
        return self._outside_the_graph("an index").__index__()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        array = self._outside_the_graph("np.asarray() or a NumPy function without a rule")
        return np.array(array, dtype) if copy else np.asarray(array, dtype)

    def _outside_the_graph(self, what: str) -> np.ndarray:
        if self.requires_grad:
            raise TypeError(
                f"{what} would drop the gradient of this Tensor of shape {self.shape}: "
                "use .data, .item() or .detach() if that is meant"
            )
        return self.array

    def __format__(self, spec: str) -> str:
        """`f"{loss:.4f}"` for a single number; several have no format."""
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        values = np.array2string(self.array, separator=", ", prefix="Tensor(")
        gradient = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({values}, dtype={self.dtype}{gradient})"
