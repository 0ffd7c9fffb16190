"""`no_grad`, and what threads share: the leaves, and nothing else."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from utils import Tensor, grad, no_grad


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


def test_gradients_are_recorded_also_inside_no_grad():
    x = leaf(2.0)
    y = (x**3).sum()
    with no_grad():
        (g,) = grad(y, x, create_graph=True)
    assert grad(g.sum(), x)[0].item() == 12


def test_no_grad_builds_no_graph_and_ends():
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2).requires_grad and not np.exp(x).requires_grad and x.requires_grad
        with no_grad():
            pass
        assert not (x + 1).requires_grad
    assert (x * 2).requires_grad

    @no_grad()
    def evaluate():
        return x * 2

    assert not evaluate().requires_grad and (x * 2).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_no_grad_is_a_setting_of_one_thread():
    x, found = leaf(1.0), []
    with no_grad():
        thread = threading.Thread(target=lambda: found.append((x * 2).requires_grad))
        thread.start()
        thread.join()
        assert not (x * 2).requires_grad
    assert found == [True]


def test_two_threads_with_shared_leaves_give_what_one_does():
    rng = np.random.default_rng(0)
    w = [Tensor(rng.standard_normal((20, 20)), requires_grad=True) for _ in range(3)]
    data = rng.standard_normal((8, 20))

    def gradients(rows):
        h = data[rows]
        for matrix in w:
            h = np.tanh(h @ matrix)
        return [g.data for g in grad((h**2).sum(), w)]

    for _ in range(20):
        halves = [None, None]

        def work(i, halves=halves):
            halves[i] = gradients(slice(4 * i, 4 * i + 4))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        for whole, first, second in zip(gradients(slice(0, 8)), *halves):
            np.testing.assert_allclose(first + second, whole, rtol=1e-10)
    assert all(matrix.grad is None for matrix in w)
