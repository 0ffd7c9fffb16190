"""`grad` and `backward`: what they return, what they change, and what they refuse."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from utils import Tensor, grad


def leaf(*values, dtype="f8"):
    return Tensor(np.array(values, dtype), requires_grad=True)


def test_grad_by_hand():
    x, y = leaf(2.0), leaf(3.0)
    dx, dy = grad((x * y + x**2).sum(), [x, y])
    assert dx.data.tolist() == [7] and dy.data.tolist() == [2]
    assert isinstance(dx, Tensor) and not dx.requires_grad


def test_backward_by_hand():
    x, y = leaf(2.0), leaf(3.0)
    (x * y + x**2).sum().backward()
    assert x.grad.tolist() == [7] and y.grad.tolist() == [2] and type(x.grad) is np.ndarray


def test_inputs_may_be_one_tensor_and_outputs_several():
    x = leaf(1.0, 2.0)
    found = grad([x.sum(), (x * x).sum()], x)
    assert isinstance(found, list) and found[0].data.tolist() == [3, 5]
    found = grad([x * 1, x * x], x, gradients=[np.array([1.0, 0.0]), np.array([0.0, 10.0])])
    assert found[0].data.tolist() == [1, 40]
    assert grad((x.sum(), x.sum()), (x,))[0].data.tolist() == [2, 2]


def test_the_same_output_and_the_same_input_twice():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    a, b = grad([y, y], [x, x])
    assert a.data.tolist() == [4, 8] and b.data.tolist() == [4, 8]


def test_unused_inputs_get_zeros():
    x, unused = leaf(1.0), Tensor(np.ones((2, 3), "f4"), requires_grad=True)
    for create_graph in (False, True):
        _, zero = grad(x.sum(), [x, unused], create_graph=create_graph)
        assert zero.shape == (2, 3) and zero.dtype == "f4" and not zero.data.any()


def test_an_input_in_the_middle_of_the_graph():
    x = leaf(1.0, 2.0)
    h = np.exp(x)
    y = (h * h * x).sum()
    dh, dx = grad(y, [h, x])
    np.testing.assert_allclose(dh.data, 2 * h.data * x.data)
    np.testing.assert_allclose(dx.data, h.data**2 * (1 + 2 * x.data))
    assert grad(y, y)[0].item() == 1


@pytest.mark.parametrize("weight", [np.array([1.0, -2.0]), Tensor(np.array([1.0, -2.0]))])
def test_a_gradient_weighs_the_output(weight):
    x = leaf(3.0, 4.0)
    assert grad(x * x, x, gradients=weight)[0].data.tolist() == [6, -16]
    (x * x).backward(weight)
    assert x.grad.tolist() == [6, -16]


@pytest.mark.parametrize("weight", [2, 2.0, np.float64(2), np.float32(2), np.array(2.0)])
def test_a_number_weighs_an_output_that_is_one(weight):
    x = leaf(3.0)
    assert grad((x * x).sum(), x, gradients=weight)[0].data.tolist() == [12]


def test_grad_touches_no_grad_and_no_array():
    x = leaf(1.0, 2.0)
    x.grad = np.array([5.0, 5.0])
    weight = np.array([1.0, 1.0])
    found = grad(x + 0, x, weight)[0]
    found.data[:] = 99
    assert x.grad.tolist() == [5, 5] and weight.tolist() == [1, 1] and x.data.tolist() == [1, 2]


def test_results_of_grad_share_no_memory():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    found = [g.data for g in grad((a + b).sum(), [a, b])]
    assert not np.shares_memory(*found) and all(g.flags.writeable for g in found)


def test_create_graph_gives_derivatives_of_every_order():
    x = leaf(2.0)
    y, orders = (x**4).sum(), []
    for _ in range(5):
        (g,) = grad(y, x, create_graph=True)
        orders.append(g.item())
        y = g.sum()
    assert orders == [32, 48, 48, 24, 0]


def test_create_graph_through_the_given_gradient():
    x, weight = leaf(2.0, 3.0), leaf(1.0, 1.0)
    (g,) = grad(x**2, x, gradients=weight, create_graph=True)
    assert grad(g.sum(), weight)[0].data.tolist() == [4, 6]


def test_backward_through_a_gradient():
    x = leaf(1.0, 2.0)
    (g,) = grad((x**3).sum(), x, create_graph=True)
    (g * g).sum().backward()
    np.testing.assert_allclose(x.grad, 36 * x.data**3)


def test_a_second_backward_says_what_to_do():
    x = leaf(1.0)
    y = np.exp(x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        grad(y, x)
    assert x.grad.tolist() == [np.e], "the refused pass added nothing"


def test_retain_graph_allows_a_second():
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12]
    z = (x * x).sum()
    grad(z, x)
    grad(z, x, retain_graph=False)
    with pytest.raises(RuntimeError, match="retain_graph"):
        grad(z, x)


def test_a_shared_part_that_was_freed_is_noticed_by_the_other_output():
    x = leaf(3.0)
    h = np.exp(x)
    first, second = h.sum(), (h * h).sum()
    first.backward()
    with pytest.raises(RuntimeError, match="freed"):
        second.backward()


@pytest.mark.parametrize("call", [lambda y, x: y.backward(), lambda y, x: grad(y, x)])
def test_a_non_scalar_needs_a_gradient(call):
    x = leaf(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        call(x * 2, x)


@pytest.mark.parametrize("weight", [np.ones(2), np.ones((3, 1)), np.float64(1), [1.0, 2.0]])
def test_a_gradient_of_another_shape_shows_both(weight):
    x = leaf(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        (x * 2).backward(weight)


def test_as_many_gradients_as_outputs():
    x = leaf(1.0)
    with pytest.raises(ValueError, match="2"):
        grad([x * 2, x * 3], x, gradients=[np.ones(1)])


def test_what_requires_no_gradient_says_so():
    x, constant = leaf(1.0), Tensor([1.0])
    with pytest.raises((RuntimeError, ValueError), match="requires? gradients"):
        constant.sum().backward()
    with pytest.raises((RuntimeError, ValueError), match="require gradients"):
        grad(x.sum(), constant)
    with pytest.raises((RuntimeError, ValueError), match="leaf"):
        (x * 2).requires_grad = False


def test_gradients_add_up_over_passes():
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * x).sum().backward()
    assert x.grad.tolist() == [6, 12]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_gradients_add_into_views_of_one_flat_buffer():
    flat = np.zeros(6, "f4")
    a = Tensor(np.ones((2, 2), "f4"), requires_grad=True)
    b = Tensor(np.ones(2, "f4"), requires_grad=True)
    a.grad, b.grad = flat[:4].reshape(2, 2), flat[4:]
    for _ in range(2):
        (a * 3 + b).sum().backward()
    assert flat.tolist() == [6, 6, 6, 6, 4, 4]
    assert np.shares_memory(a.grad, flat) and np.shares_memory(b.grad, flat)


@pytest.mark.parametrize("buffer", [np.zeros(3), np.zeros((2, 1)), [0.0, 0.0], 0.0])
def test_a_buffer_of_another_shape_is_refused(buffer):
    with pytest.raises((ValueError, TypeError), match=r"\(2,\)"):
        leaf(1.0, 2.0).grad = buffer


OWN = {
    "add": lambda a, b: a + b,
    "broadcast": lambda a, b: np.broadcast_to(a, (3, 2)) + b,
    "reshape": lambda a, b: a.reshape(2, 1) + b.reshape(2, 1),
    "concatenate": lambda a, b: np.concatenate([a, b]),
    "transpose": lambda a, b: np.stack([a, b]).T,
    "the same twice": lambda a, b: a + a + b,
    "stack": lambda a, b: np.stack([a, b, a]),
    "flip": lambda a, b: np.flip(a) + b,
    "index": lambda a, b: a[::-1] + b[:],
    "maximum": np.maximum,
    "where": lambda a, b: np.where(np.array([True, False]), a, b),
    "split": lambda a, b: sum(np.split(a, 2)) + b,
    "einsum": lambda a, b: np.einsum("i,i->i", a, b) + np.einsum("i->i", a),
    "exp": lambda a, b: np.exp(a) + b,
}


@pytest.mark.parametrize("name", OWN)
def test_each_leaf_has_a_writable_gradient_of_its_own(name):
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = OWN[name](a, b)
    seed = np.ones(y.shape)
    y.backward(seed)
    for x in (a, b):
        assert x.grad.flags.writeable and x.grad.dtype == x.dtype and x.grad.shape == x.shape
        assert not np.shares_memory(x.grad, seed) and not np.shares_memory(x.grad, x.data)
    assert not np.shares_memory(a.grad, b.grad)
    a.grad[:] = 0
    assert (seed == 1).all() and b.grad.any()


def test_a_leaf_is_its_own_gradient():
    x, seed = leaf(1.0, 2.0), np.array([3.0, 4.0])
    x.backward(seed)
    assert x.grad.tolist() == [3, 4] and not np.shares_memory(x.grad, seed)


def test_deepcopy_makes_an_independent_leaf():
    x = leaf(1.0, 2.0)
    twins = copy.deepcopy([x, x])
    assert twins[0] is twins[1] and twins[0].requires_grad
    (twins[0] * x).sum().backward()
    assert x.grad.tolist() == [1, 2] and not np.shares_memory(twins[0].data, x.data)
    with pytest.raises(RuntimeError, match="leaf"):
        copy.deepcopy(x * 2)
