"""The dtype guarantee, clause by clause, on whichever NumPy is installed.

The result has the dtype of its floating operands with axes, else of the Tensors among them; Python
numbers, NumPy scalars, 0-d and integer arrays never promote. A gradient has its input's dtype.
"""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad, no_grad

FLOATS = ["f2", "f4", "f8"]
WEAK = {
    "int": 2,
    "float": 2.5,
    "bool": True,
    "float64 scalar": np.float64(2.5),
    "float32 scalar": np.float32(2.5),
    "int64 scalar": np.int64(2),
    "0-d float64 array": np.array(2.5),
    "0-d int array": np.array(2),
    "int array": np.array([1, 2, 3]),
    "int8 array": np.array([1, 2, 3], np.int8),
    "bool array": np.array([True, False, True]),
    "0-d float64 Tensor": Tensor(np.array(2.5)),
    "int Tensor": Tensor(np.array([1, 2, 3])),
    "list": [1.5, 2.5, 3.5],
}
BINARY = {
    "a + b": lambda a, b: a + b,
    "b - a": lambda a, b: b - a,
    "a * b": lambda a, b: a * b,
    "b / a": lambda a, b: b / a,
    "a / b": lambda a, b: a / b,
    "a ** b": lambda a, b: a**b,
    "b ** a": lambda a, b: np.power(b, a),
    "maximum": np.maximum,
    "where": lambda a, b: np.where(np.array([True, False, True]), a, b),
    "where reversed": lambda a, b: np.where(np.array([True, False, True]), b, a),
    "clip": lambda a, b: np.clip(a, b, 9),
    "arctan2": lambda a, b: np.arctan2(b, a),
}


@pytest.mark.parametrize("weak", WEAK)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("operation", BINARY)
def test_weak_operands_never_promote(operation, dtype, weak):
    a = Tensor(np.array([1, 2, 3], dtype), requires_grad=True)
    with np.errstate(divide="ignore"):  # the bool array holds a zero
        y = BINARY[operation](a, WEAK[weak])
    assert y.dtype == dtype
    assert grad(y.sum(), a)[0].dtype == dtype


@pytest.mark.parametrize(
    "weak", ["int", "float", "float64 scalar", "int64 scalar", "0-d float64 array"]
)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("operation", ["a + b", "b - a", "a * b", "b / a", "maximum", "arctan2"])
def test_a_0d_tensor_decides_among_numbers(operation, dtype, weak):
    a = Tensor(np.array(1.5, dtype), requires_grad=True)
    y = BINARY[operation](a, WEAK[weak])
    assert y.dtype == dtype and isinstance(y.data, np.ndarray)
    assert grad(y, a)[0].dtype == dtype


