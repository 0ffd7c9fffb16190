"""`detect_anomaly` names the operation that first made a NaN or infinity, and in-place changes."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, detect_anomaly, grad, kernel

FILE = "test_anomaly.py"
MAKERS = {
    "log": lambda x: np.log(x - 1),
    "divide": lambda x: x / (x - x),
    "sqrt": lambda x: np.sqrt(-x),
    "exp": lambda x: np.exp(x * 1e6),
    "power": lambda x: (x - 1) ** -1,
    "power of negatives": lambda x: (-x) ** 0.5,
    "total": lambda x: (x * 1e308 * np.array([1.0, 1.7])).sum(),
    "matrix_product": lambda x: (x * 1e308) @ np.array([[1.0], [1.0]]),
    "arccosh": lambda x: np.arccosh(x - 1),
    "contract": lambda x: np.einsum("i,i->", x * 1e200, x * 1e200),
}


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


@pytest.mark.parametrize("name", MAKERS)
def test_forward_the_operation_and_its_line_are_named(name):
    words = rf"{name.split()[0]}.*{FILE}:\d+"
    with detect_anomaly(), np.errstate(all="ignore"), pytest.raises(
        FloatingPointError, match=words
    ):
        MAKERS[name](leaf(1.0, 1.0))


def test_the_first_operation_is_named_and_not_those_that_pass_it_on():
    with detect_anomaly(), np.errstate(all="ignore"):
        with pytest.raises(FloatingPointError, match="^log made"):
            np.exp(np.log(leaf(-1.0)) * 2).sum()
        nan = leaf(np.nan)
        assert np.isnan((np.exp(nan) + 1).data).all(), "the NaN was there before"


@pytest.mark.parametrize("function", [np.sqrt, lambda x: x**0.5, np.cbrt])
def test_backward_the_operation_and_the_line_that_called_it_are_named(function):
    x = leaf(0.0, 1.0)
    with detect_anomaly():
        y = function(x).sum()
        with pytest.raises(FloatingPointError, match=rf"gradient of \w+.*{FILE}:\d+.*infinity"):
            y.backward()


def test_zero_times_infinity_in_backward_is_found():
    x = leaf(0.0)
    with detect_anomaly():
        y = np.sqrt(x * x).sum()
        with pytest.raises(FloatingPointError, match="sqrt"):
            grad(y, x)


def test_masking_with_minus_infinity_is_no_anomaly():
    scores = leaf(1.0, 2.0, 3.0)
    with detect_anomaly():
        masked = np.where(np.array([True, True, False]), scores, -np.inf)
        e = np.exp(masked - np.max(masked))
        (e / e.sum()).sum().backward()
    assert np.isfinite(scores.grad).all()


CHANGES = {
    "multiply": lambda x, c: x * c,
    "matmul": lambda x, c: x @ c,
    "einsum": lambda x, c: np.einsum("i,i->", x, c),
    "where": lambda x, c: np.where(c > 1, x, 0) * c,
    "power": lambda x, c: x**c,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_saved_array_that_changes_in_place_is_found(name):
    x, constant = leaf(1.0, 2.0), np.array([2.0, 3.0])
    with detect_anomaly():
        y = CHANGES[name](x, constant).sum()
        constant[0] = 7
        with pytest.raises(RuntimeError, match=r"changed in place|in-place"):
            y.backward()


def test_an_output_or_a_leaf_that_changes_in_place_is_found():
    x = leaf(1.0, 2.0)
    with detect_anomaly():
        h = np.exp(x)
        y = h.sum()
        h.data[:] = 0
        with pytest.raises(RuntimeError, match="exp"):
            y.backward()
        y = (x * x).sum()
        x.data[0] = 5
        with pytest.raises(RuntimeError, match="multiply"):
            y.backward()


def test_indices_that_change_in_place_are_found():
    x, indices = leaf(1.0, 2.0), np.array([0, 0])
    with detect_anomaly():
        y = x[indices].sum()
        indices[0] = 1
        with pytest.raises(RuntimeError, match="in place"):
            y.backward()


def test_a_change_to_what_no_rule_needs_is_no_anomaly():
    x, constant = leaf(1.0, 2.0), np.array([2.0, 3.0])
    with detect_anomaly():
        y = (x + constant).sum()
        constant[0] = 7
        y.backward()
    assert x.grad.tolist() == [1, 1]


@kernel(composed=lambda x, s: np.log(x) * s)
def scaled_log(x, s):
    """A kernel that makes infinities at 0, forward and backward."""
    return np.log(x) * s, lambda g, wanted: (g * s / x, None)


def test_kernels_are_watched():
    words = rf"scaled_log.*{FILE}"
    with detect_anomaly(), np.errstate(all="ignore"), pytest.raises(
        FloatingPointError, match=words
    ):
        scaled_log(leaf(0.0), np.ones(1))
    x, s = leaf(1.0), np.ones(1)
    with detect_anomaly():
        y = scaled_log(x, s).sum()
        s[0] = 2
        with pytest.raises(RuntimeError, match="scaled_log"):
            y.backward()


def test_the_values_are_those_without_and_the_watch_ends():
    x = leaf(0.3, 0.7)
    expected = grad((np.tanh(x) * x / 2).sum(), x)[0].data
    with detect_anomaly():
        found = grad((np.tanh(x) * x / 2).sum(), x)[0].data
        (second,) = grad((x**3).sum(), x, create_graph=True)
        np.testing.assert_allclose(grad(second.sum(), x)[0].data, 6 * x.data)
    np.testing.assert_array_equal(found, expected)
    with np.errstate(divide="ignore"):
        assert np.log(leaf(0.0)).data[0] == -np.inf, "outside the block nothing is checked"


def test_functions_that_numpy_dispatches_name_this_file():
    """NumPy 1.24 puts a frame of its own between the caller and the engine."""
    with detect_anomaly(), np.errstate(all="ignore"):
        for call in (
            lambda x: np.sum(x * 1e308),
            lambda x: np.linalg.det(x * 1e200),
            lambda x: np.prod(x * 1e200),
            lambda x: np.cumsum(x * 1e308),
        ):
            with pytest.raises(FloatingPointError, match=FILE):
                call(Tensor(np.array([[1.5, 1.0], [1.5, 3.0]]), requires_grad=True))
