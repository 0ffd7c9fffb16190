"""Who may look at whom: True where a query (row) may look at a key (column).

A mask is an array that broadcasts to the scores (B, H, T, S). Where T queries meet S > T keys, the
queries are the last T of the S places. Masks combine with `&`.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def causal_mask(queries: int, keys: int | None = None) -> np.ndarray:
    """Each place looks at itself and what came before it: (T, S)."""
    return distances(queries, keys) >= 0


def sliding_window_mask(window: int, queries: int, keys: int | None = None) -> np.ndarray:
    """Each place looks at the last `window` places, its own counted: (T, S).

    After n layers it knows of n (window - 1) places before it. Raises ValueError, which names the
    window, for one that is not at least 1. Source: Beltagy et al., 2020, arXiv:2004.05150.
    """
    if not window >= 1:
        raise ValueError(f"a window is at least 1 wide, as each place sees itself, not {window}")
    apart = distances(queries, keys)
    return (apart >= 0) & (apart < window)


def padding_mask(lengths: Any, keys: int | None = None) -> np.ndarray:
    """Nobody looks behind the end of a sequence: lengths (B,) to (B, 1, 1, S)."""
    lengths = np.asarray(lengths)
    keys = int(lengths.max(initial=0)) if keys is None else keys
    whole = lengths.ndim == 1 and lengths.dtype.kind in "iu"
    if not whole or ((lengths < 0) | (lengths > keys)).any():
        raise ValueError(f"lengths are whole numbers from 0 to {keys}, one a sequence, "
                         f"not {lengths}")  # fmt: skip
    return (np.arange(keys) < lengths[:, None])[:, None, None]


def distances(queries: int, keys: int | None = None) -> np.ndarray:
    """How many places before each query each key stands, negative behind it: (T, S)."""
    keys = queries if keys is None else keys
    if keys < queries:
        raise ValueError(f"{queries} queries are the last of the keys, which are only {keys}")
    return np.arange(keys - queries, keys)[:, None] - np.arange(keys)


def rounded_up(length: int) -> int:
    """The next power of 2: tables of that many places serve all shorter texts."""
    return 1 << max(length - 1, 0).bit_length()


def as_bias(mask: np.ndarray | None, dtype: Any) -> np.ndarray | None:
    """What is added to scores: a floating mask is just that, a boolean one 0 or -infinity."""
    if mask is None:
        return None
    if mask.dtype.kind == "f":
        return mask.astype(dtype, copy=False)
    if mask.dtype.kind != "b":
        raise TypeError(f"a mask holds booleans, or floats that are added, not {mask.dtype}")
    return np.where(mask, 0, -np.inf).astype(dtype)
