"""Optimisers: each step by hand, what all have in common, and going on from a saved state."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Adam, AdamW, Optimizer, Parameter
from utils import Tensor

ALL = {
    "SGD": lambda p, **o: SGD(p, **{"lr": 0.1, **o}),
    "momentum": lambda p, **o: SGD(p, **{"lr": 0.1, "momentum": 0.9, **o}),
    "Nesterov": lambda p, **o: SGD(p, **{"lr": 0.1, "momentum": 0.9, "nesterov": True, **o}),
    "Adam": lambda p, **o: Adam(p, **{"lr": 0.1, **o}),
    "AdamW": lambda p, **o: AdamW(p, **{"lr": 0.1, **o}),
}


def parameter(*values, dtype=np.float64):
    return Parameter(np.array(values, dtype))


def walk(optimizer, p, gradients):
    """The parameter after each step, for gradients as they are given."""
    seen = []
    for g in gradients:
        p.grad = np.array(g, p.dtype)
        optimizer.step()
        seen.append(p.data.copy())
    return np.array(seen)


# By hand


def test_sgd_goes_down_the_gradient():
    p = parameter(1.0, -2.0)
    array = p.data
    walk(SGD([p], lr=0.5), p, [[1.0, 2.0]])
    np.testing.assert_allclose(p.data, [0.5, -3.0])
    assert p.data is array, "the parameter changes in place"


def test_momentum_adds_up_what_gradients_have_in_common():
    p = parameter(0.0)
    # Velocities 1, 0.5 + 1, 0.75 - 2.
    found = walk(SGD([p], lr=0.1, momentum=0.5), p, [[1], [1], [-2]])
    np.testing.assert_allclose(found, [[-0.1], [-0.25], [-0.125]])


def test_nesterov_looks_ahead():
    p = parameter(0.0)
    # Steps g + momentum v: 1 + 0.5, 1 + 0.75.
    found = walk(SGD([p], lr=0.1, momentum=0.5, nesterov=True), p, [[1], [1]])
    np.testing.assert_allclose(found, [[-0.15], [-0.325]])


def test_weight_decay_of_sgd_is_a_gradient():
    p = parameter(10.0)
    walk(SGD([p], lr=0.1, weight_decay=0.5, momentum=0.9), p, [[1.0]])
    assert p.data[0] == pytest.approx(10 - 0.1 * (1 + 0.5 * 10))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_adams_first_step_is_the_learning_rate_whatever_the_gradient(size):
    p = parameter(0.0, 0.0)
    walk(Adam([p], lr=0.1), p, [[size, -size]])
    np.testing.assert_allclose(p.data, [-0.1, 0.1], rtol=1e-4, err_msg="correct both means' bias")


def test_adams_second_step_by_hand():
    p = parameter(1.0)
    walk(Adam([p], lr=0.1, betas=(0.5, 0.75), eps=1.0), p, [[2.0], [4.0]])
    first = 1 - 0.1 * 2 / (2 + 1)  # m / 0.5 = 2, v / 0.25 = 4
    m, v = 0.5 * 1 + 0.5 * 4, 0.75 * 1 + 0.25 * 16
    second = 0.1 * (m / 0.75) / (math.sqrt(v / (1 - 0.75**2)) + 1)
    assert p.data[0] == pytest.approx(first - second, rel=1e-12)


def test_adam_decays_in_the_gradient_and_adamw_in_the_parameter():
    found = {}
    for kind in (Adam, AdamW):
        p = parameter(10.0, 10.0)
        walk(kind([p], lr=0.1, weight_decay=0.5), p, [[0.0, 1000.0]])
        found[kind] = p.data
    np.testing.assert_allclose(found[Adam], [9.9, 9.9], err_msg="the sum is divided by its size")
    np.testing.assert_allclose(found[AdamW], [9.5, 9.4], rtol=1e-6, err_msg="first lr * decay * p")


# What all have in common


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_find_the_bottom_of_a_bowl(name, dtype):
    p = parameter([3.0, -2.0], dtype=dtype)
    optimizer = ALL[name]([p], lr=lambda step: 0.2 * 0.97**step, weight_decay=0.0)
    for _ in range(200):
        optimizer.zero_grad()
        np.sum(p * p).backward()
        optimizer.step()
    assert p.dtype == dtype
    np.testing.assert_allclose(p.data, 0, atol=0.05)


@pytest.mark.parametrize("name", ALL)
def test_no_gradient_is_no_step_and_a_zero_gradient_is_one(name):
    still, zero = parameter(1.0), parameter(1.0)
    optimizer = ALL[name]([still, zero], weight_decay=0.5)
    zero.grad = np.zeros(1)
    optimizer.step()
    assert still.data[0] == 1, "a parameter whose grad is None stays as it is"
    assert zero.data[0] < 1, "weight decay acts with a gradient of zero"
    assert optimizer.state[still] == {}


@pytest.mark.parametrize("name", ALL)
def test_a_step_leaves_the_gradient_alone(name):
    p = parameter(1.0, 2.0)
    optimizer = ALL[name]([p], weight_decay=0.5)
    p.grad = g = np.array([3.0, -4.0])
    for _ in range(3):
        optimizer.step()
    assert p.grad is g and g.tolist() == [3, -4]
    optimizer.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("name", ALL)
def test_frozen_parameters_stay(name):
    p, q = parameter(1.0), parameter(1.0)
    optimizer = ALL[name]([p, q])
    p.requires_grad = False
    np.sum(p * q).backward()
    optimizer.step()
    assert p.data[0] == 1 and q.data[0] != 1


def test_a_function_gives_the_rate_of_each_step():
    asked = []

    def rate(step):
        asked.append(step)
        return [1.0, 0.1, 0.0][step]

    p = parameter(0.0)
    optimizer = SGD([p], lr=rate)
    assert optimizer.lr == 1.0
    found = walk(optimizer, p, [[1], [1], [1]])
    np.testing.assert_allclose(found.ravel(), [-1, -1.1, -1.1])
    assert optimizer.steps == 3 and sorted(set(asked)) == [0, 1, 2], "steps count from 0"


def test_groups_have_options_of_their_own():
    p, q, r = parameter(1.0), parameter(1.0), parameter(1.0)
    optimizer = SGD([{"params": [p], "lr": 0.5}, {"params": [q, r], "weight_decay": 0.0}], 0.1)
    assert optimizer.parameters() == [p, q, r] and optimizer.lr == 0.5
    for x in (p, q, r):
        x.grad = np.ones(1)
    optimizer.step()
    np.testing.assert_allclose([p.data[0], q.data[0], r.data[0]], [0.5, 0.9, 0.9])


def test_a_group_may_hold_one_tensor_and_parameters_may_be_a_generator():
    p = parameter(1.0)
    assert SGD([{"params": p}]).parameters() == [p]
    assert SGD(x for x in [p]).parameters() == [p]


def test_a_subclass_defines_its_update():
    class SignDescent(Optimizer):
        def update(self, p, g, state, lr, group):
            p.data -= lr * np.sign(g)

    p = parameter(0.0, 0.0)
    walk(SignDescent([p], lr=0.1), p, [[5.0, -3.0]])
    np.testing.assert_allclose(p.data, [-0.1, 0.1])
    with pytest.raises(NotImplementedError, match="Optimizer does not define update"):
        walk(Optimizer([p], lr=0.1), p, [[1.0, 1.0]])


def test_repr_shows_what_matters():
    text = repr(AdamW([parameter(1.0, 2.0)], lr=0.25))
    assert text.startswith("AdamW(2 numbers, lr=0.25") and "weight_decay=0.01" in text


# Going on


@pytest.mark.parametrize("name", ALL)
def test_a_saved_state_goes_on_exactly(name, rng):
    gradients = rng.normal(size=(9, 2, 3)).astype(np.float32)
    rate = lambda step: 0.1 / (1 + step)
    make = lambda p: ALL[name]([parameter(0.0), p], lr=rate, weight_decay=0.1)
    p = parameter(*np.ones((2, 3)), dtype=np.float32)
    optimizer = make(p)
    walk(optimizer, p, gradients[:4])
    saved = {key: array.copy() for key, array in optimizer.state_dict().items()}
    assert all(type(array) is np.ndarray for array in saved.values()), "arrays can be stored"
    q = Parameter(p.data.copy())
    expected = walk(optimizer, p, gradients[4:])

    resumed = make(q)
    resumed.load_state_dict(saved)
    for array in saved.values():
        array[...] = 77  # the optimiser must have copies
    assert resumed.steps == 4
    np.testing.assert_array_equal(walk(resumed, q, gradients[4:]), expected)
    for key, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[key], array, err_msg=key)
        assert resumed.state_dict()[key].dtype == array.dtype, key


def test_the_state_before_the_first_step():
    p, q = parameter(1.0), parameter(1.0)
    other = Adam([q], lr=0.1)
    other.load_state_dict(Adam([p], lr=0.1).state_dict())
    assert other.steps == 0
    walk(other, q, [[1.0]])
    assert q.data[0] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("steps"), "lacks steps"),
        (lambda s: s.update({"7.exp_avg": np.zeros(2)}), "7.exp_avg.*none of the 1"),
        (lambda s: s.update({"0.exp_avg": np.zeros(3)}), r"0.exp_avg has shape \(3,\).*\(2,\)"),
        (lambda s: s.update(nonsense=np.zeros(1)), "nonsense"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    p = parameter(1.0, 2.0)
    optimizer = Adam([p])
    walk(optimizer, p, [[1.0, 1.0]])
    before = {key: array.copy() for key, array in optimizer.state_dict().items()}
    state = dict(before)
    change(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    for key, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_the_state_of_another_optimiser_is_refused():
    p, q = parameter(1.0), parameter(1.0)
    other = SGD([p], momentum=0.9)
    walk(other, p, [[1.0]])
    with pytest.raises(ValueError, match="momentum_buffer"):
        Adam([q]).load_state_dict(other.state_dict())


# Refused


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: SGD([]), "SGD got no parameters"),
        (lambda p: SGD([p, p]), r"shape \(1,\) is given twice"),
        (lambda p: SGD([{"params": [p]}, {"params": [p]}]), "given twice"),
        (lambda p: SGD([{"params": [p], "beta": 1}]), "SGD has no option beta; it has lr"),
        (lambda p: SGD([{"params": [p], "momentum": -1.0}]), "momentum.*-1.0"),
        (lambda p: SGD([p], momentum=math.nan), "momentum.*nan"),
        (lambda p: SGD([p], nesterov=True), "nesterov=True needs a momentum"),
        (lambda p: Adam([p], betas=(0.9, 1.0)), r"\(0.9, 1.0\)"),
        (lambda p: Adam([p], betas=(math.nan, 0.9)), "nan"),
        (lambda p: Adam([p], betas=(0.9,)), r"\(0.9,\)"),
        (lambda p: Adam([p], eps=-1e-8), "eps.*-1e-08"),
        (lambda p: AdamW([p], weight_decay=-0.1), "weight_decay.*-0.1"),
        (lambda p: AdamW([p], weight_decay=math.nan), "weight_decay.*nan"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(parameter(1.0))


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, "0.1", None])
@pytest.mark.parametrize("name", ALL)
def test_a_bad_learning_rate_is_shown(name, lr):
    for rate in (lr, lambda step: lr):
        with pytest.raises(ValueError, match=f"lr must be .* not {lr}"):
            ALL[name]([parameter(1.0)], lr=rate)


def test_a_rate_that_turns_bad_stops_before_the_step():
    p = parameter(1.0)
    optimizer = SGD([p], lr=lambda step: [0.1, -1.0][step])
    walk(optimizer, p, [[1.0]])
    with pytest.raises(ValueError, match="lr must be .* not -1.0"):
        walk(optimizer, p, [[1.0]])
    assert p.data[0] == pytest.approx(0.9) and optimizer.steps == 1


@pytest.mark.parametrize("member", [np.zeros(2), Tensor(np.arange(3)), "weights"])
def test_only_floating_tensors_are_taken(member):
    with pytest.raises(TypeError, match="floating Tensors, not"):
        SGD([member])


def test_one_tensor_in_place_of_a_list_is_refused():
    # list(p) would be its rows: new Tensors, that never get a gradient.
    p = Parameter(np.zeros((2, 3)))
    with pytest.raises(TypeError):
        SGD(p)


def test_a_computed_tensor_is_refused():
    # Its gradient is never kept, so it would never be changed.
    with pytest.raises((TypeError, ValueError)):
        SGD([parameter(1.0) * 2])
