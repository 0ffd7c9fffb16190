"""Activations: the bends between linear layers, without which all layers would be one.

Each is a function of Tensors, written in NumPy, and a module that calls it.
"""

from __future__ import annotations

import math

import numpy as np

from chapter_02_text_generation import log_softmax, softmax
from chapter_03_neural_nets.module import Module
from utils import Tensor
from utils.primitives import erf
from utils.primitives import relu as positive_part


def relu(x: Tensor) -> Tensor:
    """max(x, 0), with derivative 0 at 0."""
    return positive_part(x)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, else a small part of it, so that no unit falls silent for good."""
    return np.where(x > 0, x, negative_slope * x)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where positive, else alpha (e^x - 1) (Clevert et al., 2015, arXiv:1511.07289)."""
    return np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0, x)))


def tanh(x: Tensor) -> Tensor:
    return np.tanh(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), by way of tanh, which cannot overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x): a smooth relu."""
    return np.logaddexp(x, 0)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x times the probability that a standard normal number is below x.

    `approximate="tanh"` is the formula that GPT-2 uses, within 5e-4 of it.
    Source: Hendrycks, Gimpel, 2016, arXiv:1606.08415.
    """
    if approximate == "none":
        return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x), also called swish (Ramachandran et al., 2017, arXiv:1710.05941)."""
    return x * sigmoid(x)


class ReLU(Module):
    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class LeakyReLU(Module):
    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Tanh(Module):
    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class Sigmoid(Module):
    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Softplus(Module):
    def forward(self, x: Tensor) -> Tensor:
        return softplus(x)


class GELU(Module):
    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


class Softmax(Module):
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(x, self.dim)
