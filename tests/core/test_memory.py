"""The graph keeps what rules name and no more, memory stays flat, and long sums stay right."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest

from utils import Tensor, grad

MEBIBYTE = 2**20

# What a rule's parameters name is kept, all else is not: function, a kept, b kept, y kept.
KEPT = {
    "a + b": (lambda a, b: a + b, False, False, False),
    "a - b": (lambda a, b: a - b, False, False, False),
    "a * b": (lambda a, b: a * b, True, True, False),
    "a / b": (lambda a, b: a / b, False, True, True),
    "exp(a)": (lambda a, b: np.exp(a), False, False, True),
    "tanh(a)": (lambda a, b: a.tanh(), False, False, True),
    "sqrt(a)": (lambda a, b: np.sqrt(a), False, False, True),
    "log(a)": (lambda a, b: np.log(a), True, False, False),
    "square(a)": (lambda a, b: a**2, True, False, False),
    "relu(a)": (lambda a, b: a.relu(), False, False, True),
    "sum(a)": (lambda a, b: a.sum(axis=0), False, False, False),
    "mean(a)": (lambda a, b: np.mean(a, axis=0), False, False, False),
    "cumsum(a)": (lambda a, b: np.cumsum(a), False, False, False),
    "a @ b": (lambda a, b: a @ b, True, True, False),
    "concatenate": (lambda a, b: np.concatenate([a, b]), False, False, False),
    "a[[0, 0]]": (lambda a, b: a[[0, 0]], False, False, False),
    "-a": (lambda a, b: -a, False, False, False),
    "a * 2": (lambda a, b: a * 2.0, False, False, False),
    "repeat": (lambda a, b: np.repeat(a, 2), False, False, False),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_graph_keeps_only_what_rules_name(name):
    function, *expected = KEPT[name]
    base = Tensor(np.full((3, 3), 1.5), requires_grad=True)
    a, b = base + 1.0, base + 2.0
    y = function(a, b)
    node = y.node  # the graph, without the Tensor
    refs = [weakref.ref(t.data) for t in (a, b, y)]
    del a, b, y
    for ref, keep, what in zip(refs, expected, ("the first argument", "the second", "the output")):
        assert (ref() is not None) == keep, f"{what} of {name} is {'lost' if keep else 'kept'}"
    assert node is not None


def test_a_constant_factor_is_kept_and_the_variable_is_not():
    base = Tensor(np.ones(3), requires_grad=True)
    a, constant = base + 1.0, np.full(3, 2.0)
    y, ref, kept = a * constant, weakref.ref(a.data), weakref.ref(constant)
    del a, constant
    assert ref() is None and kept() is not None and y.requires_grad


def test_backward_frees_what_was_saved():
    base = Tensor(np.ones(3), requires_grad=True)
    y = np.exp(base)
    z, ref = y.sum(), weakref.ref(y.data)
    del y
    assert ref() is not None
    z.backward()
    assert ref() is None, "z lives, but its graph is freed"


def peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_fifty_chained_adds_of_4_mebibytes_peak_under_16():
    x = Tensor(np.ones(MEBIBYTE, "f4"), requires_grad=True)

    def adds():
        y = x
        for _ in range(50):
            y = y + 1.0
        y.backward(np.ones(MEBIBYTE, "f4"))

    used = peak(adds) / MEBIBYTE
    assert used < 16.5, f"{used:.1f} MiB"  # counting the gradient that the caller gives


def test_fifty_chained_adds_forward_only():
    x = Tensor(np.ones(MEBIBYTE, "f4"), requires_grad=True)

    def adds():
        y = x
        for _ in range(50):
            y = y + x
        return y

    assert peak(adds) < 12 * MEBIBYTE


ONES = 2**25


def test_long_float32_sums_over_the_first_axis_are_right():
    x = Tensor(np.broadcast_to(np.float32(1), (ONES, 1)))
    assert x.sum(axis=0).data.tolist() == [ONES]
    assert Tensor(np.ones((ONES // 2, 2), "f4")).sum(axis=0).data.tolist() == [ONES // 2] * 2
    assert np.mean(x, axis=0).data.tolist() == [1]


def test_the_gradient_of_a_bias_over_a_long_batch_is_right():
    bias = Tensor(np.zeros(2, "f4"), requires_grad=True)
    y = np.broadcast_to(bias, (ONES, 2))
    (g,) = grad(y, bias, np.broadcast_to(np.float32(1), (ONES, 2)))
    assert g.data.tolist() == [ONES, ONES] and g.dtype == np.float32


@pytest.mark.parametrize(
    "shape, axis", [((300, 7, 500), (0, 1)), ((100_000, 3), 0), ((9, 9999, 2), 1)]
)
def test_float32_sums_are_as_good_as_float64s(shape, axis):
    x = np.random.default_rng(0).uniform(0, 1, shape).astype("f4")
    expected = x.sum(axis=axis, dtype="f8")
    for layout in (x, np.asfortranarray(x)):
        found = Tensor(layout).sum(axis=axis).data
        np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_long_float32_sums_that_numpy_takes_one_by_one():
    """A number of ones that float32 addition never reaches: at 2^24 it stands still."""
    n = 2**24 + 2**20
    x = Tensor(np.ones((n, 1), np.float32))
    bias = Tensor(np.ones(1, np.float32), requires_grad=True)
    (by_einsum,) = grad(np.einsum("ij,j->ij", x, bias).sum(), bias)
    assert by_einsum.item() == n, "the gradient of a broadcast operand is a long sum too"
    assert np.einsum("ij->j", x).item() == n
    assert np.cumsum(x.data[:, 0]).max() < n == np.cumsum(Tensor(x.data[:, 0])).data[-1]
