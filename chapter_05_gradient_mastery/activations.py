"""Activations as one node each: the function and its slope from the same intermediate values.

gelu composed is seven nodes, each with an array that is written and read once. By hand it is one
pass of arithmetic in two buffers. The functions of `FUSED` are also what `linear_activation` puts
behind a matrix product.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Tuple

import numpy as np

import chapter_03_neural_nets as chapter_03
from utils import Tensor, kernel
from utils.primitives import erf

Applied = Tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]

CUBIC, SCALE = 0.044715, math.sqrt(2 / math.pi)


def apply_relu(z: np.ndarray) -> Applied:
    """Overwrites z, which is the caller's to give away."""
    y = np.maximum(z, 0, out=z)
    return y, lambda g: g * (y > 0)


def apply_tanh(z: np.ndarray) -> Applied:
    """Overwrites z."""
    y = np.tanh(z, out=z)

    def slope_times(g):
        slope = y * y
        np.subtract(1, slope, out=slope)
        slope *= g
        return slope

    return y, slope_times


def apply_gelu(x: np.ndarray) -> Applied:
    """x Phi(x), whose slope is Phi(x) + x phi(x)."""
    below = erf(x * math.sqrt(0.5))
    below += 1
    below *= 0.5
    y = x * below

    def slope_times(g):
        slope = x * x
        slope *= -0.5
        np.exp(slope, out=slope)
        slope *= x
        slope *= 1 / math.sqrt(2 * math.pi)
        slope += below
        slope *= g
        return slope

    return y, slope_times


def sigmoid_of_negative(z: np.ndarray) -> None:
    """Overwrites z with sigmoid(-z) = 1 / (1 + exp(z)), which takes half the time of tanh."""
    with np.errstate(over="ignore"):  # 1 / infinity is 0, as it should be
        np.exp(z, out=z)
    z += 1
    np.reciprocal(z, out=z)


def apply_gelu_tanh(x: np.ndarray) -> Applied:
    """x s with s = (1 + tanh(u)) / 2 = sigmoid(2 u), u = SCALE (x + CUBIC x^3).

    Its slope is s + 2 y (1 - s) u' with u' = SCALE (1 + 3 CUBIC x^2).
    """
    s = x * x
    s *= -2 * SCALE * CUBIC
    s -= 2 * SCALE
    s *= x
    sigmoid_of_negative(s)
    y = x * s

    def slope_times(g):
        slope = x * x
        slope *= 6 * SCALE * CUBIC
        slope += 2 * SCALE
        slope *= y
        slope *= 1 - s
        slope += s
        slope *= g
        return slope

    return y, slope_times


def apply_silu(x: np.ndarray) -> Applied:
    """x s with s = sigmoid(x), whose slope is s + y (1 - s)."""
    s = -x
    sigmoid_of_negative(s)
    y = x * s

    def slope_times(g):
        slope = 1 - s
        slope *= y
        slope += s
        slope *= g
        return slope

    return y, slope_times


class Activation(NamedTuple):
    """`apply` on arrays gives the value, and a function from g to g times the slope."""

    apply: Callable[[np.ndarray], Applied]
    composed: Callable[[Tensor], Tensor]


FUSED = {
    "relu": Activation(apply_relu, chapter_03.relu),
    "tanh": Activation(apply_tanh, chapter_03.tanh),
    "gelu": Activation(apply_gelu, chapter_03.gelu),
    "gelu_tanh": Activation(apply_gelu_tanh, lambda x: chapter_03.gelu(x, "tanh")),
    "silu": Activation(apply_silu, chapter_03.silu),
}


@kernel(composed=chapter_03.gelu)
def gelu(x, approximate="none"):
    """x times the probability that a standard normal number is below x."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    return _elementwise(apply_gelu if approximate == "none" else apply_gelu_tanh, x)


@kernel(composed=chapter_03.silu)
def silu(x):
    """x sigmoid(x)."""
    return _elementwise(apply_silu, x)


def _elementwise(apply: Callable[[np.ndarray], Applied], x: np.ndarray) -> tuple:
    """`apply` as a kernel's body; a single number gets an axis, which in-place arithmetic needs."""
    y, slope_times = apply(np.atleast_1d(x))
    return y.reshape(x.shape), lambda g, wanted: (slope_times(np.atleast_1d(g)).reshape(x.shape),)


class GELU(chapter_03.GELU):
    """Chapter 3's module, on the kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x, approximate=self.approximate)


class SiLU(chapter_03.SiLU):
    """Chapter 3's module, on the kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)