JOINS = {
    "append number": lambda t: np.append(t, 1.5),
    "append scalar": lambda t: np.append(t, np.float64(1.5)),
    "hstack number": lambda t: np.hstack([t, 1.5]),
    "stack lists": lambda t: np.stack([t, [1.0, 2.0, 3.0]]),
    "stack numbers": lambda t: np.stack([t[0], 1.5]),
    "concatenate list": lambda t: np.concatenate([t, [1.5]]),
    "concatenate ints": lambda t: np.concatenate([t, np.array([1, 2])]),
    "concatenate flat": lambda t: np.concatenate([t, [1.5]], axis=None),
    "outer list": lambda t: np.outer(t, [1.5, 2.5]),
    "outer number": lambda t: np.outer(t, 2.5),
    "matmul list": lambda t: t @ [1.0, 2.0, 3.0],
    "matmul ints": lambda t: t @ np.array([1, 2, 3]),
    "ints matmul": lambda t: np.array([[1, 2, 3]]) @ t,
    "dot list": lambda t: np.dot(t, [1.0, 2.0, 3.0]),
    "dot number": lambda t: np.dot(t, 2.5),
    "inner list": lambda t: np.inner(t, [1.0, 2.0, 3.0]),
    "tensordot list": lambda t: np.tensordot(t, [1.0, 2.0, 3.0], 1),
    "einsum list": lambda t: np.einsum("i,i", t, [1.0, 2.0, 3.0]),
    "einsum ints": lambda t: np.einsum("i,i->i", t, np.arange(3)),
    "kron number": lambda t: np.kron(t, 2.0),
    "cross list": lambda t: np.cross(t, [1.0, 2.0, 3.0]),
    "average weights": lambda t: np.average(t, weights=[1.0, 2.0, 3.0]),
    "pad": lambda t: np.pad(t, 1, constant_values=1.5),
    "multi_dot": lambda t: np.linalg.multi_dot([t, np.eye(3, dtype=int), t]),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", JOINS)
def test_numbers_and_lists_never_promote_in_functions_of_many(name, dtype):
    x = Tensor(np.array([1, 2, 3], dtype), requires_grad=True)
    y = JOINS[name](x)
    assert y.dtype == dtype and grad(y.sum(), x)[0].dtype == dtype


UNARY = {
    **{
        f.__name__: f
        for f in (np.exp, np.log, np.sqrt, np.tanh, np.sin, np.abs, np.cbrt, np.square)
    },
    **{
        f.__name__: f
        for f in (np.sum, np.mean, np.var, np.std, np.prod, np.max, np.cumsum, np.sort)
    },
    **{f.__name__: f for f in (np.median, np.ptp, np.average, np.cumprod, np.diff, np.nan_to_num)},
    **{f.__name__: f for f in (np.diag, np.trace, np.tril, np.flip, np.ravel, np.round, np.sign)},
    "norm": np.linalg.norm,
    "norm 3": lambda x: np.linalg.norm(x, 3, axis=0),
    "mean axis": lambda x: x.mean(axis=0),
    "tile": lambda x: np.tile(x, 2),
    "pad": lambda x: np.pad(x, 1),
    "x ** 2": lambda x: x**2,
    "x ** -0.5": lambda x: x**-0.5,
    "einsum": lambda x: np.einsum("ii", x),
    "index": lambda x: x[[0, 0]],
}
SOLVERS = {
    **{f.__name__: f for f in (np.linalg.inv, np.linalg.det, np.linalg.cholesky)},
    "slogdet": lambda x: np.linalg.slogdet(x)[1],
    "solve": lambda x: np.linalg.solve(x, [1.0, 2.0]),
    "matrix_power 0": lambda x: np.linalg.matrix_power(x, 0),
    "matrix_power -2": lambda x: np.linalg.matrix_power(x, -2),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_a_function_of_one_keeps_its_dtype(name, dtype):
    x = Tensor(np.array([[1, 2], [3, 5]], dtype), requires_grad=True)
    y = UNARY[name](x)
    assert y.dtype == dtype and isinstance(y.data, np.ndarray)
    assert grad(y.sum(), x)[0].dtype == dtype
    (g,) = grad(y.sum(), x, create_graph=True)
    assert g.dtype == dtype, "also under create_graph"


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_keeps_its_dtype(name, dtype):
    x = Tensor(np.array([[3, 1], [1, 2]], dtype), requires_grad=True)
    y = SOLVERS[name](x)
    assert y.dtype == dtype and grad(y.sum(), x)[0].dtype == dtype


@pytest.mark.parametrize(
    "name", ["exp", "log", "sqrt", "sum", "mean", "max", "square", "cumsum", "abs"]
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_function_of_one_number_keeps_its_dtype(name, dtype):
    x = Tensor(np.array(1.5, dtype), requires_grad=True)
    y = getattr(np, name)(x)
    assert y.dtype == dtype and type(y.data) is np.ndarray
    assert grad(y.sum(), x)[0].dtype == dtype


def test_two_floating_arrays_meet_in_the_wider_dtype_and_each_gradient_returns_to_its_own():
    a = Tensor(np.ones((2, 3), "f4"), requires_grad=True)
    b = Tensor(np.ones(3, "f8"), requires_grad=True)
    for y in (a * b, a + b, a @ b, np.maximum(a, b * 2), np.concatenate([a, b[None]])):
        assert y.dtype == "f8"
        da, db = grad(y.sum(), [a, b])
        assert da.dtype == "f4" and db.dtype == "f8"


@pytest.mark.parametrize(
    "given, dtype",
    [
        (1, "f4"),
        (1.5, "f4"),
        ([1, 2], "f4"),
        ([[1.5], [2.5]], "f4"),
        ((1, 2.5), "f4"),
        (np.ones(2), "f8"),
        (np.ones(2, "f2"), "f2"),
        (np.float64(1), "f8"),
        (np.arange(3), np.arange(3).dtype),
        (np.array([True]), "?"),
        ([], "f4"),
    ],
)
def test_what_a_tensor_is_made_of(given, dtype):
    x = Tensor(given)
    assert x.dtype == dtype and type(x.data) is np.ndarray


def test_an_array_is_not_copied():
    a = np.ones(3)
    assert Tensor(a).data is a


@pytest.mark.parametrize("array", [np.arange(3), np.array([True, False]), np.array(3)])
def test_integer_arrays_never_require_gradients(array):
    with pytest.raises(TypeError, match=str(array.dtype)):
        Tensor(array, requires_grad=True)
    assert not Tensor(array).requires_grad


@pytest.mark.parametrize("bad", [np.ones(2, complex), np.array(["a"]), np.array([None])])
def test_only_real_numbers_make_a_tensor(bad):
    with pytest.raises(TypeError):
        Tensor(bad)


def test_integer_tensors_stay_integers_among_integers():
    ids = Tensor(np.array([1, 2]))
    for y in (ids + 1, ids * 2, -ids, ids + np.array([1, 1]), ids.sum(), ids.max(), ids[0]):
        assert y.dtype.kind == "i"
    assert (ids * 0.5).dtype == np.float32, "a Python float among integers is float32"


def test_float16_sums_do_not_overflow_on_the_way():
    x = Tensor(np.full((4, 4096), 8, "f2"), requires_grad=True)
    assert x.mean().item() == 8 and x.mean().dtype == "f2"
    assert (x / 4096).sum(axis=1).data.tolist() == [8.0] * 4


def test_dtypes_are_the_same_without_a_graph():
    with no_grad():
        assert (Tensor(np.ones(2, "f4")) * np.float64(2) + np.array(1.0)).dtype == "f4"
        assert np.where(np.array([True]), Tensor(np.ones(1, "f4")), 0.5).dtype == "f4"


def test_astype_brings_the_gradient_back():
    x = Tensor(np.ones(2, "f4"), requires_grad=True)
    (g,) = grad((x.astype("f8") ** 2).sum(), x)
    assert g.dtype == "f4" and g.data.tolist() == [2, 2]


def test_an_array_too_large_for_float32_becomes_infinite_and_not_float64():
    with np.errstate(over="ignore"):
        y = Tensor(np.ones(2, "f4")) * 1e300
    assert y.dtype == "f4" and np.isinf(y.data).all()
