"""`Scalar`: one number, its operations, and reverse mode at its smallest."""

from __future__ import annotations

import math

import pytest

from utils import Scalar


def test_the_book_s_first_expression():
    a, b, c = Scalar(2.0), Scalar(-3.0), Scalar(10.0)
    f = (a * b + c) * (a + b * c)
    f.backward()
    assert f.data == -112 and (a.grad, b.grad, c.grad) == (88, -16, -40)


BINARY = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a / b": lambda a, b: a / b,
    "a ** b": lambda a, b: a**b,
    "a * a / (b + a)": lambda a, b: a * a / (b + a),
}
UNARY = {
    "-a": lambda a: -a,
    "a + 2": lambda a: a + 2,
    "2 + a": lambda a: 2 + a,
    "a - 2": lambda a: a - 2,
    "2 - a": lambda a: 2 - a,
    "a * 2": lambda a: a * 2,
    "2 * a": lambda a: 2 * a,
    "a / 2": lambda a: a / 2,
    "2 / a": lambda a: 2 / a,
    "a ** 0": lambda a: a**0,
    "a ** 1": lambda a: a**1,
    "a ** 2": lambda a: a**2,
    "a ** 3": lambda a: a**3,
    "a ** -1": lambda a: a**-1,
    "a ** 0.5": lambda a: a**0.5,
    "2 ** a": lambda a: 2**a,
    "exp": lambda a: a.exp(),
    "log": lambda a: a.log(),
    "sin": lambda a: a.sin(),
    "cos": lambda a: a.cos(),
    "tanh": lambda a: a.tanh(),
    "relu": lambda a: a.relu(),
    "relu of a negative": lambda a: (-a).relu(),
    "sigmoid": lambda a: 1 / (1 + (-a).exp()),
}


def difference(function, *values, i=0, h=1e-3):
    def at(offset):
        moved = [Scalar(v + offset * (j == i)) for j, v in enumerate(values)]
        return function(*moved).data

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


@pytest.mark.parametrize("x", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("name", UNARY)
def test_operation_on_one(name, x):
    a = Scalar(x)
    UNARY[name](a).backward()
    assert a.grad == pytest.approx(difference(UNARY[name], x), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("name", BINARY)
def test_operation_on_two(name):
    a, b = Scalar(1.3), Scalar(-0.7)
    BINARY[name](a, b).backward()
    for i, leaf in enumerate((a, b)):
        assert leaf.grad == pytest.approx(difference(BINARY[name], 1.3, -0.7, i=i), rel=1e-8)


@pytest.mark.parametrize("name", BINARY)
def test_the_same_scalar_twice(name):
    a = Scalar(1.3)
    BINARY[name](a, a).backward()
    assert a.grad == pytest.approx(difference(lambda a: BINARY[name](a, a), 1.3), abs=1e-8)


@pytest.mark.parametrize("x", [-2.0, 0.0, 3.0])
def test_powers_of_negative_numbers_and_zero(x):
    for n in (0, 1, 2, 3):
        a = Scalar(x)
        y = a**n
        y.backward()
        assert y.data == x**n and a.grad == (n * x ** (n - 1) if n else 0)


def test_the_root_of_zero_is_zero_and_its_slope_infinite():
    a = Scalar(0.0)
    y = a**0.5
    y.backward()
    assert y.data == 0 and a.grad == math.inf


def test_edges():
    for x, slope in ((-1.0, 0), (0.0, 0), (2.0, 1)):
        a = Scalar(x)
        a.relu().backward()
        assert a.grad == slope
    a = Scalar(1000.0)
    a.tanh().backward()
    assert a.grad == 0


def test_each_edge_stores_its_local_derivative():
    a, b = Scalar(2.0), Scalar(5.0)
    y = a * b
    assert [(parent is a, slope) for parent, slope in y.edges] == [(True, 5.0), (False, 2.0)]
    assert not list(a.edges), "a leaf has none"


def test_backward_accumulates_into_leaves_only():
    a = Scalar(3.0)
    h = a * a
    y = h * 2.0
    y.backward()
    y.backward()
    assert a.grad == 24 and h.grad == 2 and y.grad == 1
    (a * 1.0).backward()
    assert a.grad == 25


def test_two_outputs_share_a_part():
    a = Scalar(3.0)
    h = a * a
    first, second = h + 1.0, h * h
    first.backward()
    second.backward()
    assert a.grad == 6 + 4 * 27


def test_backward_of_a_leaf_and_with_a_weight():
    a = Scalar(3.0)
    a.backward()
    assert a.grad == 1
    b = Scalar(3.0)
    (b * b).backward(0.5)
    assert b.grad == 3


def test_constants_get_no_node():
    y = Scalar(1.0) * 2.0 + 3.0
    ((product, slope),) = y.edges
    assert slope == 1 and len(product.edges) == 1


def test_a_number_used_at_two_depths_waits_for_both():
    x = Scalar(2.0)
    near = x * 3.0
    far = (near + 1.0) * 2.0
    (near * far).backward()  # 18 x x + 6 x, whose derivative is 36 x + 6
    assert x.grad == 78.0, "a node passes its gradient on once, when all that use it have paid in"


def test_sixty_diamonds():
    x = Scalar(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == 2.0**60


def test_a_scalar_has_no_dictionary_and_shows_its_number():
    a = Scalar(1.5)
    assert not hasattr(a, "__dict__") and "1.5" in repr(a) and float(a) == 1.5
    with pytest.raises(AttributeError):
        a.anything = 1


@pytest.mark.parametrize("other", ["x", None, [1]])
def test_other_things_are_not_numbers(other):
    with pytest.raises(TypeError):
        Scalar(1.0) + other


def test_outside_the_domain_is_an_error():
    with pytest.raises((ValueError, ZeroDivisionError)):
        Scalar(-1.0).log()
    with pytest.raises(ZeroDivisionError):
        Scalar(1.0) / Scalar(0.0)
