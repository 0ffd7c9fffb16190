"""`check_gradients` passes what is right, and fails on gradients planted wrong."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, check_gradients, kernel
from utils.derivatives import derivatives
from utils.operation import Operation, operations


@pytest.fixture
def plant(monkeypatch):
    """Replace the rules of a function for one test."""

    def plant(function, *rules):
        assert function in derivatives
        monkeypatch.setitem(operations, function, Operation(function, rules))

    return plant


def test_right_gradients_pass_with_a_small_error(rng):
    a, b = rng.standard_normal((2, 3)), rng.standard_normal(3)
    error = check_gradients(lambda a, b: np.sin(a) * b, [a, b], order=3, tolerance=1e-8)
    assert 0 <= error < 1e-8


WRONG = {
    "a factor": (np.exp, lambda g, y: 1.001 * g * y),
    "the sign": (np.sin, lambda g, a: -g * np.cos(a)),
    "the argument for the output": (np.tanh, lambda g, a: g * (1 - a * a)),
    "g forgotten": (np.log, lambda g, a: 1 / a),
    "a constant": (np.square, lambda g, a: np.ones_like(g)),
    "nan": (np.cos, lambda g, a: g * np.nan),
    "one element": (np.exp, lambda g, y: g * y * np.array([1, 1, 1.01])),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_fails(name, plant):
    function, rule = WRONG[name]
    plant(function, rule)
    with pytest.raises(AssertionError, match="derivative 1 .*argument 0"):
        check_gradients(function, [np.array([0.4, 0.8, 1.2])])


def test_the_argument_and_the_element_are_named(plant):
    plant(np.hypot, lambda g, y, a: g * a / y, lambda g, y, b: g * b / y * np.array([1.0, 1.5]))
    with pytest.raises(AssertionError, match=r"argument 1 at \[1\]"):
        check_gradients(np.hypot, [np.array([1.0, 2.0]), np.array([3.0, 4.0])])


def test_a_second_derivative_that_is_wrong_fails_only_at_order_2(plant):
    def right_on_arrays(g, a):
        return g * np.cos(a) if isinstance(a, np.ndarray) else g * np.cos(a.data)

    plant(np.sin, right_on_arrays)
    x = [np.array([0.5, 1.0])]
    check_gradients(np.sin, x)
    with pytest.raises(AssertionError, match="derivative 2"):
        check_gradients(np.sin, x, order=2)


def test_a_wrong_kernel_fails():
    @kernel(composed=lambda a, b: a * b)
    def product(a, b):
        return a * b, lambda g, wanted: (g * b, g * b)

    with pytest.raises(AssertionError, match="argument 1"):
        check_gradients(product, [np.array([1.0, 2.0]), np.array([3.0, 4.0])])


def test_a_kernel_whose_composed_form_differs_fails_at_order_2():
    """Its first derivative under create_graph is not the one by hand."""

    @kernel(composed=lambda a: a**3)
    def squared(a):
        return a**2, lambda g, wanted: (2 * g * a,)

    check_gradients(squared, [np.array([1.0, 2.0])])
    with pytest.raises(AssertionError, match="derivative 2"):
        check_gradients(squared, [np.array([1.0, 2.0])], order=2)


def test_a_gradient_that_forgets_broadcasting_fails():
    @kernel(composed=lambda x, b: x + b)
    def add_bias(x, b):
        return x + b, lambda g, wanted: (g, g[0])

    with pytest.raises(AssertionError, match="argument 1"):
        check_gradients(add_bias, [np.ones((3, 2)), np.ones(2)])


def test_a_gradient_that_is_lost_fails():
    with pytest.raises(AssertionError, match="backward gives 0"):
        check_gradients(lambda a: a * 0 + np.sum(a.data) * 1.0, [np.array([1.0, 2.0])])


def test_errors_that_cancel_in_the_sum_are_found(plant):
    """Each output has a weight of its own, so a permuted gradient is not mistaken for right."""
    plant(np.positive, lambda g: np.flip(g))
    with pytest.raises(AssertionError):
        check_gradients(np.positive, [np.array([1.0, 2.0, 3.0])])


def test_a_forgotten_g_is_found_also_where_the_output_is_one_number(plant):
    plant(np.log, lambda g, a: 1 / a)
    with pytest.raises(AssertionError):
        check_gradients(np.log, [np.array(1.5)])


def test_several_outputs_and_integer_inputs():
    ids = np.array([0, 2, 2])
    check_gradients(lambda x, i: [x[i.data], x**2], [np.array([1.0, 2.0, 3.0]), ids], order=2)


def test_float32_and_tensors_and_numbers_are_checked_in_float64():
    seen = []

    def function(x):
        seen.append(x.dtype)
        return x**2

    for given in (np.ones(2, "f4"), Tensor(np.ones(2, "f4")), [1.0, 2.0], 1.5):
        check_gradients(function, [given])
    assert set(seen) == {np.dtype("f8")}


def test_zero_size_inputs_have_nothing_to_check():
    assert check_gradients(np.exp, [np.zeros((0, 3))], order=2) == 0


def test_the_inputs_are_not_changed():
    x = np.array([1.0, 2.0])
    check_gradients(np.exp, [x])
    assert x.tolist() == [1, 2]
