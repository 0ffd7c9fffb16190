"""Forward mode: numbers that carry their derivative along.

A dual number a + bε has a value and a tangent, and ε² = 0. Compute with it as usual and the tangent
of the result is the derivative of the result in the direction that the inputs' tangents point in:
f(a + bε) = f(a) + f'(a) b ε. One run gives one directional derivative, to the last digit, and no
graph is kept.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

from utils import Scalar


class Dual:
    """value + tangent ε (Clifford, 1873, doi:10.1112/plms/s1-4.1.381)."""

    __slots__ = ("value", "tangent")

    def __init__(self, value: float, tangent: float = 0.0) -> None:
        self.value, self.tangent = value, tangent

    def __add__(self, other: Any) -> Dual:
        other = dual(other)
        return Dual(self.value + other.value, self.tangent + other.tangent)

    def __sub__(self, other: Any) -> Dual:
        return self + -dual(other)

    def __rsub__(self, other: Any) -> Dual:
        return dual(other) + -self

    def __mul__(self, other: Any) -> Dual:
        other = dual(other)
        tangent = self.tangent * other.value + self.value * other.tangent
        return Dual(self.value * other.value, tangent)

    def __truediv__(self, other: Any) -> Dual:
        other = dual(other)
        value = self.value / other.value
        return Dual(value, (self.tangent - value * other.tangent) / other.value)

    def __rtruediv__(self, other: Any) -> Dual:
        return dual(other) / self

    def __pow__(self, exponent: Any) -> Dual:
        if isinstance(exponent, Dual):
            return (self.log() * exponent).exp()
        value = self.value**exponent
        if isinstance(value, complex):
            raise ValueError(f"{self.value} ** {exponent} is not a real number")
        if self.value == 0 and 0 < exponent < 1:
            slope = math.inf
        else:
            slope = exponent * self.value ** (exponent - 1) if exponent else 0.0
        return Dual(value, slope * self.tangent)

    def __rpow__(self, base: float) -> Dual:
        value = base**self.value
        return Dual(value, value * math.log(base) * self.tangent)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.tangent)

    def __gt__(self, other: Any) -> bool:
        return self.value > dual(other).value

    def __lt__(self, other: Any) -> bool:
        return self.value < dual(other).value

    def exp(self) -> Dual:
        y = math.exp(self.value)
        return Dual(y, y * self.tangent)

    def log(self) -> Dual:
        return Dual(math.log(self.value), self.tangent / self.value)

    def sin(self) -> Dual:
        return Dual(math.sin(self.value), math.cos(self.value) * self.tangent)

    def cos(self) -> Dual:
        return Dual(math.cos(self.value), -math.sin(self.value) * self.tangent)

    def tanh(self) -> Dual:
        y = math.tanh(self.value)
        return Dual(y, (1 - y * y) * self.tangent)

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} + {self.tangent:{spec}}ε"

    def __repr__(self) -> str:
        return f"Dual({self:.6g})"


def dual(x: Any) -> Dual:
    """`x` itself, or a constant, whose tangent is 0."""
    return x if isinstance(x, Dual) else Dual(x)


def directional_derivative(
    f: Callable, point: Sequence[float], direction: Sequence[float]
) -> tuple[float, float]:
    """The value of `f(*point)` and its derivative along `direction`, in one run."""
    _check_lengths(point, direction)
    y = dual(f(*[Dual(x, v) for x, v in zip(point, direction)]))
    return y.value, y.tangent


def hessian_vector_product(
    f: Callable, point: Sequence[float], direction: Sequence[float]
) -> tuple[list[float], list[float]]:
    """The gradient of `f(*point)` and its Hessian times `direction`: forward over reverse.

    Scalars whose numbers are duals compute the gradient, by reverse mode, together with its
    derivative along `direction`, by forward mode, without ever forming the matrix (Pearlmutter,
    1994, doi:10.1162/neco.1994.6.1.147).
    """
    _check_lengths(point, direction)
    inputs = [Scalar(Dual(x, v)) for x, v in zip(point, direction)]
    f(*inputs).backward()
    gradients = [dual(x.grad) for x in inputs]
    return [g.value for g in gradients], [g.tangent for g in gradients]


def _check_lengths(point: Sequence[float], direction: Sequence[float]) -> None:
    if len(point) != len(direction):
        raise ValueError(f"{len(point)} numbers have no direction of {len(direction)}")
