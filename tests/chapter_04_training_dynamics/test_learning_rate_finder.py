"""The learning-rate finder: it finds a rate that trains, and leaves everything as it was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chapter_03_neural_nets import (
    MLP,
    SGD,
    Adam,
    Batches,
    Dropout,
    Linear,
    Parameter,
    Sequential,
    cross_entropy,
    mse_loss,
    train,
)
from chapter_03_neural_nets.module import Module
from chapter_04_training_dynamics import BatchNorm1d, find_learning_rate
from chapter_04_training_dynamics.learning_rate_finder import smooth, steepest_fall
from utils import Tensor
from utils.seeding import generator_state


@pytest.fixture
def data(rng):
    x = rng.normal(size=(512, 8)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def squared(model, x, y):
    return mse_loss(model(x), y)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_the_suggestion_trains(optimizer, data, rng):
    make = lambda: MLP([8, 32, 32, 2], rng=np.random.default_rng(1))
    batches = Batches(*data, batch_size=64, rng=rng)
    curve = find_learning_rate(make(), batches, optimizer=optimizer)
    final = {}
    for factor in (1e-3, 1.0):
        model = make()
        history = train(
            model, optimizer(model.parameters(), curve.suggestion * factor), batches, 200
        )
        final[factor] = np.mean(history.losses[-20:])
    assert final[1.0] < 0.3, f"{curve.suggestion:.3g} leaves a loss of {final[1.0]:.3f}"
    assert final[1e-3] > 2 * final[1.0], "a thousandth of it hardly moves"


def test_on_a_parabola_it_stays_below_the_rate_that_diverges(rng):
    """The loss 50 w^2 has the curvature 100: gradient descent diverges above 2 / 100."""
    model = Linear(1, 1, bias=False)
    model.weight.data[...] = 1.0
    x, y = np.full((4, 1), 50**0.5, np.float32), np.zeros((4, 1), np.float32)
    curve = find_learning_rate(model, Batches(x, y, batch_size=4, rng=rng), squared)
    assert 1e-4 < curve.suggestion < 0.02
    assert curve.rates[-1] < 10, "it stops when the loss has diverged"
    assert curve.losses[-1] < 1e5, "a rise by four times the first loss is enough to know"
    assert curve.losses[0] == pytest.approx(50), "the first loss is of the model as it came"


class Everything(Module):
    """A model with all that training changes: statistics, dropout, counts, a frozen part."""

    def __init__(self, rng):
        super().__init__()
        own = np.random.default_rng(5)
        self.net = Sequential(
            Linear(8, 16, rng=rng), BatchNorm1d(16), Dropout(0.3, own), Linear(16, 2, rng=rng)
        )
        self.frozen = Parameter(np.ones(2, np.float32), requires_grad=False)
        self.register_buffer("calls", np.array(0), persistent=False)
        self.register_buffer("rebound", np.zeros(2, np.float32))

    def forward(self, x):
        self.calls += 1
        self.rebound = self.rebound + 1
        return self.net(x) * self.frozen


def state_of(model, batches, rng):
    return {
        **{name: p.data.copy() for name, p in model.named_parameters()},
        **{name: buffer.copy() for name, buffer in model.named_buffers()},
        "modes": [module.training for module in model.modules()],
        "requires": [p.requires_grad for p in model.parameters()],
        "default": generator_state(),
        "rng": generator_state(rng),
        "of dropout": generator_state(model.net[2].rng),
        "batches": batches.state_dict(),
    }


@pytest.mark.parametrize("fails", [False, True], ids=["ends", "fails"])
def test_everything_is_as_it_was(fails, data, rng):
    model, batches = Everything(rng), Batches(*data, batch_size=100, rng=rng)
    for x, y in itertools.islice(batches, 3):
        cross_entropy(model(x), y).backward()
    model.net[1].eval()
    before = state_of(model, batches, rng)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    values = {name: None if g is None else g.copy() for name, g in gradients.items()}
    arrays = {name: p.data for name, p in model.named_parameters()}
    calls = itertools.count()

    def loss(model, x, y):
        if fails and next(calls) == 8:
            raise KeyError("a loss that breaks")
        return cross_entropy(model(x), y)

    if fails:
        with pytest.raises(KeyError):
            find_learning_rate(model, batches, loss)
    else:
        find_learning_rate(model, batches, loss)
    after = state_of(model, batches, rng)
    for key, value in before.items():
        np.testing.assert_equal(after[key], value, err_msg=f"{key} has changed")
    for name, p in model.named_parameters():
        assert p.data is arrays[name], f"{name}: an optimiser may hold this array"
        assert p.grad is gradients[name], f"{name}: the gradient buffer is another"
        np.testing.assert_equal(p.grad, values[name])


def test_an_optimiser_that_begins_afterwards_sees_nothing_of_it(data):
    def losses(search):
        model = MLP([8, 16, 2], rng=np.random.default_rng(1))
        batches = Batches(*data, batch_size=64, rng=np.random.default_rng(2))
        if search:
            find_learning_rate(model, batches)
        return train(model, SGD(model.parameters(), 0.1), batches, 20).losses

    assert losses(search=True) == losses(search=False), "bit for bit"


def test_batches_from_a_plain_iterator(data):
    x, y = data
    curve = find_learning_rate(MLP([8, 16, 2]), itertools.repeat((x[:64], y[:64])), steps=40)
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) <= 40
    np.testing.assert_allclose(np.diff(np.log(curve.rates)), np.log(1e7) / 39, rtol=1e-6)
    assert curve.suggestion in curve.rates


def test_smoothing_shifts_nothing():
    steep = np.where(np.arange(40) < 20, 1.0, 0.0)
    smoothed = smooth(steep, 2.0)
    assert np.argmin(np.gradient(smoothed)) in (19, 20)
    np.testing.assert_allclose(smooth(np.full(9, 3.0), 1.0), 3.0)


@pytest.mark.parametrize("shift", [0.0, -10.0], ids=["positive", "negative"])
def test_an_explosion_does_not_colour_the_steps_before_it(shift):
    model = Linear(1, 1)
    planned = 3.0 - 2.0 / (1 + np.exp(-0.5 * (np.arange(100.0) - 62)))  # falls fastest at 62
    planned[70] = 1e12
    losses = iter((planned + shift).tolist())
    scripted = lambda m, x: 0 * np.sum(m(x)) + next(losses)
    curve = find_learning_rate(model, itertools.repeat((np.ones((1, 1), np.float32),)), scripted)
    assert len(curve.losses) == 71
    found = int(np.flatnonzero(curve.rates == curve.suggestion)[0])
    assert 58 <= found <= 64, f"the loss falls fastest at step 62, not {found}"


def test_the_steepest_fall_is_on_the_way_to_the_lowest_point():
    dip, way, jumps = (
        [3.0, 2.6, 2.0, 2.6, 3.0],
        [3.0, 2.9, 2.6, 2.3, 2.1, 1.9],
        [9.0, 6.0, 3.0, 9.0],
    )
    found = steepest_fall(np.array([*dip, *way, *jumps]))
    # Steeper are the dip, which comes back, and the fall after the explosion.
    assert found in (7, 8), f"the way down is at 5 to 10 and steepest about 7, not {found}"
    assert steepest_fall(np.array([3.0, 2.0, 1.9])) in (0, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"lowest": 0.0},
        {"lowest": 1.0, "highest": 0.1},
        {"lowest": float("nan")},
        {"highest": float("inf")},
        {"steps": 1},
    ],
    ids=str,
)
def test_impossible_ranges(options, data):
    with pytest.raises(ValueError, match="find_learning_rate"):
        find_learning_rate(MLP([8, 2]), Batches(*data), **options)


def test_a_loss_that_falls_nowhere(rng):
    class Constant(Module):
        def __init__(self):
            super().__init__()
            self.weight = Parameter(np.ones(1, np.float32))

        def forward(self, x):
            return Tensor(np.zeros((len(x), 1), np.float32)) + 0 * self.weight

    x = np.ones((8, 1), np.float32)
    with pytest.raises(ValueError, match="falls at no learning rate"):
        find_learning_rate(Constant(), Batches(x, x, rng=rng), squared)


def test_a_range_that_diverges_at_once(data):
    model = MLP([8, 16, 2], rng=np.random.default_rng(0))
    before = [p.data.copy() for p in model.parameters()]
    with pytest.raises(ValueError, match="falls at no learning rate"):
        find_learning_rate(model, Batches(*data), lowest=1e30, highest=1e35)
    for p, array in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.data, array)
