"""Values and gradients equal PyTorch's, in float32 and float64, at the edges too."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"
)

inf, nan = float("inf"), float("nan")
EDGES = [-inf, -1000, -2, -1, -0.5, -0.0, 0, 0.5, 1, 2, 1000, inf, nan]
# Where NumPy's own values differ, ours are NumPy's: sign(nan) is nan, not 0, and pow(-inf, 0.5) is
# inf and pow(-0.0, -0.5) is inf, as in C, where PyTorch takes roots.
NUMPYS_OWN = {"sign": [nan], "abs": [nan], "x ** 0.5": [-inf, -0.0], "x ** -0.5": [-inf, -0.0]}

# name: ours, theirs
SAME_NAME = """
abs exp exp2 expm1 log log2 log10 log1p sqrt square reciprocal negative sin cos tan arcsin arccos
arctan sinh cosh tanh arcsinh arccosh arctanh sign floor ceil trunc round deg2rad rad2deg
"""
SAME_NAME_PAIRS = """
add subtract multiply divide maximum minimum fmax fmin fmod hypot logaddexp logaddexp2 remainder
"""
UNARY = {name: (getattr(np, name), getattr(torch, name)) for name in SAME_NAME.split()}
UNARY.update(
    {
        "relu": (lambda x: x.relu(), torch.relu),
        "clip": (lambda x: np.clip(x, -1, 1), lambda x: torch.clamp(x, -1, 1)),
        "clip from below": (lambda x: np.clip(x, 0, None), lambda x: torch.clamp(x, min=0)),
        "maximum 0": (lambda x: np.maximum(x, 0), lambda x: torch.maximum(x, torch.zeros_like(x))),
        "where": (lambda x: np.where(x > 0, x, 0), lambda x: torch.where(x > 0, x, 0)),
        "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (1 + torch.exp(-x))),
        "x / x": (lambda x: x / x, lambda x: x / x),
        **{
            f"x ** {n}": (lambda x, n=n: x**n, lambda x, n=n: x**n)
            for n in (0, 1, 2, 3, 4, -1, -2, 0.0, 0.5, -0.5, 1.5, 2.0)
        },
        **{f"{n} ** x": (lambda x, n=n: n**x, lambda x, n=n: n**x) for n in (0.0, 1.0, 2.0)},
    }
)
BINARY = {name: (getattr(np, name), getattr(torch, name)) for name in SAME_NAME_PAIRS.split()}
BINARY.update({"power": (np.power, torch.pow), "arctan2": (np.arctan2, torch.atan2)})


def ours(function, arrays, weights=None):
    leaves = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    with np.errstate(all="ignore"):
        y = function(*leaves)
        weight = np.ones(y.shape, y.dtype) if weights is None else weights(y.shape).astype(y.dtype)
    y.backward(weight)
    return [y.data, *(leaf.grad for leaf in leaves)], weight


def theirs(function, arrays, weight):
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = function(*leaves)
    y.backward(torch.tensor(weight))
    return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]


def compare(numpy_function, torch_function, arrays, weights=None):
    found, weight = ours(numpy_function, arrays, weights)
    expected = theirs(torch_function, arrays, weight)
    tolerance = 2e-5 if arrays[0].dtype == np.float32 else 1e-12
    names = ["value", *(f"gradient of argument {i}" for i in range(len(arrays)))]
    for name, a, b in zip(names, found, expected):
        assert a.dtype == b.dtype and a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


def ordinary(shape, dtype, seed=0, low=0.1, high=0.9):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


def weights(shape):
    return np.random.default_rng(9).uniform(0.5, 1.5, shape)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", UNARY)
def test_one_argument_at_the_edges(name, dtype):
    left_out = {str(x) for x in NUMPYS_OWN.get(name, [])}
    edges = [x for x in EDGES if str(x) not in left_out]
    compare(*UNARY[name], [np.array(edges, dtype)])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", [n for n in UNARY if n != "arccosh"])
def test_one_argument(name, dtype):
    compare(*UNARY[name], [ordinary((3, 4), dtype)], weights)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", BINARY)
def test_two_arguments_broadcast(name, dtype):
    compare(*BINARY[name], [ordinary((3, 4), dtype), ordinary((4,), dtype, 1)], weights)


PAIRS = np.array(
    [(a, b) for a in [-2, -1, 0, 0.5, 1, 1000] for b in [-1, 0, 0.5, 1, 2, 1000]], "f8"
)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", BINARY)
def test_two_arguments_at_the_edges(name, dtype):
    a, b = PAIRS.T.astype(dtype)
    if name in ("remainder", "fmod"):
        a, b = a[b != 0], b[b != 0]
    if name in ("fmax", "fmin"):  # PyTorch gives a tie to the first argument, we half to each
        a, b = a[a != b], b[a != b]
    compare(*BINARY[name], [a, b])


@pytest.mark.parametrize(
    "name", ["maximum", "minimum", "fmax", "fmin", "add", "multiply", "divide"]
)
def test_two_arguments_not_finite(name):
    values = [-inf, 0.0, 1.0, inf, nan]
    a, b = np.array([(x, y) for x in values for y in values if str(x) != str(y)]).T
    compare(*BINARY[name], [a, b])


REDUCTIONS = {
    "sum": (lambda x: x.sum(axis=1), lambda x: x.sum(1)),
    "mean": (lambda x: np.mean(x, axis=0), lambda x: x.mean(0)),
    "var": (lambda x: np.var(x, axis=1), lambda x: x.var(1, unbiased=False)),
    "std": (lambda x: np.std(x, axis=1, ddof=1), lambda x: x.std(1)),
    "prod": (lambda x: np.prod(x, axis=1), lambda x: x.prod(1)),
    "max": (lambda x: np.max(x, axis=1), lambda x: x.amax(1)),
    "min": (lambda x: np.min(x, axis=0), lambda x: x.amin(0)),
    "max of all": (np.max, torch.amax),
    "cumsum": (lambda x: np.cumsum(x, axis=1), lambda x: x.cumsum(1)),
    "cumprod": (lambda x: np.cumprod(x, axis=1), lambda x: x.cumprod(1)),
    "norm": (lambda x: np.linalg.norm(x, axis=1), lambda x: torch.linalg.vector_norm(x, dim=1)),
    "norm 3": (
        lambda x: np.linalg.norm(x, 3, axis=1),
        lambda x: torch.linalg.vector_norm(x, 3, dim=1),
    ),
    "norm 1": (
        lambda x: np.linalg.norm(x, 1, axis=1),
        lambda x: torch.linalg.vector_norm(x, 1, dim=1),
    ),
    "frobenius": (np.linalg.norm, torch.linalg.matrix_norm),
    "softmax": (lambda x: softmax(x), lambda x: torch.softmax(x, 1)),
    "log_softmax": (lambda x: log_softmax(x), lambda x: torch.log_softmax(x, 1)),
}


def softmax(x):
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def log_softmax(x):
    shifted = x - np.max(x, axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


MATRICES = {
    "ordinary": ordinary((3, 4), "f8"),
    "ties": np.array([[1.0, 2, 2, 0], [1, 1, 1, 1], [0, 2, 2, 2]]),
    "zeros": np.array([[0.0, 2, 3, 4], [0, 0, 3, 4], [0, 0, 0, 0]]),
    "saturated": np.array(
        [[1000.0, -1000, 0, 0], [-1000, -1000, -1000, -1000], [1000, 1000, 0, 1]]
    ),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name, matrix, dtype):
    compare(*REDUCTIONS[name], [MATRICES[matrix].astype(dtype)], weights)


def test_softmax_of_all_minus_infinity():
    x = np.array([[-inf, -inf], [0.0, -inf]])
    compare(lambda x: softmax(x), lambda x: torch.softmax(x, 1), [x])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_double_where(dtype):
    compare(
        lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0),
        lambda x: torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1)), 0),
        [np.array([-1, 0, 4], dtype)],
    )


LINEAR_ALGEBRA = {
    "inv": (np.linalg.inv, torch.linalg.inv),
    "det": (np.linalg.det, torch.linalg.det),
    "slogdet": (lambda a: np.linalg.slogdet(a)[1], lambda a: torch.linalg.slogdet(a)[1]),
    "cholesky": (np.linalg.cholesky, torch.linalg.cholesky),
    "solve": (lambda a: np.linalg.solve(a, a.T + 1), lambda a: torch.linalg.solve(a, a.T + 1)),
    "a @ a": (lambda a: a @ a, lambda a: a @ a),
    "einsum": (
        lambda a: np.einsum("ij,jk,ii->k", a, a, a),
        lambda a: torch.einsum("ij,jk,ii->k", a, a, a),
    ),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", LINEAR_ALGEBRA)
def test_linear_algebra(name, dtype):
    a = ordinary((3, 3), "f8")
    compare(*LINEAR_ALGEBRA[name], [(a @ a.T + 2 * np.eye(3)).astype(dtype)], weights)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("name", ["sum", "mean", "prod"])
def test_empty(name, shape):
    compare(getattr(np, name), getattr(torch, name), [np.zeros(shape, "f4")])


def test_a_network_in_float32():
    x, w, v = ordinary((8, 5), "f4"), ordinary((5, 7), "f4", 1), ordinary((7, 3), "f4", 2)
    compare(
        lambda x, w, v: log_softmax(np.tanh(x @ w) @ v)[np.arange(8), 1].mean(),
        lambda x, w, v: torch.log_softmax(torch.tanh(x @ w) @ v, 1)[torch.arange(8), 1].mean(),
        [x, w, v],
    )
