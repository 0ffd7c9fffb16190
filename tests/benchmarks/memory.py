"""How much memory graphs take: chains of operations on arrays of 4 MiB, forward and backward.

What no rule names is freed at once. An add needs nothing for its gradient; an exp keeps its output.

    python tests/benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import tracemalloc

import numpy as np

from utils import Tensor

MIB = 2**20


def peak(operation, length: int) -> float:
    """The most MiB that a chain holds at any time, its input and the gradient included."""
    tracemalloc.start()
    x = Tensor(np.ones(MIB, np.float32), requires_grad=True)
    y = x
    for _ in range(length):
        y = operation(y, x)
    y.sum().backward()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / MIB


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=50)
    args = parser.parse_args(argv)
    chains = {
        "y + 1": lambda y, x: y + 1.0,
        "y + x": lambda y, x: y + x,
        "y - x": lambda y, x: y - x,
        "y * 0.5": lambda y, x: y * 0.5,
        "tanh(y)": lambda y, x: np.tanh(y),
    }
    for name, operation in chains.items():
        print(
            f"  {args.length} times {name:8} on 4 MiB: peak {peak(operation, args.length):6.1f} MiB"
        )


if __name__ == "__main__":
    main()
