"""The linear layer as one node: y = f(x W^T + b), with the activation f inside if there is one.

dx = dz W, dW = dz^T x, db = sum of dz, where dz is g times the slope of f. Composed, the same takes
three nodes or more, arrays that are written only to be read once, and a transposed copy of the
weight's gradient.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Iterable

import chapter_03_neural_nets as chapter_03
from chapter_03_neural_nets.layers import check_features
from chapter_05_gradient_mastery.activations import FUSED, GELU, SiLU
from utils import Tensor, kernel
from utils.primitives import total


def linear_composed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_activation_composed(x, weight, bias=None, activation="relu") -> Tensor:
    return FUSED[activation].composed(linear_composed(x, weight, bias))


@kernel(composed=linear_composed)
def linear(x, weight, bias=None):
    """x (..., in) times weight (out, in) plus bias (out): (..., out)."""
    x = _floating(x, weight)
    return _product(x, weight, bias), lambda g, wanted: _gradients(g, x, weight, wanted)


@kernel(composed=linear_activation_composed)
def linear_activation(x, weight, bias=None, activation="relu"):
    """f(x weight^T + bias) for f "relu", "tanh", "gelu", "gelu_tanh" or "silu": (..., out)."""
    if activation not in FUSED:
        raise ValueError(f"activation is one of {', '.join(FUSED)}, not {activation!r}")
    x = _floating(x, weight)
    y, slope_times = FUSED[activation].apply(_product(x, weight, bias))
    return y, lambda g, wanted: _gradients(slope_times(g), x, weight, wanted)


def _floating(x, weight):
    return x if x.dtype.kind == "f" else x.astype(weight.dtype)


def _product(x, weight, bias):
    y = _rows(x) @ weight.T  # one large product, not many small ones
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], len(weight))


def _gradients(g, x, weight, wanted):
    """Those of x, weight and, if it was given, bias, for the product's g; None if not wanted."""
    dz = _rows(g)
    found = [None] * len(wanted)
    if wanted[0]:
        found[0] = (dz @ weight).reshape(x.shape)
    if wanted[1]:
        found[1] = dz.T @ _rows(x)
    if any(wanted[2:]):
        found[2] = total(dz, axis=0)
    return tuple(found)


def _rows(a):
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


class Linear(chapter_03.Linear):
    """Chapter 3's layer, on the kernel."""

    def forward(self, x: Tensor) -> Tensor:
        check_features(self, x, self.in_features)
        return linear(x, self.weight, self.bias)


class MLP(chapter_03.MLP):
    """Chapter 3's network; a linear layer and the activation after it run as one node."""

    def __init__(
        self, *args: Any, linear: Callable[..., chapter_03.Module] = Linear, **options: Any
    ) -> None:
        super().__init__(*args, linear=linear, **options)

    def forward(self, x: Any) -> Tensor:
        return run_fused(self, x)


def run_fused(layers: Iterable[chapter_03.Module], x: Any) -> Tensor:
    """Call layers one after the other; a linear one and the activation after it are one node."""
    layers = list(layers)
    while layers:
        layer = layers.pop(0)
        name = fused_name(layer, layers[0]) if layers else None
        if name is None:
            x = layer(x)
        else:
            check_features(layer, x, layer.in_features)
            x = linear_activation(x, layer.weight, layer.bias, activation=name)
            layers.pop(0)
    return x


NAMES = {
    chapter_03.ReLU.forward: "relu",
    chapter_03.Tanh.forward: "tanh",
    chapter_03.SiLU.forward: "silu",
    SiLU.forward: "silu",
}


def fused_name(layer: chapter_03.Module, following: chapter_03.Module) -> str | None:
    """What `linear_activation` calls the activation, if the two can be one and nobody looks in.

    A subclass that does something else in its `forward` is left alone.
    """
    forward = type(following).forward
    if type(layer).forward is not Linear.forward or layer.hooked or following.hooked:
        return None
    if forward in (chapter_03.GELU.forward, GELU.forward):
        return "gelu" if following.approximate == "none" else "gelu_tanh"
    return NAMES.get(forward)
