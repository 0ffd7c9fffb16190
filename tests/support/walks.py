"""One number, and an optimiser that walks it by gradients that are given."""

from __future__ import annotations

import numpy as np

from chapter_03_neural_nets import Parameter


def number(value=0.0, dtype=np.float64):
    return Parameter(np.array([value], dtype))


def walk(optimizer, p, gradients):
    """The values of p after each step."""
    seen = []
    for g in gradients:
        p.grad = np.array([g], p.dtype)
        optimizer.step()
        seen.append(p.data.item())
    return seen
