"""Recurrent networks: one memory, written anew with every token.

The same weights at every step, so a sequence may be of any length and gradients go through as many
products with the same matrix as there are steps: chapter 4's vanishing and exploding, along time.
The LSTM's and the GRU's gates make the memory a residual path.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_03_neural_nets import Module, Parameter, uniform_
from chapter_03_neural_nets.layers import check_features, check_sizes
from chapter_05_gradient_mastery import Dropout, linear
from chapter_06_hierarchical.cells import CELLS, Cell
from chapter_06_hierarchical.packed import PackedSequence
from chapter_06_hierarchical.recurrence import recur
from utils import Tensor

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Recurrent(Module):
    """What RNN, LSTM and GRU share: layers, directions, packed or padded sequences.

    forward(x, state) with x (T, B, input_size), or (B, T, input_size) with `batch_first`, or a
    `PackedSequence`, returns the top layer's output at every token, (T, B, directions H), packed if
    x was, and the states after the last: (layers directions, B, H). Without a state it begins at 0.
    All parameters begin uniform within 1 / sqrt(hidden_size) of 0. Raises ValueError for shapes
    that do not fit.
    """

    kind: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if hidden_size < 1 or num_layers < 1:
            raise ValueError(f"hidden_size={hidden_size} and num_layers={num_layers} begin at 1")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout = None if dropout == 0 else Dropout(dropout, rng)
        gates, bound = self.cell.gates * hidden_size, hidden_size**-0.5
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * len(self.directions)
            shapes = [(gates, inputs), (gates, hidden_size), (gates,), (gates,)]
            for direction in self.directions:
                for name, shape in zip(self._names(layer, direction), shapes):
                    parameter = Parameter(np.empty(shape, np.float32))
                    setattr(self, name, uniform_(parameter, -bound, bound, rng))

    @property
    def cell(self) -> Cell:
        return CELLS[self.kind]

    @property
    def directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _names(self, layer: int, direction: str) -> list[str]:
        names = PARAMETERS if self.bias else PARAMETERS[:2]
        return [f"{name}_l{layer}{direction}" for name in names]

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        packed, pack = self._packed(x), isinstance(x, PackedSequence)
        check_features(self, packed.data, self.input_size)
        states = self._first_states(state, packed)
        batch, mirror = packed.batch_sizes[0], mirrored(packed) if self.bidirectional else None
        last, data, ends = packed.place(packed.lengths - 1, np.arange(batch)), packed.data, []
        for layer in range(self.num_layers):
            outputs = []
            for i, direction in enumerate(self.directions):
                index = slice(None) if i == 0 else mirror
                w_ih, w_hh, *biases = (getattr(self, n) for n in self._names(layer, direction))
                b_ih, b_hh = biases or (None, None)
                y = recur(
                    linear(data, w_ih, b_ih)[index],
                    w_hh,
                    b_hh,
                    *(s[layer * len(self.directions) + i] for s in states),
                    cell=self.kind,
                    batch_sizes=packed.batch_sizes,
                )
                outputs.append(y[0][index])
                ends.append(y[:, last])
            data = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
            if self.dropout is not None and layer < self.num_layers - 1:
                data = self.dropout(data)
        back = np.argsort(packed.order)
        end = np.stack(ends, axis=1)[:, :, back]  # (states, layers directions, B, H)
        found = end[0] if len(end) == 1 else (end[0], end[1])
        return (packed._replace(data=data) if pack else self._padded(data, x)), found

    def _packed(self, x: Any) -> PackedSequence:
        if isinstance(x, PackedSequence):
            return x
        if x.ndim != 3 or 0 in x.shape[:2]:
            raise ValueError(
                f"{type(self).__name__} takes sequences of one token or more, in three axes or "
                f"packed, not {x.shape}"
            )
        x = np.swapaxes(x, 0, 1) if self.batch_first else x
        return PackedSequence(np.reshape(x, (-1, x.shape[2])), np.full(x.shape[0], x.shape[1]))

    def _padded(self, data: Tensor, x: Any) -> Tensor:
        batch, steps = x.shape[:2] if self.batch_first else x.shape[1::-1]
        y = np.reshape(data, (steps, batch, data.shape[1]))
        return np.swapaxes(y, 0, 1) if self.batch_first else y

    def _first_states(self, state: Any, packed: PackedSequence) -> list:
        shape = (self.num_layers * len(self.directions), packed.batch_sizes[0], self.hidden_size)
        if state is None:
            return [np.zeros(shape, packed.data.dtype)] * self.cell.states
        states = [state] if self.cell.states == 1 else list(state)
        shapes = [tuple(s.shape) for s in states]
        if shapes != [shape] * self.cell.states:
            raise ValueError(f"{self!r} starts from {self.cell.states} of {shape}, not {shapes}")
        return [s[:, packed.order] for s in states]

    def extra_repr(self) -> str:
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "bidirectional": False}
        unusual = [f", {k}={getattr(self, k)}" for k, v in usual.items() if getattr(self, k) != v]
        return f"{self.input_size}, {self.hidden_size}{''.join(unusual)}"


class RNN(Recurrent):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        self.kind = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, rng
        )


class LSTM(Recurrent):
    """A memory c that is kept, added to, and shown as h; the state is the pair (h, c)."""

    kind = "lstm"


class GRU(Recurrent):
    """A memory h, each number of which is kept or replaced by degrees."""

    kind = "gru"


def mirrored(packed: PackedSequence) -> np.ndarray:
    """The place of each token when every sequence is read from its end."""
    step, sequence = packed.steps_and_sequences
    return packed.place(packed.lengths[sequence] - 1 - step, sequence)
