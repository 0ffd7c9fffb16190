"""What the tests of the engine share: arrays with names, and the check of a value and its gradient.

A case is an expression, such as "np.matmul(A, v)", in the arrays below; it is also the test's name.
"""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, check_gradients, primitives
from utils.exercises.workspace import Workspace


def spread(*shape, low=-2.0, high=2.1, seed=0):
    """Distinct numbers of distinct sizes, evenly spaced and shuffled: far from ties and from 0."""
    n = int(np.prod(shape))
    order = np.random.default_rng(seed).permutation(n)
    return (low + (high - low) * (order + 0.5) / max(n, 1)).reshape(shape)


def positive_definite(*shape, seed):
    a = spread(*shape, seed=seed)
    return a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])


ARRAYS = {
    "s": np.array(0.7),
    "v": spread(4, seed=1),
    "w": spread(4, seed=2),
    "u": spread(3, seed=3),
    "A": spread(3, 4, seed=4),
    "B": spread(3, 4, seed=5) + 0.03,
    "M": spread(4, 2, seed=6),
    "S": spread(3, 3, seed=7) + 3 * np.eye(3),
    "R": spread(1, 4, seed=8),
    "C": spread(3, 1, seed=9),
    "K": spread(2, 3, 4, seed=10),
    "L": spread(2, 4, 2, seed=11),
    "D": positive_definite(2, 3, 3, seed=12),
    "F": spread(2, 1, 2, 2, seed=13),
    "E": np.zeros((0, 4)),
    "Z": np.zeros((3, 0)),
}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A reader's folder of copies, still empty."""
    monkeypatch.setenv("DLFP_MY_WORK", str(tmp_path / "mine"))
    return Workspace()


@pytest.fixture
def check():
    """Compare a function's value with NumPy's own and its derivatives with differences."""

    def check(function, *arrays, order=1):
        expected = function(*arrays)
        found = function(*[Tensor(a) for a in arrays])
        if not isinstance(expected, (list, tuple)):
            expected, found = [expected], [found]
        assert len(found) == len(expected), "NumPy returns another number of arrays"
        for y, numpy_y in zip(found, expected):
            assert isinstance(y, Tensor), "the result left the graph"
            assert y.shape == np.shape(numpy_y) and y.dtype == numpy_y.dtype
            np.testing.assert_allclose(y.data, numpy_y, rtol=1e-12, atol=1e-12)
        return check_gradients(function, arrays, order=order, tolerance=1e-8)

    return check


@pytest.fixture
def check_expression(check):
    """`check` an expression in ARRAYS; `linear` ones also squared, where higher orders count."""

    def check_expression(expression, order=1, linear=False):
        names = [n for n in compile(expression, "case", "eval").co_names if n in ARRAYS]
        namespace = {"np": np, **vars(primitives)}
        function = eval(f"lambda {', '.join(names)}: {expression}", namespace)
        arrays = [ARRAYS[name] for name in names]
        check(function, *arrays, order=order)
        if linear:
            single = lambda *xs: _first(function(*xs)) ** 2
            check(single, *arrays, order=2)

    return check_expression


def _first(outputs):
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs
