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
    """A number in a graph; `backward` fills in `grad`, the derivative of the output by it.

    `left` and `right` are the numbers it was computed from (None for a leaf, and `right` None for a
    function of one), the slopes are the local derivatives. Plain numbers in arithmetic are
    constants and get no edge.
    """

    # An edge's parts are attributes of the node, not tuples, which would be three times the work
    # for the garbage collector.
    __slots__ = (
        "data",
        "grad",
        "operation",
        "left",
        "left_slope",
        "right",
        "right_slope",
        "waiting_for",
        "__weakref__",
    )

    def __init__(self, data, operation="", left=None, left_slope=0.0, right=None, right_slope=0.0):
        self.data = data
        self.grad = 0.0
        self.operation = operation
        self.left = left
        self.left_slope = left_slope
        self.right = right
        self.right_slope = right_slope
        self.waiting_for = 0

    @property
    def edges(self) -> list[tuple[Scalar, float]]:
        """The numbers that this one was computed from, each with the local derivative by it."""
        pairs = ((self.left, self.left_slope), (self.right, self.right_slope))
        return [(parent, slope) for parent, slope in pairs if parent is not None]

    def __add__(self, other):
        if isinstance(other, Scalar):
            return Scalar(self.data + other.data, "+", self, 1.0, other, 1.0)
        return Scalar(self.data + other, "+", self, 1.0)

    def __sub__(self, other):
        if isinstance(other, Scalar):
            return Scalar(self.data - other.data, "-", self, 1.0, other, -1.0)
        return Scalar(self.data - other, "-", self, 1.0)

    def __rsub__(self, other):
        return Scalar(other - self.data, "-", self, -1.0)

    def __mul__(self, other):
        if isinstance(other, Scalar):
            a, b = self.data, other.data
            return Scalar(a * b, "*", self, b, other, a)
        return Scalar(self.data * other, "*", self, other)

    def __truediv__(self, other):
        if isinstance(other, Scalar):
            a, b = self.data, other.data
            y = a / b
            return Scalar(y, "/", self, 1.0 / b, other, -y / b)
        return Scalar(self.data / other, "/", self, 1.0 / other)

    def __rtruediv__(self, other):
        y = other / self.data
        return Scalar(y, "/", self, -y / self.data)

    def __pow__(self, other):
        if isinstance(other, Scalar):
            return (self.log() * other).exp()
        y = self.data**other
        if isinstance(y, complex):
            raise ValueError(f"{self.data} ** {other} is not a real number")
        if not other:
            slope = 0.0 * y
        elif self.data == 0 and 0 < other < 1:
            slope = math.inf
        else:
            slope = other * self.data ** (other - 1)
        return Scalar(y, f"**{other}", self, slope)

    def __rpow__(self, other):
        y = other**self.data
        return Scalar(y, f"{other}**", self, y * elementary("log", other))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return Scalar(-self.data, "-", self, -1.0)

    def exp(self):
        y = elementary("exp", self.data)
        return Scalar(y, "exp", self, y)

    def log(self):
        return Scalar(elementary("log", self.data), "log", self, 1.0 / self.data)

    def sin(self):
        slope = elementary("cos", self.data)
        return Scalar(elementary("sin", self.data), "sin", self, slope)

    def cos(self):
        slope = -elementary("sin", self.data)
        return Scalar(elementary("cos", self.data), "cos", self, slope)

    def tanh(self):
        y = elementary("tanh", self.data)
        return Scalar(y, "tanh", self, 1.0 - y * y)

    def relu(self):
        """max(x, 0), with derivative 0 at 0."""
        if self.data > 0:
            return Scalar(self.data, "relu", self, 1.0)
        return Scalar(0.0 * self.data, "relu", self, 0.0)

    def backward(self, gradient=1.0):
        """Add the derivative of this number by each leaf, times `gradient`, to the leaf's `grad`.

        What lies between keeps the gradient of this pass alone. A node sends its gradient on once
        all its consumers have paid in: linear in the number of nodes, and without recursion.
        """
        found = [self]
        for node in found:
            left, right = node.left, node.right
            if left is not None:
                node.grad = 0.0
                if not left.waiting_for:
                    found.append(left)
                left.waiting_for += 1
            if right is not None:
                if not right.waiting_for:
                    found.append(right)
                right.waiting_for += 1
        self.grad += gradient
        ready = [self]
        while ready:
            node = ready.pop()
            g, left, right = node.grad, node.left, node.right
            if left is not None:
                left.grad += node.left_slope * g
                left.waiting_for -= 1
                if not left.waiting_for:
                    ready.append(left)
            if right is not None:
                right.grad += node.right_slope * g
                right.waiting_for -= 1
                if not right.waiting_for:
                    ready.append(right)

    def __float__(self):
        return float(self.data)

    def __repr__(self):
        return f"Scalar(data={self.data:.6g}, grad={self.grad:.6g})"
