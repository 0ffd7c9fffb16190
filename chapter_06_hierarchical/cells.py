"""One step of a recurrent network: what is remembered, given what was and what comes.

Each cell is a step and, beside it, its gradient by hand. A step takes what the input says to the
gates, x (B, gates H), what the memory says, r (B, gates H), and the memory itself; NumPy is the
language, so the same lines run on arrays and on Tensors. Gates are in PyTorch's order.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np

from chapter_03_neural_nets import relu, sigmoid


class Cell(NamedTuple):
    """How many gates and states a cell has, its step, and the gradient of the step.

    `step(x, r, *states)` returns the new states, the output h first, and what `backward` needs;
    `backward(gradients of the new states, *needed)` returns the gradients of x, r and the states.
    """

    gates: int
    states: int
    step: Callable[..., tuple]
    backward: Callable[..., tuple]


def parts(a: Any, count: int) -> list:
    """The numbers of each gate: (B, count H) to so many (B, H)."""
    size = a.shape[-1] // count
    return [a[..., i * size : (i + 1) * size] for i in range(count)]


def tanh_step(x, r, h):
    """h = tanh(x + r). Source: Elman, 1990, doi:10.1207/s15516709cog1402_1."""
    h = np.tanh(x + r)
    return (h,), (h,)


def tanh_backward(dh, h):
    d = dh * (1 - h * h)
    return d, d, 0


def relu_step(x, r, h):
    """h = max(x + r, 0)."""
    h = relu(x + r)
    return (h,), (h,)


def relu_backward(dh, h):
    d = dh * (h > 0)
    return d, d, 0


def lstm_step(x, r, h, c):
    """c = f c + i g is carried on by adding, h = o tanh(c) is what is said of it.

    Source: Hochreiter and Schmidhuber, 1997, doi:10.1162/neco.1997.9.8.1735; the gate f: Gers et
    al., 2000, doi:10.1162/089976600300015015.
    """
    i, f, g, o = parts(x + r, 4)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    new = f * c + i * g
    shown = np.tanh(new)
    return (o * shown, new), (i, f, g, o, c, shown)


def lstm_backward(dh, dc, i, f, g, o, c, shown):
    """The gradients of x, r, h (0: it is seen in r alone) and c, from those of the new h and c."""
    dc = dc + dh * o * (1 - shown * shown)
    d = np.concatenate(
        [
            dc * g * i * (1 - i),
            dc * c * f * (1 - f),
            dc * i * (1 - g * g),
            dh * shown * o * (1 - o),
        ],
        axis=-1,
    )
    return d, d, 0, dc * f


def gru_step(x, r, h):
    """h = (1 - update) n + update h, where n is what the input and a part of h propose.

    Source: Cho et al., 2014, arXiv:1406.1078.
    """
    x_reset, x_update, x_new = parts(x, 3)
    r_reset, r_update, r_new = parts(r, 3)
    reset, update = sigmoid(x_reset + r_reset), sigmoid(x_update + r_update)
    n = np.tanh(x_new + reset * r_new)
    return (n + update * (h - n),), (reset, update, n, r_new, h)


def gru_backward(dh, reset, update, n, r_new, h):
    d_new = dh * (1 - update) * (1 - n * n)
    d_update = dh * (h - n) * update * (1 - update)
    d_reset = d_new * r_new * reset * (1 - reset)
    dx = np.concatenate([d_reset, d_update, d_new], axis=-1)
    dr = np.concatenate([d_reset, d_update, d_new * reset], axis=-1)
    return dx, dr, dh * update


CELLS = {
    "tanh": Cell(1, 1, tanh_step, tanh_backward),
    "relu": Cell(1, 1, relu_step, relu_backward),
    "lstm": Cell(4, 2, lstm_step, lstm_backward),
    "gru": Cell(3, 1, gru_step, gru_backward),
}
