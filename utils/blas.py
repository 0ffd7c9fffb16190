"""How many threads NumPy's matrix products use: a setting of the library behind them.

NumPy's wheels bring OpenBLAS, which shares every large product among all cores. A program that has
threads of its own wants each of them to work alone, and must say so to OpenBLAS itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from pathlib import Path
from typing import Iterator

import numpy as np

FOLDERS = ("../numpy.libs", ".dylibs", ".libs")  # beside NumPy: Linux, macOS, Windows
NAMES = [
    f"{prefix}openblas_{{}}_num_threads{suffix}"
    for prefix in ("scipy_", "")
    for suffix in ("64_", "")
]


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[bool]:
    """Let matrix products use so many threads inside the block; False where that cannot be set.

    The setting is the whole process's. Other libraries than OpenBLAS are left as they are.
    """
    functions = _openblas()
    if functions is None:
        yield False
        return
    get, put = functions
    before = get()
    put(count)
    try:
        yield True
    finally:
        put(before)


@functools.lru_cache(maxsize=1)
def _openblas():
    """The functions that get and set the number, None where there are none."""
    package = Path(np.__file__).parent
    for folder in FOLDERS:
        for path in sorted((package / folder).glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for name in NAMES:
                if hasattr(library, name.format("set")):
                    return [getattr(library, name.format(verb)) for verb in ("get", "set")]
    return None
