"""No gradient is lost silently: what leaves the graph does so by name, and all else raises."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from utils import Tensor, grad, no_grad


def required(*shape):
    return Tensor(np.ones(shape), requires_grad=True)


def assign(array, key, value):
    array[key] = value


CONVERSIONS = {
    "np.asarray": lambda: np.asarray(required(2)),
    "np.array": lambda: np.array(required(2)),
    "np.array, dtype": lambda: np.array(required(2), dtype=np.float32),
    "np.array of a list": lambda: np.array([required(2), required(2)]),
    "np.array of numbers": lambda: np.array([required(), required()]),
    "np.array, object": lambda: np.array(required(2), dtype=object),
    "np.float64": lambda: np.float64(required()),
    "np.sum of a list": lambda: np.sum([required(2), required(2)]),
    "np.exp of a list": lambda: np.exp([required(), required()]),
    "np.asarray(computed)": lambda: np.asarray(required(2) * 2),
    "float": lambda: float(required()),
    "float(computed)": lambda: float(required(2).sum()),
    "int": lambda: int(required()),
    "complex": lambda: complex(required()),
    "index of a list": lambda: [1, 2][required()],
    "range": lambda: range(required()),
    "math.exp": lambda: math.exp(required()),
    "round": lambda: round(required()),
    "math.floor": lambda: math.floor(required()),
    "into an element": lambda: assign(np.zeros(3), 0, required()),
    "into a slice": lambda: assign(np.zeros(3), slice(None), required(3)),
    "index of an array": lambda: np.zeros(3)[required()],
    "np.copyto": lambda: np.copyto(np.zeros(2), required(2)),
    "ndarray.fill": lambda: np.zeros(2).fill(required()),
    "Tensor of a Tensor": lambda: Tensor(required(2)),
    "Tensor of Tensors": lambda: Tensor([required(), required()]),
    "memoryview": lambda: memoryview(required(2)),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_conversion_raises_while_gradients_are_required(name):
    with pytest.raises((TypeError, ValueError)):
        CONVERSIONS[name]()


@pytest.mark.parametrize("convert", [np.asarray, np.array, float, int, Tensor])
def test_the_error_names_the_ways_out(convert):
    with pytest.raises(TypeError, match=r"\.data.*\.item\(\).*\.detach\(\)"):
        convert(required())


def test_the_ways_out():
    x = required(2, 1)
    assert x.data is x.data and type(x.data) is np.ndarray
    assert x.sum().item() == 2.0 and isinstance(x.sum().item(), float)
    assert not x.detach().requires_grad and x.detach().data is x.data
    assert x.tolist() == [[1], [1]]
    assert f"{x.sum():.2f}" == "2.00"


def test_without_gradients_a_tensor_converts_as_an_array_does():
    x = Tensor(np.array([1.0, 2.0]))
    assert np.asarray(x).tolist() == [1, 2] and float(x[0]) == 1.0 and int(x[1]) == 2
    assert [5, 6, 7][Tensor(np.array(1))] == 6
    assert np.zeros(3)[Tensor(np.array([0, 1]))].shape == (2,)
    assert np.array(x, dtype=np.float32).dtype == np.float32
    copied = np.array(x)
    copied[0] = 9
    assert x.data[0] == 1, "np.array copies"
    with no_grad():
        assert float(required(2).sum() * 2) == 4.0


def test_bool_follows_numpy():
    assert bool(required()) and not bool(Tensor(0.0)) and bool(required(1, 1))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(required(2))
    with pytest.raises(ValueError, match="ambiguous"):
        if required(2) > 0:
            pass


UNSUPPORTED = {
    "ufunc out": lambda t: np.add(t, 1, out=np.zeros(3)),
    "out is a Tensor": lambda t: np.add(np.ones(3), 1, out=t.detach()),
    "unary out": lambda t: np.exp(t, out=np.zeros(3)),
    "ufunc where": lambda t: np.add(t, 1, where=np.array([True, False, True])),
    "ufunc dtype": lambda t: np.add(t, 1, dtype=np.float32),
    "ufunc casting": lambda t: np.exp(t, casting="no"),
    "matmul out": lambda t: np.matmul(t, t, out=np.zeros(())),
    "sum out": lambda t: np.sum(t, out=np.zeros(())),
    "sum dtype": lambda t: np.sum(t, dtype=np.float32),
    "sum dtype by position": lambda t: np.sum(t, 0, np.float32),
    "sum where": lambda t: np.sum(t, where=np.array([True, False, True])),
    "sum initial": lambda t: np.sum(t, initial=1.0),
    "mean dtype": lambda t: np.mean(t, dtype=np.float32),
    "mean where": lambda t: np.mean(t, where=np.array([True, False, True])),
    "var where": lambda t: np.var(t, where=np.array([True, False, True])),
    "std dtype": lambda t: np.std(t, dtype=np.float32),
    "prod initial": lambda t: np.prod(t, initial=2.0),
    "max initial": lambda t: np.max(t, initial=2.0),
    "max where": lambda t: np.max(t, where=np.array([True, False, True])),
    "max out": lambda t: np.max(t, out=np.zeros(())),
    "cumsum dtype": lambda t: np.cumsum(t, dtype=np.float32),
    "cumsum out": lambda t: np.cumsum(t, out=np.zeros(3)),
    "clip out": lambda t: np.clip(t, 0, 1, out=np.zeros(3)),
    "clip out by position": lambda t: np.clip(t, 0, 1, np.zeros(3)),
    "round out": lambda t: np.round(t, 0, np.zeros(3)),
    "concatenate out": lambda t: np.concatenate([t, t], out=np.zeros(6)),
    "concatenate dtype": lambda t: np.concatenate([t, t], dtype=np.float32),
    "stack out": lambda t: np.stack([t, t], out=np.zeros((2, 3))),
    "take out": lambda t: np.take(t, [0], out=np.zeros(1)),
    "take mode": lambda t: np.take(t, [7], mode="wrap"),
    "dot out": lambda t: np.dot(t, t, out=np.zeros(())),
    "outer out": lambda t: np.outer(t, t, out=np.zeros((3, 3))),
    "trace dtype": lambda t: np.trace(t[None], dtype=np.float32),
    "add.reduce": lambda t: np.add.reduce(t),
    "multiply.outer": lambda t: np.multiply.outer(t, t),
    "maximum.accumulate": lambda t: np.maximum.accumulate(t),
    "add.reduceat": lambda t: np.add.reduceat(t, [0, 1]),
    "add.at": lambda t: np.add.at(np.zeros(3), [0], t[:1]),
    "frompyfunc": lambda t: np.frompyfunc(lambda x: x, 1, 1)(t),
    "divmod": lambda t: np.divmod(t, 2),
    "modf": np.modf,
    "frexp": np.frexp,
    "ldexp": lambda t: np.ldexp(t, 2),
    "heaviside": lambda t: np.heaviside(t, 0.5),
    "bitwise_and": lambda t: np.bitwise_and(t, 1),
    "apply_along_axis": lambda t: np.apply_along_axis(np.sum, 0, t),
    "nancumsum": np.nancumsum,
    "piecewise": lambda t: np.piecewise(t, [t.data > 0], [1.0]),
    "put": lambda t: np.put(np.zeros(3), [0], t),
    "method out": lambda t: t.sum(out=np.zeros(())),
    "method dtype": lambda t: t.mean(dtype=np.float32),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_has_no_rule_raises(name):
    with pytest.raises(TypeError) as error:
        UNSUPPORTED[name](required(3))
    assert len(str(error.value).splitlines()) == 1


KEYWORDS = [
    name for name in UNSUPPORTED if name.split()[-1] in ("out", "where", "dtype", "initial")
]


@pytest.mark.parametrize("name", KEYWORDS)
def test_the_error_names_the_argument(name):
    with pytest.raises(TypeError, match=rf"\b{name.split()[-1]}\b"):
        UNSUPPORTED[name](required(3))


def test_an_array_does_not_take_a_tensor_in_place():
    array = np.zeros(3)
    with pytest.raises(TypeError):
        array += required(3)
    with pytest.raises(TypeError):
        array *= Tensor(np.ones(3))
    assert array.tolist() == [0, 0, 0]


@pytest.mark.parametrize("operator", ["+=", "-=", "*=", "/=", "**=", "@="])
def test_augmented_assignment_makes_a_new_tensor(operator):
    x = Tensor(np.full((2, 2), 2.0), requires_grad=True)
    names = {"t": x, "other": np.full((2, 2), 3.0)}
    exec(f"t {operator} other", names)
    assert names["t"] is not x and (x.data == 2).all() and names["t"].requires_grad
    expected = eval(f"a {operator[:-1]} b", {"a": x.data, "b": names["other"]})
    np.testing.assert_array_equal(names["t"].data, expected)
    assert grad(names["t"].sum(), x)[0].data.all()


COMPARISONS = [
    "t > 0",
    "t >= t",
    "0 < t",
    "t == 1",
    "t != t",
    "t <= a",
    "a < t",
    "a == t",
    "s >= t",
]
CONSTANT = [
    "argmax argmin isnan isinf isfinite signbit argsort nonzero count_nonzero shape ndim size"
]


@pytest.mark.parametrize("expression", COMPARISONS)
def test_comparisons_return_boolean_arrays(expression):
    names = {"t": required(3), "a": np.array([0.0, 1.0, 2.0]), "s": np.float64(1)}
    found = eval(expression, names)
    assert type(found) is np.ndarray and found.dtype == bool and found.shape == (3,)


@pytest.mark.parametrize("name", CONSTANT[0].split())
def test_functions_without_slope_return_what_numpy_returns(name):
    array = np.array([[1.0, np.nan], [np.inf, -2.0]])
    function = getattr(np, name)
    expected = function(array)
    found = function(Tensor(array, requires_grad=True))
    assert type(found) is type(expected)
    np.testing.assert_array_equal(found, expected)


def test_mixed_operands_reach_the_tensor_from_either_side():
    x = required(3)
    for y in (np.ones(3) * x, np.float64(2) * x, [1.0, 2.0, 3.0] * x, 2 * x, sum([x, x]), x / 2):
        assert isinstance(y, Tensor) and y.requires_grad
    assert isinstance(np.ones((3, 3)) @ x, Tensor)


@pytest.mark.parametrize("other", ["text", None, object(), {}, 1j])
def test_operators_reject_what_is_not_a_number(other):
    with pytest.raises(TypeError):
        required(3) + other
    with pytest.raises(TypeError):
        other * required(3)


def test_copies_do_not_share_a_gradient():
    x = required(2)
    twin = copy.deepcopy(x)
    (twin * 3).sum().backward()
    assert x.grad is None and twin.grad.tolist() == [3, 3] and twin.data is not x.data


def test_repr_shows_the_values_and_whether_gradients_are_required():
    assert "1." in repr(required(2)) and "requires_grad=True" in repr(required(2))
    assert "requires_grad" not in repr(Tensor([1.0]))
