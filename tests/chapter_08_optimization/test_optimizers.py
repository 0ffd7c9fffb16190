"""Optimisers: each formula written once more, and what all have in common."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import Parameter
from chapter_08_optimization import (
    EMA,
    LAMB,
    SWA,
    Adafactor,
    Adagrad,
    Combined,
    Lion,
    Lookahead,
    Muon,
    NAdam,
    RMSprop,
)

ALL = {
    "Adagrad": lambda p, **o: Adagrad(p, **{"lr": 0.1, "lr_decay": 0.01, **o}),
    "RMSprop": lambda p, **o: RMSprop(p, **{"lr": 0.1, "alpha": 0.9, **o}),
    "centred": lambda p, **o: RMSprop(
        p, **{"lr": 0.02, "alpha": 0.9, "centered": True, "momentum": 0.5, "eps": 0.1, **o}
    ),
    "NAdam": lambda p, **o: NAdam(p, **{"lr": 0.1, **o}),
    "decoupled": lambda p, **o: NAdam(p, **{"lr": 0.1, "decoupled_weight_decay": True, **o}),
    "Adafactor": lambda p, **o: Adafactor(p, **{"lr": 0.1, **o}),
    "Lion": lambda p, **o: Lion(p, **{"lr": 0.1, **o}),
    "LAMB": lambda p, **o: LAMB(p, **{"lr": 0.1, **o}),
    "Muon": lambda p, **o: Muon(p, **{"lr": 0.1, **o}),
    "Combined": lambda p, **o: Combined([NAdam([p[0]], **{"lr": 0.1, **o}), Lion(p[1:], **o)]),
    "Lookahead": lambda p, **o: Lookahead(NAdam(p, **{"lr": 0.1, **o}), k=3),
    "EMA": lambda p, **o: EMA(NAdam(p, **{"lr": 0.1, **o}), decay=0.9),
    "SWA": lambda p, **o: SWA(NAdam(p, **{"lr": 0.1, **o}), start=2),
}


def parameters(count=2, dtype=np.float64):
    rng = np.random.default_rng(1)
    return [Parameter(rng.normal(size=(2, 3)).astype(dtype)) for _ in range(count)]


def walk(optimizer, params, gradients):
    """The parameters after each step, for gradients (steps, parameters, ...) as they are given."""
    seen = []
    for row in gradients:
        for p, g in zip(params, row):
            p.grad = np.array(g, p.dtype)
        optimizer.step()
        seen.append([p.data.copy() for p in params])
    return np.array(seen)


# By hand: each writes p after every step, straight from the paper, with nothing kept but lists.


def mean(values, beta):
    """The running mean that begins at 0: (1 - beta) sum of beta^age value."""
    return (1 - beta) * sum(beta**age * v for age, v in enumerate(reversed(values)))


def adagrad(p, gradients, lr, lr_decay, weight_decay, initial_accumulator_value, eps):
    seen = []
    for t, g in enumerate(gradients):
        seen.append(g + weight_decay * p)
        root = np.sqrt(initial_accumulator_value + sum(g * g for g in seen))
        p = p - lr / (1 + lr_decay * t) * seen[-1] / (root + eps)
        yield p


def rmsprop(p, gradients, lr, alpha, eps, weight_decay=0.0, momentum=0.0, centered=False):
    seen, quotients = [], []
    for g in gradients:
        seen.append(g + weight_decay * p)
        variance = mean([g * g for g in seen], alpha) - centered * mean(seen, alpha) ** 2
        quotients.append(seen[-1] / (np.sqrt(variance) + eps))
        p = p - lr * sum(momentum**age * q for age, q in enumerate(reversed(quotients)))
        yield p


def nadam(p, gradients, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    mu = lambda t: betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    seen = []
    for t, g in enumerate(gradients, 1):
        seen.append(g if decoupled_weight_decay else g + weight_decay * p)
        p = p - lr * weight_decay * p if decoupled_weight_decay else p
        product = math.prod(mu(i) for i in range(1, t + 1))
        ahead = mu(t + 1) * mean(seen, betas[0]) / (1 - product * mu(t + 1))
        variance = mean([g * g for g in seen], betas[1]) / (1 - betas[1] ** t)
        p = p - lr * ((1 - mu(t)) * seen[-1] / (1 - product) + ahead) / (np.sqrt(variance) + eps)
        yield p


def adafactor(p, gradients, lr, beta2_decay, eps, d, weight_decay):
    rows = columns = 0.0
    for t, g in enumerate(gradients, 1):
        share = t**beta2_decay
        rows = (1 - share) * rows + share * np.mean(g * g, axis=1)
        columns = (1 - share) * columns + share * np.mean(g * g, axis=0)
        u = g / np.sqrt(np.outer(rows, columns) / np.mean(rows))
        alpha = max(eps[1], np.sqrt(np.mean(p * p))) * min(lr, 1 / math.sqrt(t))
        p = p - lr * weight_decay * p - alpha * u / max(1, np.sqrt(np.mean(u * u)) / d)
        yield p


def lion(p, gradients, lr, betas, weight_decay):
    m = 0.0
    for g in gradients:
        p = p - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)
        m = betas[1] * m + (1 - betas[1]) * g
        yield p


def lamb(p, gradients, lr, betas, eps, weight_decay):
    for t in range(1, len(gradients) + 1):
        m = mean(gradients[:t], betas[0]) / (1 - betas[0] ** t)
        v = mean([g * g for g in gradients[:t]], betas[1]) / (1 - betas[1] ** t)
        u = m / (np.sqrt(v) + eps) + weight_decay * p
        p = p - lr * np.sqrt(np.sum(p * p)) / np.sqrt(np.sum(u * u)) * u
        yield p


@pytest.mark.parametrize(
    "kind, formula, options",
    [
        (Adagrad, adagrad, [0.5, 0.1, 0.2, 0.3, 0.4]),
        (RMSprop, rmsprop, [0.5, 0.75, 0.2]),
        (RMSprop, rmsprop, [0.5, 0.75, 0.2, 0.1, 0.6]),
        (RMSprop, rmsprop, [0.5, 0.75, 0.2, 0.1, 0.0, True]),
        (RMSprop, rmsprop, [0.5, 0.75, 0.2, 0.1, 0.6, True]),
        (NAdam, nadam, [0.5, (0.8, 0.7), 0.1, 0.3, 0.2, False]),
        (NAdam, nadam, [0.5, (0.8, 0.7), 0.1, 0.3, 0.2, True]),
        (Adafactor, adafactor, [0.5, -0.7, (None, 1e-3), 1.0, 0.1]),
        (Adafactor, adafactor, [0.9, -0.7, (None, 10.0), 2.0, 0.0]),
        (Lion, lion, [0.5, (0.6, 0.8), 0.3]),
        (LAMB, lamb, [0.5, (0.8, 0.7), 0.1, 0.3]),
    ],
)
def test_steps_are_those_of_the_formula(kind, formula, options, rng):
    (p,), gradients = parameters(1), rng.normal(size=(4, 1, 2, 3)) * [[[[1, 5, 0.2]]]]
    expected = list(formula(p.data.copy(), list(gradients[:, 0]), *options))
    found = walk(kind([p], *options), [p], gradients)[:, 0]
    for step, (a, b) in enumerate(zip(found, expected)):
        np.testing.assert_allclose(
            a, b, rtol=1e-10,
            err_msg=f"{kind.__name__}{tuple(options)} leaves its formula at step {step}: wrong from"
            " the first step on is the step itself, later what it remembers",
        )  # fmt: skip


def test_adafactor_keeps_no_more_than_rows_and_columns():
    matrix, vector = Parameter(np.ones((20, 30))), Parameter(np.full(4, 2.0))
    optimizer = Adafactor([matrix, vector], lr=0.5)
    matrix.grad, vector.grad = np.ones((20, 30)), np.array([1.0, -2, 3, -4])
    optimizer.step()
    kept = sum(np.size(x) for name, x in optimizer.state[matrix].items() if name != "step")
    assert kept == 20 + 30, f"a 20 x 30 matrix needs 50 numbers, not {kept}"
    # A vector's own squares: g / |g| at the first step, times rms(p) min(lr, 1).
    np.testing.assert_allclose(vector.data, [1, 3, 1, 3])


def test_lion_moves_every_number_by_the_rate_and_what_has_no_gradient_stays():
    p = Parameter(np.zeros(3))
    walk(Lion([p], lr=0.25), [p], [[[1e-9, -1e9, 0.0]]])
    assert p.data.tolist() == [-0.25, 0.25, 0.0], "a step is lr sign(...), and sign(0) is 0"


def test_four_steps_of_lion_by_hand():
    p = Parameter(np.array([1.0]))
    optimizer = Lion([p], lr=0.5, betas=(0.5, 0.75), weight_decay=0.2)
    found = walk(optimizer, [p], [[[8.0]], [[-3.0]], [[4.0]], [[-1.0]]])[:, 0, 0]
    # m is 0, 2, 0.75 and 1.5625 before each step, and m / 2 + g / 2 is 4, -0.5, 2.375 and 0.28.
    expected = [1 - 0.5 * (1 + 0.2)]
    for sign in (-1, 1, 1):
        expected.append(expected[-1] - 0.5 * (sign + 0.2 * expected[-1]))
    np.testing.assert_allclose(
        found, expected,
        err_msg="the sign is of beta1 m + (1 - beta1) g; then m is beta2 m + (1 - beta2) g",
    )  # fmt: skip


def test_lamb_steps_in_proportion_to_the_weights_and_leaves_zero():
    small, large, zero = (Parameter(np.full(4, x)) for x in (1e-3, 1e3, 0.0))
    walk(
        LAMB([small, large, zero], lr=0.1, weight_decay=0.0),
        [small, large, zero],
        np.ones((1, 3, 4)),
    )
    for p, size in ((small, 1e-3), (large, 1e3)):
        np.testing.assert_allclose(p.data, 0.9 * size, err_msg="|step| is lr |p|", rtol=1e-6)
    np.testing.assert_allclose(zero.data, -0.1, err_msg="weights of length 0 take u itself")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_variance_is_never_negative(dtype):
    # With the same gradient for ever E[g^2] - E[g]^2 comes to 0, and by rounding below it.
    g = np.random.default_rng(0).normal(size=1000).astype(dtype)
    p = Parameter(np.zeros(1000, dtype))
    optimizer = RMSprop([p], lr=1e-6, alpha=0.5, centered=True)
    p.grad = g
    with np.errstate(invalid="ignore"):
        for step in range(60):
            optimizer.step()
            assert np.isfinite(p.data).all(), (
                f"step {step}: {np.isnan(p.data).sum()} of 1,000 numbers are NaN, the roots of "
                "variances that rounding made negative: take the larger of each and 0"
            )


# What all have in common


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALL)
def test_all_find_the_bottom_of_a_bowl_in_their_dtype(name, dtype):
    params = parameters(2, dtype)
    rate = lambda step: np.float64(0.2 * 0.97**step)  # a rate must not make float64 of float32
    optimizer = ALL[name](params, lr=rate, weight_decay=0.0)
    losses = []
    for _ in range(150):
        loss = sum(np.sum(p * p) for p in params)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 50, f"{name} went from {losses[0]:.3g} to {losses[-1]:.3g} only"
    arrays = [p.data for p in params] + list(optimizer.state_dict().values())
    assert {a.dtype for a in arrays if a.ndim == 2} == {np.dtype(dtype)}, f"{name}: another dtype"


@pytest.mark.parametrize("name", ALL)
def test_frozen_parameters_and_those_without_gradient_stay(name):
    p, q, r = parameters(3)
    before = [x.data.copy() for x in (p, q, r)]
    optimizer = ALL[name]([p, q, r], weight_decay=0.5)
    p.requires_grad = False
    (np.sum(p * q) + 0 * np.sum(q)).backward()
    for _ in range(3):
        optimizer.step()
    for x, data, which in ((p, before[0], "frozen"), (r, before[2], "that got no gradient")):
        np.testing.assert_array_equal(x.data, data, err_msg=f"{name} moved what is {which}")
    assert (q.data != before[1]).any()


@pytest.mark.parametrize("name", ALL)
def test_a_step_changes_p_in_place_and_leaves_the_gradient_alone(name, rng):
    params = parameters()
    arrays, gradients = [p.data for p in params], rng.normal(size=(2, 2, 3))
    optimizer = ALL[name](params, weight_decay=0.5)
    for p, g in zip(params, gradients):
        p.grad = g.copy()
    given = [p.grad for p in params]
    for _ in range(4):
        optimizer.step()
    for p, array, grad, g in zip(params, arrays, given, gradients):
        assert p.data is array, f"{name} made a new array: others look at the old one"
        assert p.grad is grad and (grad == g).all(), f"{name} wrote into the gradient"


@pytest.mark.parametrize("name", ALL)
def test_the_rate_may_be_a_function_of_the_step(name):
    params, asked = parameters(), []

    def rate(step):
        asked.append(step)
        return 0.0 if step < 2 else 0.1

    optimizer = ALL[name](params, lr=rate, weight_decay=0.5)
    before = [p.data.copy() for p in params]
    found = walk(optimizer, params, np.ones((3, 2, 2, 3)))
    np.testing.assert_allclose(found[:2], [before] * 2, err_msg=f"{name} moves at a rate of 0")
    assert (found[2] != before).all() and optimizer.steps == 3
    assert sorted(set(asked)) == [0, 1, 2], "steps count from 0, and each is asked for"


@pytest.mark.parametrize("name", [n for n in ALL if n != "Muon"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_single_number_is_a_parameter_too(name, dtype):
    params = [Parameter(np.array(2.0, dtype)), Parameter(np.array(3.0, dtype))]
    found = walk(ALL[name](params, lr=0.1, weight_decay=0.1), params, np.ones((4, 2)))
    assert (found[-1] < [2, 3]).all() and {p.data.dtype for p in params} == {np.dtype(dtype)}
