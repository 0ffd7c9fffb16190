"""A neural network out of single numbers: neurons make layers, layers make a network."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from utils import Scalar
from utils.seeding import generator


class Neuron:
    """tanh(w·x + b), or w·x + b alone where `linear`.

    Weights begin uniform in ±sqrt(3 / inputs), so that the sum has variance 1 for inputs of
    variance 1 (LeCun et al., 1998, Efficient BackProp).
    """

    def __init__(self, inputs: int, linear: bool = False, rng: np.random.Generator | None = None):
        bound = (3 / inputs) ** 0.5
        self.weights = [Scalar(w) for w in generator(rng).uniform(-bound, bound, inputs).tolist()]
        self.bias = Scalar(0.0)
        self.linear = linear

    def __call__(self, x: Sequence) -> Scalar:
        if len(x) != len(self.weights):
            raise ValueError(f"this neuron takes {len(self.weights)} inputs, not {len(x)}")
        total = self.bias
        for weight, value in zip(self.weights, x):
            total = total + weight * value
        return total if self.linear else total.tanh()

    def parameters(self) -> list[Scalar]:
        return [*self.weights, self.bias]


class Layer:
    """Several neurons that see the same inputs."""

    def __init__(self, inputs: int, outputs: int, linear: bool = False, rng=None):
        self.neurons = [Neuron(inputs, linear, rng) for _ in range(outputs)]

    def __call__(self, x: Sequence) -> list[Scalar]:
        return [neuron(x) for neuron in self.neurons]

    def parameters(self) -> list[Scalar]:
        return [p for neuron in self.neurons for p in neuron.parameters()]


class MLP:
    """Layers in a row, the last one linear: `MLP([2, 16, 16, 1])` has two hidden layers.

    A call with the wrong number of inputs raises ValueError.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator | None = None):
        if len(sizes) < 2 or any(size < 1 for size in sizes):
            raise ValueError(f"MLP needs at least two sizes of at least 1, not {list(sizes)}")
        last = len(sizes) - 2
        self.layers = [
            Layer(inputs, outputs, linear=i == last, rng=rng)
            for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:]))
        ]

    def __call__(self, x: Sequence) -> list[Scalar]:
        for layer in self.layers:
            x = layer(x)
        return list(x)

    def parameters(self) -> list[Scalar]:
        return [p for layer in self.layers for p in layer.parameters()]
