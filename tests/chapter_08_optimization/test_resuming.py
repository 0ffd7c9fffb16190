"""Saved states: going on is bit for bit the same, and the state of another changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Adam, Parameter
from chapter_08_optimization import (
    EMA,
    LAMB,
    SAM,
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

RATE = lambda step: 0.1 / (1 + step)
ALL = {
    "Adagrad": lambda p: Adagrad(p, RATE, lr_decay=0.1, weight_decay=0.1),
    "RMSprop": lambda p: RMSprop(p, RATE, weight_decay=0.1),
    "centred": lambda p: RMSprop(p, RATE, momentum=0.9, centered=True, eps=0.1),
    "NAdam": lambda p: NAdam(p, RATE, weight_decay=0.1, momentum_decay=0.1),
    "Adafactor": lambda p: Adafactor(p, RATE, weight_decay=0.1),
    "Lion": lambda p: Lion(p, RATE, weight_decay=0.1),
    "LAMB": lambda p: LAMB(p, RATE, weight_decay=0.1),
    "Muon": lambda p: Muon([x for x in p if x.ndim == 2], RATE),
    "Combined": lambda p: Combined([Muon([p[0]], RATE), Adam(p[1:2]), Lion(p[2:])]),
    "Lookahead": lambda p: Lookahead(Adam(p, RATE), k=3),
    "EMA": lambda p: EMA(Adam(p, RATE), decay=0.9),
    "SWA": lambda p: SWA(Adam(p, RATE), start=2, every=3),
    "SAM": lambda p: SAM(Adam(p, RATE), rho=0.1),
    "nested": lambda p: EMA(Lookahead(Combined([Adafactor(p[:2], RATE), Adagrad(p[2:])]), k=2)),
}


def parameters(dtype=np.float32, shapes=((2, 3), (3, 3), (4,), (1,))):
    rng = np.random.default_rng(1)
    return [Parameter(np.asarray(rng.normal(size=shape), dtype)) for shape in shapes]


def walk(optimizer, params, seeds):
    """The parameters after some steps, each towards points that its seed gives."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        goals = [np.asarray(rng.normal(size=p.shape), p.dtype) for p in params]

        def loss(goals=goals):
            return sum(np.sum(np.square(np.sin(p) - goal)) for p, goal in zip(params, goals))

        optimizer.zero_grad()
        loss().backward()
        optimizer.step(loss) if isinstance(optimizer, SAM) else optimizer.step()
    return [p.data.copy() for p in params]


def saved(optimizer):
    return {key: np.array(array) for key, array in optimizer.state_dict().items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("last", [(4,), ()])
def test_a_saved_state_goes_on_exactly(name, dtype, last):
    shapes = ((2, 3), (3, 3), (1,), last)
    params = parameters(dtype, shapes)
    optimizer = ALL[name](params)
    weights = walk(optimizer, params, range(4))
    assert all(type(x) is np.ndarray for x in optimizer.state_dict().values()), "storable arrays"
    state = saved(optimizer)
    expected = walk(optimizer, params, range(4, 11))

    # A new process makes the model anew, loads its weights and then the optimiser's state.
    others = parameters(dtype, shapes)
    resumed = ALL[name](others)
    for q, data in zip(others, weights):
        q.data[...] = data
    resumed.load_state_dict(state)
    for array in state.values():
        array[...] = 77  # the optimiser must have copies
    assert resumed.steps == 4
    for i, (a, b) in enumerate(zip(walk(resumed, others, range(4, 11)), expected)):
        np.testing.assert_array_equal(
            a, b, err_msg=f"{name}, parameter {i}: the step depends on what the state leaves out "
            "or brings back in another type",
        )  # fmt: skip
    for key, array in saved(optimizer).items():
        np.testing.assert_array_equal(resumed.state_dict()[key], array, err_msg=f"{name}: {key}")
        assert resumed.state_dict()[key].dtype == array.dtype, f"{name}: the dtype of {key}"


@pytest.mark.parametrize("name", ALL)
def test_the_state_before_the_first_step_loads(name):
    params, others = parameters(), parameters()
    optimizer, fresh = ALL[name](params), ALL[name](others)
    optimizer.load_state_dict(saved(fresh))
    assert optimizer.steps == 0
    for a, b in zip(walk(optimizer, params, [0]), walk(fresh, others, [0])):
        np.testing.assert_array_equal(a, b)


def assert_refused(optimizer, params, state, message=None):
    """The state raises ValueError, and the optimiser is what it was."""
    before, weights = saved(optimizer), [p.data.copy() for p in params]
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    after = saved(optimizer)
    assert after.keys() == before.keys(), "a refused state must change nothing: check first"
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array, err_msg=f"a refused state changed {key}")
    for p, data in zip(params, weights):
        np.testing.assert_array_equal(p.data, data)


