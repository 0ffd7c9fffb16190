"""One number that remembers how it was made: reverse-mode differentiation at its smallest.

Every operation makes a node that stores its parents and, for each, the number on that edge: the
local derivative, computed there and then. Going backward, gradients flow from a node to its
parents, multiplied by the edge's number, and add up where edges meet. That is the chain rule, and
all of it.
"""

from __future__ import annotations

import math
from typing import Any


def elementary(name: str, x: Any) -> Any:
    """`math`'s function of that name, or the number's own where it has one (chapter 1's duals)."""
    own = getattr(x, name, None)
    return getattr(math, name)(x) if own is None else own()


class Scalar:
    """A number in a graph; `backward` fills in `grad`, its derivative of the output.

    Arithmetic accepts plain numbers, which are constants and get no node.
    """

    __slots__ = ("data", "grad", "parents", "edges", "operation", "_consumers", "__weakref__")

    def __init__(self, data, parents=(), edges=(), operation=""):
        self.data = data
        self.grad = 0.0
        self.parents = parents
        self.edges = edges
        self.operation = operation
        self._consumers = 0

    def __add__(self, other):
        if isinstance(other, Scalar):
            return Scalar(self.data + other.data, (self, other), (1.0, 1.0), "+")
        return Scalar(self.data + other, (self,), (1.0,), "+")

    def __sub__(self, other):
        if isinstance(other, Scalar):
            return Scalar(self.data - other.data, (self, other), (1.0, -1.0), "-")
        return Scalar(self.data - other, (self,), (1.0,), "-")

    def __rsub__(self, other):
        return Scalar(other - self.data, (self,), (-1.0,), "-")

    def __mul__(self, other):
        if isinstance(other, Scalar):
            a, b = self.data, other.data
            return Scalar(a * b, (self, other), (b, a), "*")
        return Scalar(self.data * other, (self,), (other,), "*")

    def __truediv__(self, other):
        if isinstance(other, Scalar):
            a, b = self.data, other.data
            y = a / b
            return Scalar(y, (self, other), (1.0 / b, -y / b), "/")
        return Scalar(self.data / other, (self,), (1.0 / other,), "/")

    def __rtruediv__(self, other):
        y = other / self.data
        return Scalar(y, (self,), (-y / self.data,), "/")

    def __pow__(self, other):
        if isinstance(other, Scalar):
            return (self.log() * other).exp()
        slope = other * self.data ** (other - 1) if other else 0.0
        return Scalar(self.data**other, (self,), (slope,), f"**{other}")

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return Scalar(-self.data, (self,), (-1.0,), "-")

    def exp(self):
        y = elementary("exp", self.data)
        return Scalar(y, (self,), (y,), "exp")

    def log(self):
        return Scalar(elementary("log", self.data), (self,), (1.0 / self.data,), "log")

    def sin(self):
        slope = elementary("cos", self.data)
        return Scalar(elementary("sin", self.data), (self,), (slope,), "sin")

    def cos(self):
        slope = -elementary("sin", self.data)
        return Scalar(elementary("cos", self.data), (self,), (slope,), "cos")

    def tanh(self):
        y = elementary("tanh", self.data)
        return Scalar(y, (self,), (1.0 - y * y,), "tanh")

    def relu(self):
        """max(x, 0), with derivative 0 at 0."""
        if self.data > 0:
            return Scalar(self.data, (self,), (1.0,), "relu")
        return Scalar(0.0 * self.data, (self,), (0.0,), "relu")

    def backward(self, gradient=1.0):
        """Add d(self)/d(leaf) to the `grad` of every leaf, times `gradient`.

        Nodes in between keep the gradient of this pass alone. Linear in the number of nodes, and
        without recursion: a node passes its gradient on once all of its consumers have paid in.
        """
        nodes = [self]
        for node in nodes:
            for parent in node.parents:
                if not parent._consumers:
                    nodes.append(parent)
                    if parent.parents:
                        parent.grad = 0.0
                parent._consumers += 1
        self.grad = gradient if self.parents else self.grad + gradient
        ready = [self]
        while ready:
            node = ready.pop()
            g = node.grad
            for parent, edge in zip(node.parents, node.edges):
                parent.grad += edge * g
                parent._consumers -= 1
                if not parent._consumers:
                    ready.append(parent)

    def __float__(self):
        return float(self.data)

    def __repr__(self):
        return f"Scalar(data={self.data:.6g}, grad={self.grad:.6g})"
