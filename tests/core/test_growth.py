"""Time in proportion to the graph, no recursion, and nothing left over."""

from __future__ import annotations

import gc
import time
import weakref

import numpy as np
import pytest

from utils import Scalar, Tensor, grad, kernel, no_grad


def tensor_chain(n):
    x = Tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(n):
        y = y + 1.0
    return x, y


def scalar_chain(n):
    x = Scalar(1.0)
    y = x
    for _ in range(n):
        y = y + 1.0
    return x, y


@pytest.mark.parametrize("chain", [tensor_chain, scalar_chain])
def test_a_chain_of_100000_nodes_needs_no_recursion(chain):
    x, y = chain(100_000)
    y.backward()
    assert x.grad == 1
    x, y = chain(100_000)
    del y  # freeing an unused graph must not recurse either


def test_a_chain_of_100000_nodes_for_grad_and_create_graph():
    x, y = tensor_chain(100_000)
    assert grad(y, x)[0].item() == 1
    assert grad(y, x, create_graph=True)[0].item() == 1


@pytest.mark.parametrize("chain", [tensor_chain, scalar_chain])
def test_time_is_linear_in_the_length_of_a_chain(chain):
    def seconds(n):
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            chain(n)[1].backward()
            best = min(best, time.perf_counter() - start)
        return best

    few, many = seconds(2_000), seconds(32_000)
    assert many < 64 * few, f"16 times the nodes took {many / few:.0f} times as long"


@pytest.mark.parametrize("make", [lambda: Tensor(1.0, requires_grad=True), lambda: Scalar(1.0)])
def test_sixty_stacked_diamonds(make):
    x = make()
    y = x
    for _ in range(60):
        y = y * 0.5 + y * 0.5
    y.backward()
    assert float(x.grad) == 1, "2**60 paths, 180 nodes"


def test_sixty_stacked_diamonds_with_create_graph():
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    (g,) = grad(y * y, x, create_graph=True)
    assert g.item() == 2.0**121 and grad(g, x)[0].item() == 2.0**121


@kernel(composed=lambda x, w: np.tanh(x @ w))
def tanh_layer(x, w):
    y = np.tanh(x @ w)

    def backward(g, wanted):
        g = g * (1 - y * y)
        return g @ w.T if wanted[0] else None, x.T @ g if wanted[1] else None

    return y, backward


def plain_step(w, x):
    (np.tanh(x @ w) ** 2).mean().backward()


def second_order_step(w, x):
    (g,) = grad((np.tanh(x @ w) ** 2).mean(), w, create_graph=True)
    (g * g).sum().backward()


def kernel_step(w, x):
    (tanh_layer(x, w) ** 2).mean().backward()


def kernel_second_order_step(w, x):
    (g,) = grad((tanh_layer(x, w) ** 2).mean(), w, create_graph=True)
    (g * g).sum().backward()


def hook_step(w, x):
    remove = w.register_hook(lambda g: None)
    h = x @ w
    h.register_hook(lambda g: None)
    (h * h).sum().backward()
    remove()


def compositions_step(w, x):
    y = np.concatenate(np.split(np.einsum("ij,jk->ik", x, w), 2))[[0, 0, 1]]
    (np.std(np.sort(y), axis=0).sum() + np.linalg.norm(w)).backward()


def abandoned_step(w, x):
    y = np.exp(x @ w)
    with no_grad():
        y * 2


STEPS = [plain_step, second_order_step, kernel_step, kernel_second_order_step, hook_step]


@pytest.mark.parametrize("step", [*STEPS, compositions_step, abandoned_step])
def test_without_the_collector_no_object_is_left_after_100_steps(step):
    w = Tensor(np.random.default_rng(0).standard_normal((4, 3)), requires_grad=True)
    x = Tensor(np.random.default_rng(1).standard_normal((6, 4)))
    for _ in range(3):
        step(w, x)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(100):
            step(w, x)
        left = len(gc.get_objects()) - before
        cycles = gc.collect()
    finally:
        gc.enable()
    assert left < 50, f"{left} objects after 100 steps: something holds on to the graph"
    assert cycles < 50, f"{cycles} objects in reference cycles after 100 steps"


def test_without_the_collector_no_scalar_is_left():
    x, refs = Scalar(2.0), []
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            y = (x * x + 1.0).tanh()
            refs.append(weakref.ref(y))
            y.backward()
        del y
        assert not any(ref() for ref in refs)
        assert gc.collect() < 50
    finally:
        gc.enable()
