"""What a leaf keeps, and what it refuses: its gradient buffer, its hooks, its dtype."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from utils import Tensor, grad, kernel


class Parameter(Tensor):
    """As chapter 3 will derive it."""

    def __init__(self, data):
        super().__init__(data, requires_grad=True)
        self.decay = 0.5


def test_freezing_keeps_the_buffer_and_the_hooks():
    calls = []
    p = Tensor([1.0, 2.0], requires_grad=True)
    p.register_hook(calls.append)
    buffer = p.grad = np.zeros(2, np.float32)
    p.requires_grad = False
    assert p.grad is None
    p.requires_grad = True
    (p * 2).sum().backward()
    assert p.grad is buffer and buffer.tolist() == [2, 2] and len(calls) == 1


@pytest.mark.parametrize(
    "buffer",
    [np.zeros(3), np.zeros((1, 3), np.float32), np.broadcast_to(np.float32(0), 3), [0.0] * 3],
    ids=["float64", "another shape", "read-only", "list"],
)
def test_a_buffer_that_cannot_take_the_gradient_is_refused_at_once(buffer):
    p = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    with pytest.raises(ValueError, match="writable float32"):
        p.grad = buffer


def test_hooks_are_removed_once_each():
    calls = []
    p = Tensor(1.0, requires_grad=True)
    first, second = (p.register_hook(calls.append) for _ in range(2))
    first()
    first()
    (p * 1).backward()
    assert len(calls) == 1, "removing a hook twice must not remove another"
    second()
    (p * 1).backward()
    assert len(calls) == 1


def test_integers_have_no_gradient():
    x = Tensor([1.5, 2.5], requires_grad=True)
    with pytest.raises(TypeError, match="integers"):
        x.astype(np.int64)
    assert x.detach().astype(np.int64).tolist() == [1, 2]


def test_a_subclass_works_as_an_operand_and_is_copied_whole():
    p = Parameter([1.0, 2.0])
    q = copy.deepcopy(p)
    assert type(q) is Parameter and q.decay == 0.5 and q.requires_grad
    q.data[0] = 9.0
    assert p.data[0] == 1.0
    (p * q).sum().backward()
    assert p.grad.tolist() == [9, 2] and type(p * q) is Tensor


def test_where_with_a_condition_alone_is_nonzero():
    (places,) = np.where(Tensor([0.0, 2.0, 3.0], requires_grad=True))
    assert places.tolist() == [1, 2]


def test_a_kernel_takes_tensors_one_by_one():
    @kernel(composed=lambda x: x)
    def first_of(xs):
        return xs[0], lambda g, wanted: (g,)

    x = Tensor([1.0], requires_grad=True)
    for nested in ([x], (x,), {"x": x}, [[x]]):
        with pytest.raises(TypeError, match="position"):
            first_of(nested)


def test_a_kernel_cannot_change_the_gradient_that_it_is_given():
    @kernel(composed=lambda x: 2 * x)
    def twice(x):
        def backward(g, wanted):
            g *= 2
            return (g,)

        return 2 * x, backward

    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match="read-only"):
        (twice(x) + x).sum().backward()


def test_a_composed_form_sees_tensors_also_where_no_gradient_is_wanted():
    @kernel(composed=lambda x, w: x.relu() * w)
    def gated(x, w):
        return np.maximum(x, 0) * w, lambda g, wanted: (None, g * np.maximum(x, 0))

    w = Tensor([3.0, 4.0], requires_grad=True)
    (g,) = grad(gated(np.array([-1.0, 2.0], np.float32), w).sum(), w, create_graph=True)
    assert g.tolist() == [0, 2]


@pytest.mark.parametrize(
    "lost",
    [
        lambda x, b: x * [b, b],
        lambda x, b: np.maximum(x, [b, b]),
        lambda x, b: np.where(np.array([True, False]), [b, b], x),
        lambda x, b: np.clip(x, [b, b], None),
        lambda x, b: np.einsum("i,i->", x, [b, b]),
        lambda x, b: np.full_like(x.data, b),
        lambda x, b: Tensor([b, b]),
    ],
)
def test_tensors_in_a_list_are_no_silent_constants(lost):
    x, b = (Tensor(v, requires_grad=True) for v in ([1.0, 2.0], 3.0))
    with pytest.raises(TypeError, match="gradient|derivative"):
        lost(x, b)


def test_a_copy_has_a_leaf_of_its_own():
    b = Tensor(3.0, requires_grad=True)
    c = copy.copy(b)
    db, dc = grad(b * b * c, [b, c])
    assert (db.item(), dc.item()) == (18, 9)


def test_crossed_bounds_of_clip():
    a, low, high = (Tensor([v], requires_grad=True) for v in (0.5, 2.0, 1.0))
    gradients = grad(np.clip(a, low, high).sum(), [a, low, high])
    assert [g.item() for g in gradients] == [0, 0, 1], "NumPy takes the upper bound"


def test_complex_and_text_do_not_mix_with_tensors():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for other in (np.array([1j, 2j]), np.array(["3", "4"]), np.array([1, 2], "m8[s]")):
        with pytest.raises(TypeError, match="real numbers"):
            x * other
    for data in (None, "3.5"):
        with pytest.raises(TypeError, match="real numbers"):
            Tensor(data)


def test_numpy_arguments_by_position_and_by_default():
    x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    assert np.sum(x, 0, None, None, True).shape == (1, 3)
    assert np.mean(x, dtype=None).item() == 2.5
    with pytest.raises(TypeError, match="dtype"):
        np.sum(x, 0, np.float32)
    with pytest.raises((TypeError, ValueError), match="upper"):
        np.linalg.cholesky(x @ x.T, upper=True)


def test_thawing_brings_back_nothing_stale():
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    x.requires_grad = False
    x.grad = None
    x.requires_grad = True
    assert x.grad is None, "a gradient that was cleared while frozen stays cleared"
    x.requires_grad = False
    x.data = np.zeros((2, 2), np.float32)
    x.requires_grad = True
    (x * 2).sum().backward()
    assert x.grad.shape == (2, 2)


def test_a_hook_is_removed_after_the_graph_is_gone():
    y = Tensor(1.0, requires_grad=True) * 2
    remove = y.register_hook(lambda g: None)
    y.backward()
    remove()


def test_unusual_but_legal_arguments():
    x = Tensor(np.arange(3, dtype=np.float32), requires_grad=True)
    assert np.full_like(x, -np.inf).dtype == np.float32
    assert np.sum(x, where=True).item() == 3 and np.cumsum(x, 0, None).shape == (3,)
    for refused in ({"where": False}, {"initial": False}, {"initial": 0}):
        with pytest.raises(TypeError, match="not supported"):
            np.max(x, **refused)
    assert (10**30 * x).dtype == np.float32
    assert (Tensor(np.array([1, 2])) ** 2.0).dtype == np.float32
    assert np.linspace(1, Tensor(np.array(5)), 3).tolist() == [1, 3, 5]
    y = x * 2
    assert grad(copy.copy(y).sum(), x)[0].tolist() == [2, 2, 2]
