"""The overhead of one operation on 4x4 float32 with gradients on: Tensor beside PyTorch.

At this size the arithmetic costs nothing, so what is measured is the engine.

    python tests/benchmarks/operators.py
"""

from __future__ import annotations

import argparse

import numpy as np
from interleaved import medians, need

from utils import Tensor


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=2000)
    args = parser.parse_args(argv)
    torch = need("torch")
    torch.set_num_threads(1)
    values = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
    a, b = (Tensor(value, requires_grad=True) for value in values)
    c, d = (torch.tensor(value, requires_grad=True) for value in values)
    twins = {
        "a + b": (lambda: a + b, lambda: c + d),
        "a - b": (lambda: a - b, lambda: c - d),
        "a * b": (lambda: a * b, lambda: c * d),
        "a / b": (lambda: a / b, lambda: c / d),
        "a * 2.0": (lambda: a * 2.0, lambda: c * 2.0),
        "a @ b": (lambda: a @ b, lambda: c @ d),
        "-a": (lambda: -a, lambda: -c),
        "a ** 2": (lambda: a**2, lambda: c**2),
        "tanh": (lambda: np.tanh(a), lambda: torch.tanh(c)),
        "sum": (lambda: a.sum(), lambda: c.sum()),
        "reshape": (lambda: a.reshape(2, 8), lambda: c.reshape(2, 8)),
        "a[1]": (lambda: a[1], lambda: c[1]),
    }
    print(f"  {'operation':10} {'Tensor':>10} {'PyTorch':>10} {'ratio':>7}")
    for name, (ours, theirs) in twins.items():
        times = medians({"ours": ours, "theirs": theirs}, args.rounds, args.repeats)
        us, them = times["ours"] * 1e6, times["theirs"] * 1e6
        print(f"  {name:10} {us:7.2f} us {them:7.2f} us {us / them:7.2f}")


if __name__ == "__main__":
    main()
