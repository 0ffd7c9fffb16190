"""What is put around an optimiser: Combined, Lookahead and SAM (averages: test_averaging.py)."""

from __future__ import annotations

import numpy as np
import pytest
from walks import number, walk

from chapter_03_neural_nets import (
    MLP,
    SGD,
    Adam,
    Batches,
    Tanh,
    mse_loss,
    train,
)
from chapter_08_optimization import EMA, SAM, SWA, Combined, Lookahead
from utils import manual_seed

# Combined


def test_each_part_steps_on_its_own_parameters_with_its_own_rate():
    p, q = number(), number()
    optimizer = Combined([SGD([p], lr=lambda step: 0.5 * 0.1**step), SGD([q], lr=0.25)])
    assert optimizer.parameters() == [p, q] and optimizer.lr == 0.5
    assert [group["params"] for group in optimizer.param_groups] == [[p], [q]]
    for _ in range(2):
        p.grad, q.grad = np.ones(1), np.ones(1)
        optimizer.step()
    np.testing.assert_allclose([p.data[0], q.data[0]], [-0.55, -0.5])
    assert optimizer.steps == 2 and optimizer.lr == pytest.approx(0.005)
    optimizer.zero_grad()
    assert p.grad is None and q.grad is None
    assert "SGD(1 numbers, lr=0.25" in repr(optimizer)


def test_a_parameter_belongs_to_one_optimiser():
    p, q = number(), number()
    with pytest.raises(ValueError, match="two optimisers"):
        Combined([SGD([p, q]), SGD([q])])
    with pytest.raises(ValueError, match="no optimisers"):
        Combined([])


# Lookahead


def test_lookahead_by_hand():
    p = number()
    # Fast: -1, -2 and back to 0 + 0.5 (-2 - 0) = -1; -1 - 4, -5 - 4 and back to -1 + 0.5 (-8).
    found = walk(Lookahead(SGD([p], lr=1.0), k=2, alpha=0.5), p, [1, 1, 4, 4, 0])
    np.testing.assert_allclose(found, [-1, -1, -5, -5, -5])


def test_lookahead_of_alpha_1_is_the_other_and_of_alpha_0_goes_nowhere():
    p, q, r = number(), number(), number(7.0)
    gradients = [1, -3, 2, 5, 1, 1]
    expected = walk(SGD([p], lr=0.1), p, gradients)
    found = walk(Lookahead(SGD([q], lr=0.1), k=2, alpha=1.0), q, gradients)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert walk(Lookahead(SGD([r], lr=0.1), k=3, alpha=0.0), r, gradients)[2::3] == [7, 7]


def test_lookahead_averages_away_what_goes_to_and_fro():
    p = number(1.0)
    optimizer = Lookahead(SGD([p], lr=1.98), k=5)
    for _ in range(50):
        p.grad = p.data.copy()  # SGD alone keeps 0.98^50 = 36 %
        optimizer.step()
    assert abs(p.data[0]) < 1e-3


@pytest.mark.parametrize("make", [lambda o, n: Lookahead(o, k=n), lambda o, n: SWA(o, n, n)])
def test_numbers_of_steps_may_be_numpys(make):
    make(SGD([number()]), np.int64(2))  # such as len(data) // np.int64(batch_size)


# SAM


def test_sam_takes_the_gradient_at_the_top_of_its_climb():
    p, q = number(3.0), number(4.0)
    optimizer = SAM(SGD([p, q], lr=0.1), rho=0.5)
    seen = []

    def loss():
        seen.append((p.data.item(), q.data.item()))
        return np.sum(p * p + q * q) / 2

    loss().backward()
    optimizer.step(loss)
    # The gradient (3, 4) has length 5 over both: the climb is (0.3, 0.4).
    np.testing.assert_allclose(
        seen, [(3, 4), (3.3, 4.4)], err_msg="rho g / |g| with one |g| for all parameters"
    )
    np.testing.assert_allclose(
        [p.data[0], q.data[0]], [3 - 0.33, 4 - 0.44], err_msg="the step starts where the climb did"
    )
    np.testing.assert_allclose([p.grad[0], q.grad[0]], [3.3, 4.4], err_msg="not the sum of both")


