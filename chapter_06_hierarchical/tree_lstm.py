"""The LSTM on trees: a memory for every node, made from those of its children.

What the children say, h, is added up for the gates in, new and out; each child has a forget gate of
its own, so that a node may keep the one memory and drop the other. A chain is a tree in which every
node has one child, and on it this is the LSTM, number by number. The gates are in its order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_03_neural_nets import Module, Parameter, sigmoid, uniform_
from chapter_05_gradient_mastery import linear
from chapter_06_hierarchical.cells import parts
from chapter_06_hierarchical.forest import Forest
from utils import Tensor, kernel
from utils.primitives import scatter_add


def tree_lstm_composed(x, weight, *, forest: Forest) -> Tensor:
    size = weight.shape[1]
    w_forget = forget_rows(weight)
    h = c = np.zeros((0, size), x.dtype)
    for nodes, children, _ in forest.levels():
        own = forest.parents[children] - nodes.start
        below, shape = h[children], (nodes.stop - nodes.start, size)
        said = scatter_add(below, own, shape)
        i, f, g, o = parts(x[nodes], 4)
        r_i, _, r_g, r_o = parts(said @ weight.T, 4)
        forget = sigmoid(f[own] + below @ w_forget.T)
        kept = scatter_add(forget * c[children], own, shape)
        memory = sigmoid(i + r_i) * np.tanh(g + r_g) + kept
        h = np.concatenate([h, sigmoid(o + r_o) * np.tanh(memory)])
        c = np.concatenate([c, memory])
    return h


@kernel(composed=tree_lstm_composed)
def tree_lstm(x, weight, *, forest):
    """What every node says, h (N, H), from what its symbol says to the gates, x (N, 4 H).

    weight (4 H, H): what the children's h say to the gates in, forget, new and out.
    """
    size, levels = weight.shape[1], list(forest.levels())
    w_forget = forget_rows(weight)
    # By node: what it says, its memory, that memory shown, what its children said, and the gate of
    # its parent towards it.
    h, c, shown, said, forget = (np.zeros((len(x), size), x.dtype) for _ in range(5))
    gates = np.empty_like(x)
    for nodes, children, starts in levels:
        z = x[nodes].copy()
        if len(children):
            said[nodes] = np.add.reduceat(h[children], starts)
            f = x[forest.parents[children], size : 2 * size] + h[children] @ w_forget.T
            forget[children] = sigmoid(f)
            c[nodes] = np.add.reduceat(forget[children] * c[children], starts)
            z += said[nodes] @ weight.T
        i, f, g, o = parts(z, 4)
        i[...], g[...], o[...] = sigmoid(i), np.tanh(g), sigmoid(o)
        c[nodes] += i * g
        shown[nodes] = np.tanh(c[nodes])
        h[nodes], gates[nodes] = o * shown[nodes], z

    def backward(d, wanted):
        """From d (N, H), the gradient of h, to those of x and weight; the latter if wanted."""
        dh, dc = d.copy(), np.zeros_like(c)
        dx, d_forget = np.zeros_like(x), np.zeros_like(h)
        for nodes, children, starts in reversed(levels):
            i, _, g, o = parts(gates[nodes], 4)
            dc[nodes] += dh[nodes] * o * (1 - shown[nodes] ** 2)
            di, df, dg, do = parts(dx[nodes], 4)
            di[...] = dc[nodes] * g * i * (1 - i)
            dg[...] = dc[nodes] * i * (1 - g * g)
            do[...] = dh[nodes] * shown[nodes] * o * (1 - o)
            if len(children):
                parents, f = forest.parents[children], forget[children]
                dc[children] = dc[parents] * f
                d_forget[children] = dc[parents] * c[children] * f * (1 - f)
                d_said = dx[nodes] @ weight
                dh[children] += d_said[parents - nodes.start] + d_forget[children] @ w_forget
                df[...] = np.add.reduceat(d_forget[children], starts)
        if not wanted[1]:
            return (dx,)
        d_weight = dx.T @ said
        forget_rows(d_weight)[...] = d_forget.T @ h
        return dx, d_weight

    return h, backward


def forget_rows(weight):
    """The rows of a weight (4 H, H) for the forget gate: (H, H)."""
    return weight[weight.shape[1] : 2 * weight.shape[1]]


class TreeLSTM(Module):
    """h of every node of a forest, (N, hidden_size), from vectors of its symbols, (N, input_size).

    Source: Tai et al., 2015 (child-sum), arXiv:1503.00075.
    """

    def __init__(
        self, input_size: int, hidden_size: int, rng: np.random.Generator | None = None
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        gates, bound = 4 * hidden_size, hidden_size**-0.5
        for name, shape in {
            "weight_ih": (gates, input_size),
            "weight_hh": (gates, hidden_size),
            "bias": (gates,),
        }.items():
            parameter = Parameter(np.empty(shape, np.float32))
            setattr(self, name, uniform_(parameter, -bound, bound, rng))

    def forward(self, x: Any, forest: Forest) -> Tensor:
        if len(x) != len(forest.symbols):
            raise ValueError(f"a forest of {len(forest.symbols)} nodes needs as many vectors, "
                             f"not {len(x)}")  # fmt: skip
        return tree_lstm(linear(x, self.weight_ih, self.bias), self.weight_hh, forest=forest)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"
