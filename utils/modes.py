"""Whether operations are recorded: a setting that each thread has for itself."""

from __future__ import annotations

import contextlib
import threading
from typing import Iterator

from utils.graph import Node


class _Mode(threading.local):
    """`node_class` is what records an operation: `Node`, a subclass that watches it, or None."""

    node_class: type[Node] | None = Node


mode = _Mode()


@contextlib.contextmanager
def record_with(node_class: type[Node] | None) -> Iterator[None]:
    """Record this thread's operations with `node_class`, or not at all, inside the block."""
    before = mode.node_class
    mode.node_class = node_class
    try:
        yield
    finally:
        mode.node_class = before


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Build no graph inside the block (or the decorated function), in this thread only.

    Results do not require gradients, so nothing is kept for a backward pass.
    """
    return record_with(None)


def recording() -> contextlib.AbstractContextManager[None]:
    """Record again inside a block without gradients: a kernel's backward may build graphs."""
    return record_with(mode.node_class or Node)
