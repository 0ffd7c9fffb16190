"""Keeping freed memory with the process, where fresh memory is dear.

A training step frees and asks again for the same large arrays. glibc gives such memory back to the
system at once, and takes it anew page by page, each filled with zeros at the first touch, which
costs as much as the arithmetic. Told to keep it, the heap hands the same pages out again.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # of malloc.h
LARGEST_MMAP_THRESHOLD = 32 << 20  # more, glibc refuses
KEPT = 1 << 30


def keep_memory() -> bool:
    """Keep up to a gigabyte of freed memory, for the rest of the process; True if that worked.

    Arrays of 32 MiB and more still come from the system. Other C libraries than glibc are left as
    they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Windows, macOS, musl
        return False
    # One heap for all threads: only that of the first is kept.
    settings = {MMAP_THRESHOLD: LARGEST_MMAP_THRESHOLD, TRIM_THRESHOLD: KEPT, ARENA_MAX: 1}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
