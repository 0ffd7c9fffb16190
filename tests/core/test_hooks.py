"""Hooks: called in every backward pass, when a leaf's gradient is complete and no later."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad, kernel


def leaf(value, dtype="f8"):
    return Tensor(np.array(value, dtype), requires_grad=True)


def test_a_hook_is_given_the_complete_gradient_once():
    x, seen = leaf([1.0, 2.0]), []
    x.register_hook(lambda g: seen.append(g.copy()))
    (x * x + x * 3 + np.exp(x * 0)).sum().backward()
    assert len(seen) == 1 and seen[0].tolist() == [5, 7] == x.grad.tolist()


def test_a_hook_sees_what_has_been_added_up_and_may_change_it():
    x = leaf([1.0])
    x.grad = np.array([10.0])

    def double(g):
        g *= 2

    x.register_hook(double)
    (x * 3).sum().backward()
    assert x.grad.tolist() == [26]


def test_a_hook_is_removed():
    x, calls = leaf([1.0]), []
    remove = x.register_hook(lambda g: calls.append(1))
    x.register_hook(lambda g: calls.append(2))
    x.sum().backward()
    remove()
    x.sum().backward()
    assert calls == [1, 2, 2]


def test_grad_calls_no_hooks_of_leaves():
    x, calls = leaf([1.0]), []
    x.register_hook(lambda g: calls.append(g))
    grad(x.sum(), x)
    assert not calls


def test_hooks_of_what_is_not_reached_are_not_called():
    x, unused, calls = leaf([1.0]), leaf([1.0]), []
    unused.register_hook(lambda g: calls.append(g))
    x.sum().backward()
    assert not calls


def test_a_tensor_in_the_middle_has_hooks_too():
    x, seen = leaf([1.0, 2.0]), []
    h = x * 2
    h.register_hook(lambda g: seen.append(np.array(g)))
    (h * h).sum().backward()
    assert seen[0].tolist() == [4, 8]


def test_without_gradients_there_is_nothing_to_hook():
    with pytest.raises(RuntimeError, match="gradients"):
        Tensor([1.0]).register_hook(print)


@pytest.mark.parametrize(
    "operation",
    [
        lambda h, w: h * w,
        lambda h, w: w * h,
        lambda h, w: h @ w,
        lambda h, w: w @ h,
        lambda h, w: np.tanh(w) * h,
    ],
    ids=["h * w", "w * h", "h @ w", "w @ h", "tanh(w) * h"],
)
def test_hooks_come_as_early_as_possible(operation):
    """Each layer's weight is complete before the layer below begins (chapter 9 relies on it)."""
    events, weights = [], []

    def layer(i):
        @kernel(composed=lambda x: x * 1)
        def watched(x):
            def backward(g, wanted):
                events.append(f"below {i}")
                return (g * 1,)

            return x * 1, backward

        return watched

    h = leaf(np.eye(2)) * 1.0
    for i in range(4):
        w = leaf(np.eye(2) * 0.5)
        w.register_hook(lambda g, i=i: events.append(f"weight {i}"))
        weights.append(w)
        h = operation(layer(i)(h), w)
    h.sum().backward()
    assert events == [f"{what} {i}" for i in (3, 2, 1, 0) for what in ("weight", "below")]


def test_a_shared_leaf_waits_for_its_last_consumer():
    w, seen = leaf([2.0]), []
    w.register_hook(lambda g: seen.append(g.tolist()))
    h = leaf([1.0])
    for _ in range(5):
        h = h * w
    h.sum().backward()
    assert seen == [[80.0]]


def test_an_error_in_a_hook_reaches_the_caller():
    x = leaf([1.0])

    def fail(g):
        raise KeyError("mine")

    x.register_hook(fail)
    with pytest.raises(KeyError, match="mine"):
        x.sum().backward()