def test_sam_of_rho_0_and_of_no_gradient_is_the_other_optimiser():
    p, still = number(3.0), number(5.0)
    optimizer = SAM(SGD([p, still], lr=0.1), rho=0.0)
    loss = lambda: np.sum(p * p)
    loss().backward()
    optimizer.step(loss)
    assert p.data[0] == pytest.approx(2.4) and still.data[0] == 5
    p.data[...] = 0.0  # a gradient of zero has no direction
    optimizer.rho = 0.5
    optimizer.zero_grad()
    loss().backward()
    optimizer.step(loss)
    assert p.data[0] == 0


def test_sam_comes_down_again_when_the_loss_fails():
    p = number(3.0)
    array = p.data
    optimizer = SAM(SGD([p], lr=0.1), rho=0.5)
    np.sum(p * p).backward()

    def fail():
        assert p.data[0] == 3.5
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(fail)
    assert p.data is array and p.data[0] == 3 and optimizer.steps == 0


def test_sam_says_what_it_lacks():
    p = number(1.0)
    p.grad = np.ones(1)
    with pytest.raises(ValueError, match=r"step\(closure\).*sam.watch\(loss\)"):
        SAM(SGD([p])).step()


def task():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    y = np.sin(x[:, :1] * 2) * x[:, 1:]
    manual_seed(0)
    return MLP([2, 16, 1], Tanh), Batches(x, y, batch_size=20, rng=np.random.default_rng(1))


def loss_of(model, x, y):
    return mse_loss(model(x), y)


def test_sam_in_the_training_loop_uses_the_same_batch_twice():
    model, batches = task()
    given = []

    def loss(model, x, y):
        given.append(x)
        return loss_of(model, x, y)

    sam = SAM(Adam(model.parameters(), lr=0.01), rho=0.05)
    history = train(model, sam, batches, 120, loss=sam.watch(loss))
    assert len(given) == 240 and all(a is b for a, b in zip(given[::2], given[1::2]))
    assert np.mean(history.losses[-10:]) < np.mean(history.losses[:10]) / 3

    # The same by hand: closures instead of watch.
    twin, batches = task()
    sam = SAM(Adam(twin.parameters(), lr=0.01), rho=0.05)
    for _, (x, y) in zip(range(120), batches):
        closure = lambda x=x, y=y: loss_of(twin, x, y)
        sam.zero_grad()
        closure().backward()
        sam.step(closure)
    for (name, p), q in zip(model.named_parameters(), twin.parameters()):
        np.testing.assert_array_equal(p.data, q.data, err_msg=name)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: SAM(Adam(p, lr=0.01)),
        lambda p: EMA(SAM(Lookahead(Adam(p, lr=0.01), k=3)), 0.9),
        lambda p: Combined([SGD(p[:1], lr=0.1, momentum=0.9), Adam(p[1:], lr=0.01)]),
    ],
)
def test_a_killed_training_goes_on_exactly(make, tmp_path):
    def run(steps, folder):
        model, batches = task()
        optimizer = make(list(model.parameters()))
        inner = optimizer.optimizers[0]
        sam = next((o for o in (optimizer, inner) if isinstance(o, SAM)), None)
        loss = sam.watch(loss_of) if sam else loss_of
        return (
            model,
            optimizer,
            train(model, optimizer, batches, steps, loss, checkpoint=folder, checkpoint_every=5),
        )

    whole, part = tmp_path / "whole", tmp_path / "part"
    run(8, part)
    (a, _, history), (b, _, resumed) = run(21, whole), run(21, part)
    assert history.losses == resumed.losses
    for (name, p), q in zip(a.named_parameters(), b.parameters()):
        np.testing.assert_array_equal(p.data, q.data, err_msg=name)