@pytest.mark.parametrize("name", ALL)
def test_other_shapes_are_refused(name):
    """The last of the optimiser's parameters differs: what comes before it fits."""
    shapes = ((2, 3), (3, 5)) if name == "Muon" else ((2, 3), (3, 3), (4,), (5,))
    others = parameters(shapes=shapes)
    donor = ALL[name](others)
    walk(donor, others, [0, 1])
    params = parameters()
    optimizer = ALL[name](params)
    walk(optimizer, params, range(7, 10))
    assert_refused(optimizer, params, saved(donor))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("change", ["more", "less", "nonsense"])
def test_what_is_too_much_and_too_little_is_refused(name, change):
    params = parameters()
    optimizer = ALL[name](params)
    walk(optimizer, params, range(3))
    state = saved(optimizer)
    if change == "more":  # of a model with more parameters
        last = [key for key in state if key.rpartition(".")[2] not in ("steps", "step")][-1]
        number = last.split(".")[-2 if not last.startswith("kept") else -1]
        state[last.replace(number, "9")] = state[last]
    elif change == "less":
        del state[next(key for key in state if key.endswith("steps"))]
    else:
        state["nonsense"] = np.zeros(1)
    assert_refused(optimizer, params, state)


@pytest.mark.parametrize(
    "donor, taker",
    [
        ("NAdam", "Lion"),
        ("Adagrad", "RMSprop"),
        ("Adafactor", "Adagrad"),
        ("Adam", "EMA"),
        ("Adam", "Lookahead"),
        ("EMA", "Adam"),
        ("EMA", "SAM"),
        ("Combined", "Adam"),
        ("Adam", "Combined"),
        # What these take lacks a part, which the next step looks for.
        ("Lion", "NAdam"),
        ("Adam", "NAdam"),
        ("RMSprop", "centred"),
        ("momentum", "RMSprop"),
        ("EMA", "Lookahead"),
        ("Lookahead", "EMA"),
    ],
)
def test_the_state_of_another_optimiser_is_refused(donor, taker):
    make = {**ALL, "Adam": lambda p: Adam(p, RATE), "momentum": lambda p: SGD(p, RATE, 0.9)}
    others, params = parameters(), parameters()
    giving, optimizer = make[donor](others), make[taker](params)
    walk(giving, others, range(2))
    walk(optimizer, params, range(3))
    assert_refused(optimizer, params, saved(giving))


@pytest.mark.parametrize("swap", [False, True])
def test_the_parts_of_a_combination_take_their_own_states_only(swap):
    p, q = parameters(), parameters()
    donor = Combined([Adagrad(p[:2]), RMSprop(p[2:])])
    taker = Combined([RMSprop(q[:2]), Adagrad(q[2:])] if swap else [Adagrad(q[:2])])
    walk(donor, p, range(2))
    walk(taker, q, range(3))
    assert_refused(taker, q, saved(donor))


def test_a_combination_is_refused_as_a_whole():
    """The first part's state fits, the second's does not: the first part must not have taken it."""
    p, q = parameters(), parameters()
    donor, taker = (Combined([Lion([x[0]], RATE), Adam([x[1]], RATE)]) for x in (p, q))
    walk(donor, p, range(2))
    walk(taker, q, range(5))
    state = saved(donor)
    state["1.0.exp_avg"] = np.zeros((7, 7), np.float32)
    assert_refused(taker, q, state, "exp_avg")


def test_an_array_where_a_whole_parameter_is_kept_may_not_be_a_number():
    params = parameters()
    optimizer = Lion(params, RATE)
    walk(optimizer, params, range(2))
    state = saved(optimizer)
    state["0.exp_avg"] = np.array(0.5, np.float32)
    assert_refused(optimizer, params, state, "exp_avg")
