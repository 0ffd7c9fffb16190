"""A kernel: equal to its composed form, in every derivative; its flags, its seams, its errors."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, check_gradients, grad, kernel, no_grad

calls = []


def composed_silu(x, w, *, power=1):
    z = x @ w
    return (z / (1 + np.exp(-z))) ** power


@kernel(composed=composed_silu)
def linear_silu(x, w, *, power=1):
    """silu(x @ w)**power, from arrays: (B, N) and (N, M) to (B, M)."""
    z = x @ w
    gate = 1 / (1 + np.exp(-z))
    y = z * gate

    def backward(g, wanted):
        calls.append(wanted)
        dz = g * power * y ** (power - 1) * gate * (1 + z * (1 - gate))
        return dz @ w.T if wanted[0] else None, x.T @ dz if wanted[1] else None

    return y**power, backward


@pytest.fixture
def operands(rng):
    calls.clear()
    return rng.standard_normal((3, 4)), rng.standard_normal((4, 2))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_kernel_equals_its_composed_form(operands, power, dtype):
    leaves = [Tensor(a.astype(dtype), requires_grad=True) for a in operands]
    fused, plain = linear_silu(*leaves, power=power), composed_silu(*leaves, power=power)
    tolerance = 1e-5 if dtype == "f4" else 1e-12
    np.testing.assert_allclose(fused.data, plain.data, rtol=tolerance)
    for a, b in zip(grad(fused.sum(), leaves), grad(plain.sum(), leaves)):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.data, b.data, rtol=tolerance, atol=tolerance)
    assert linear_silu.composed is composed_silu


@pytest.mark.parametrize("power", [1, 2])
def test_derivatives_of_every_order(operands, power):
    x, w = operands
    check_gradients(
        lambda x, w: linear_silu(x, w, power=power), [x[:2], w], order=3, tolerance=1e-8
    )


def test_second_derivatives_when_one_operand_is_both(rng):
    check_gradients(lambda x: linear_silu(x, x), [rng.standard_normal((2, 2))], order=2)
    check_gradients(
        lambda x: linear_silu(np.tanh(x), x * 2), [rng.standard_normal((2, 2))], order=2
    )


def test_wanted_says_which_gradients_are_needed(operands):
    x, w = [Tensor(a, requires_grad=True) for a in operands]
    grad(linear_silu(x, w).sum(), [w])
    grad(linear_silu(x, w).sum(), [x])
    grad(linear_silu(x, operands[1]).sum(), [x])
    linear_silu(operands[0], w).sum().backward()
    linear_silu(x, w).sum().backward()
    assert calls == [(False, True), (True, False), (True, False), (False, True), (True, True)]
    assert all(type(flag) is bool for flags in calls for flag in flags)


def test_on_arrays_a_kernel_is_a_function_of_arrays(operands):
    y = linear_silu(*operands)
    assert type(y) is np.ndarray and y.shape == (3, 2)


def test_without_gradients_no_graph_is_built(operands):
    x, w = operands
    assert not linear_silu(Tensor(x), w).requires_grad
    with no_grad():
        assert not linear_silu(Tensor(x, requires_grad=True), w).requires_grad
    assert isinstance(linear_silu(Tensor(x), w), Tensor)


def test_a_second_backward_is_refused_and_retain_graph_allows_it(operands):
    x, w = [Tensor(a, requires_grad=True) for a in operands]
    y = linear_silu(x, w).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward()


def planted(found):
    """A kernel whose backward returns what it is told to."""

    @kernel(composed=lambda a, b: a * b)
    def product(a, b):
        return a * b, lambda g, wanted: found(g, a, b)

    return product


def run(product):
    leaves = [Tensor(np.array([[1.0, 2.0]]), requires_grad=True) for _ in range(2)]
    product(*leaves).sum().backward()
    return leaves


@pytest.mark.parametrize(
    "found",
    [
        lambda g, a, b: (g * b,),
        lambda g, a, b: g * b,
        lambda g, a, b: None,
        lambda g, a, b: (g * b, None),
        lambda g, a, b: (g * b, (g * a)[:, :1, None, None]),
        lambda g, a, b: (g * b, np.ones((1, 3))),
    ],
    ids=["too few", "not a tuple", "nothing", "None where wanted", "more axes", "another shape"],
)
def test_a_bad_backward_is_named(found):
    with pytest.raises((TypeError, ValueError), match="product"):
        run(planted(found))


def test_tensors_are_not_given_by_keyword(operands):
    with pytest.raises(TypeError, match="position"):
        linear_silu(operands[0], w=Tensor(operands[1], requires_grad=True))


def test_passing_g_on_does_not_tie_the_gradients_together():
    @kernel(composed=lambda a, b: a + b)
    def plus(a, b):
        return a + b, lambda g, wanted: (g, g)

    a, b = [Tensor(np.ones(2), requires_grad=True) for _ in range(2)]
    seed = np.ones(2)
    plus(a, b).backward(seed)
    assert not np.shares_memory(a.grad, b.grad) and not np.shares_memory(a.grad, seed)
    a.grad[:] = 5
    assert b.grad.tolist() == [1, 1]


def test_one_array_for_two_gradients_does_not_tie_them_together():
    @kernel(composed=lambda a, b: 2 * (a + b))
    def twice_plus(a, b):
        def backward(g, wanted):
            both = 2 * g
            return both, both

        return 2 * (a + b), backward

    a, b = [Tensor(np.ones(2), requires_grad=True) for _ in range(2)]
    for _ in range(2):
        twice_plus(a, b).sum().backward()
    assert a.grad.tolist() == [4, 4] and b.grad.tolist() == [4, 4]


def test_integer_arguments_pass_through():
    @kernel(composed=lambda table, ids: table[ids])
    def look_up(table, ids):
        def backward(g, wanted):
            assert not wanted[1]
            dtable = np.zeros_like(table)
            np.add.at(dtable, ids, g)
            return dtable, None

        return table[ids], backward

    table, ids = Tensor(np.zeros((3, 2)), requires_grad=True), np.array([0, 2, 0])
    look_up(table, ids).sum().backward()
    assert table.grad.tolist() == [[2, 2], [0, 0], [1, 1]]
    check_gradients(lambda t: look_up(t, ids) ** 2, [np.ones((3, 2))], order=2)


def test_activation_checkpointing_runs_backward_inside_a_kernels_backward():
    """The block is computed again in backward; its weights' gradients add up on the way."""
    w = Tensor(np.array([[0.5, -1.0], [2.0, 0.3]]), requires_grad=True)
    recomputed = []

    def block(x):
        recomputed.append(1)
        return np.tanh(x @ w)

    @kernel(composed=block)
    def checkpointed(x):
        with no_grad():
            y = block(Tensor(x)).data

        def backward(g, wanted):
            inside = Tensor(x, requires_grad=True)
            block(inside).backward(g)
            return (inside.grad,)

        return y, backward

    x = Tensor(np.array([[1.0, 2.0]]), requires_grad=True)
    (checkpointed(checkpointed(x)) ** 2).sum().backward()
    assert len(recomputed) == 4
    found = [x.grad, w.grad]
    x.grad = w.grad = None
    (block(block(x)) ** 2).sum().backward()
    for a, b in zip(found, [x.grad, w.grad]):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert w.grad.any()


def test_backward_inside_a_kernel_works_under_no_grad():
    @kernel(composed=lambda x: x**2)
    def squared(x):
        def backward(g, wanted):
            inside = Tensor(x, requires_grad=True)
            return (grad((inside**2 * g).sum(), inside)[0].data,)

        return x**2, backward

    x = Tensor(np.array([3.0]), requires_grad=True)
    y = squared(x).sum()
    with no_grad():
        y.backward()
    assert x.grad.tolist() == [6]
