"""A recurrent layer as one node: the cell's step for every token, and back through time.

Composed, each step is a dozen nodes. By hand the loop stays, but what does not depend on the step
before is taken out of it: the products with the inputs before the loop, the gradient of the
recurrent weight, one product over all steps, after it.
"""

from __future__ import annotations

from typing import Iterator

import numpy as np

from chapter_06_hierarchical.cells import CELLS
from utils import Tensor, kernel
from utils.primitives import total


def recur_composed(x, weight, bias, *states, cell: str, batch_sizes) -> Tensor:
    step, steps = CELLS[cell].step, []
    for rows in rows_of_steps(batch_sizes):
        states = [state[: rows.stop - rows.start] for state in states]
        r = states[0] @ weight.T
        states, _ = step(x[rows], r if bias is None else r + bias, *states)
        steps.append(np.stack(states))
    return np.concatenate(steps, axis=1)


@kernel(composed=recur_composed)
def recur(x, weight, bias, *states, cell, batch_sizes):
    """The states after every token: (states, N, H), the output h first.

    What the inputs say to the gates, x (N, gates H), packed (`packed.py`); weight (gates H, H) and
    bias (gates H) or None of what the memory says; the first states (B, H).
    """
    step, backward_of_step = CELLS[cell].step, CELLS[cell].backward
    steps = list(rows_of_steps(batch_sizes))
    y = np.empty((len(states), len(x), weight.shape[1]), x.dtype)
    before, needed, shapes = np.empty_like(y[0]), [], [state.shape for state in states]
    for rows in steps:
        states = [state[: rows.stop - rows.start] for state in states]
        before[rows] = states[0]
        r = states[0] @ weight.T
        if bias is not None:
            r += bias
        states, kept = step(x[rows], r, *states)
        y[:, rows] = states
        needed.append(kept)

    def backward(g, wanted):
        """From g (states, N, H) to the gradients of all arguments; None where not wanted."""
        dx, dr = np.empty_like(x), np.empty_like(x)
        d_states = [np.zeros(shape, x.dtype) for shape in shapes]
        for rows, kept in zip(reversed(steps), reversed(needed)):
            going_on = [d[: rows.stop - rows.start] for d in d_states]
            for d, arriving in zip(going_on, g[:, rows]):
                d += arriving
            dx[rows], dr[rows], *found = backward_of_step(*going_on, *kept)
            going_on[0][...] = dr[rows] @ weight + found[0]
            for d, new in zip(going_on[1:], found[1:]):
                d[...] = new
        d_weight = dr.T @ before if wanted[1] else None
        d_bias = total(dr, axis=0) if wanted[2] else None
        return (dx, d_weight, d_bias, *d_states)

    return y, backward


def rows_of_steps(batch_sizes: np.ndarray) -> Iterator[slice]:
    """Where the tokens of each step stand in packed data."""
    start = 0
    for size in batch_sizes:
        yield slice(start, start + size)
        start += size
