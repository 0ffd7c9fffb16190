"""Recorder and UpdateRatios: statistics by hand, steps that match, and hooks that go away."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Batches, Linear, ReLU, Sequential, Tanh, evaluate, train
from chapter_04_training_dynamics import Recorder, UpdateRatios, update_ratios
from utils import Tensor, no_grad


@pytest.fixture
def model(rng):
    return Sequential(Linear(3, 4, rng=rng), Tanh(), Linear(4, 4, rng=rng), ReLU(), Linear(4, 2))


def hooks_of(model):
    return sum(len(hooks) for module in model.modules() for hooks in module._hooks.values())


def test_statistics_by_hand():
    net = Sequential(Tanh(), ReLU())
    x = np.array([[5.0, 0.0], [-5.0, 0.05]], np.float32)
    with Recorder(net) as recorder:
        y = net(Tensor(x, requires_grad=True))
        y.backward([[1.0, 2.0], [3.0, 4.0]])
    t = np.tanh(x)
    r = np.maximum(t, 0)
    assert recorder.names == ["0", "1"]
    np.testing.assert_allclose(recorder["mean"][:, 0], [t.mean(), r.mean()], atol=1e-6)
    np.testing.assert_allclose(recorder["std"][:, 0], [t.std(), r.std()], rtol=1e-5)
    between = [np.sqrt(a.var(axis=0).mean()) for a in (t, r)]
    np.testing.assert_allclose(recorder["signal"][:, 0], between, rtol=1e-5)
    assert recorder["saturated"][:, 0].tolist() == [0.5, 0.5], "|tanh| > 0.97; relu at 0"
    g = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(recorder["gradient"][:, 0], [(g * (t > 0)).std(), g.std()])
    np.testing.assert_array_equal(recorder.outputs["0"], t)


def test_signal_leaves_out_what_is_alike_for_all_examples():
    net = Sequential(Linear(2, 2), Tanh())
    net[0].weight.data[...] = 0
    net[0].bias.data[...] = [1, -1]
    with Recorder(net) as recorder:
        net(Tensor(np.ones((3, 2), np.float32)))
    assert recorder["std"][0, 0] > 0.7 and recorder["signal"][0, 0] < 1e-6


def test_one_row_a_layer_one_column_a_step(model, rng):
    data = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(2, size=40)
    with Recorder(model) as recorder:
        train(
            model,
            SGD(model.parameters(), 0.1),
            Batches(*data, batch_size=8, rng=rng),
            6,
            evaluate=lambda m: evaluate(m, *data),
            evaluate_every=2,
        )
    assert recorder.names == ["1", "3"] and recorder.steps == list(range(6))
    for quantity in ("mean", "std", "signal", "saturated", "gradient"):
        assert recorder[quantity].shape == (2, 6), "evaluations are not steps of training"
        assert np.isfinite(recorder[quantity]).all()


def test_one_pass_in_every_so_many(model):
    x = Tensor(np.ones((2, 3), np.float32))
    with Recorder(model, every=3) as recorder:
        for _ in range(7):
            model(x).sum().backward()
    assert recorder.steps == [0, 3, 6]
    assert recorder["gradient"].shape == (2, 3) and np.isfinite(recorder["gradient"]).all()


def test_hooks_go_away_also_after_an_error(model):
    with Recorder(model):
        assert hooks_of(model) > 0
    assert hooks_of(model) == 0
    with pytest.raises(ZeroDivisionError), Recorder(model):
        raise ZeroDivisionError
    assert hooks_of(model) == 0, "a recorder must not outlive its with"


def test_recording_changes_nothing(model):
    x = Tensor(np.ones((2, 3), np.float32))
    plain = model(x)
    plain.sum().backward()
    expected = [p.grad.copy() for p in model.parameters()]
    model.zero_grad()
    with Recorder(model):
        recorded = model(x)
        recorded.sum().backward()
    np.testing.assert_array_equal(recorded.data, plain.data)
    for p, g in zip(model.parameters(), expected):
        np.testing.assert_array_equal(p.grad, g)


def test_a_pass_without_gradients_has_none(model):
    with Recorder(model) as recorder, no_grad():
        model(Tensor(np.ones((2, 3), np.float32)))
    assert np.isnan(recorder["gradient"]).all() and np.isfinite(recorder["std"]).all()


def test_what_cannot_be_recorded(model):
    with pytest.raises(ValueError, match="no Tanh, ReLU"):
        Recorder(Linear(2, 2))
    with pytest.raises(ValueError, match="every=0"):
        Recorder(model, every=0)
    with pytest.raises(ValueError, match="every=0"):
        UpdateRatios(every=0)
    with pytest.raises(KeyError, match="median"):
        Recorder(model)["median"]
    assert Recorder(model, kinds=(Linear,)).names == ["0", "2", "4"]
    assert Recorder(model)["std"].shape == (2, 0), "nothing was seen yet"


def test_update_ratios_by_hand():
    before = {"a": np.array([[1.0, -1.0]]), "b": np.array([[2.0, 2.5]])}
    after = {"a": np.array([[1.01, -1.01]]), "b": before["b"].copy()}
    ratios = update_ratios(before, after)
    assert ratios["a"] == pytest.approx(-2), "updates of 0.01 beside weights of 1"
    assert ratios["b"] == -math.inf, "nothing moved"


def test_update_ratios_of_a_training_run(model, rng):
    ratios = UpdateRatios()
    data = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(2, size=20)
    weights = [model[0].weight.data.copy()]
    keep = lambda m: weights.append(m[0].weight.data.copy())
    optimizer = SGD(model.parameters(), 0.1)
    batches = Batches(*data, batch_size=5, rng=rng)
    train(model, optimizer, batches, 4, before_step=[ratios, keep])
    assert list(ratios.logs) == ["0.weight", "2.weight", "4.weight"], "matrices, not biases"
    assert ratios.steps == [0, 1, 2], "the last update is seen by calling once more"
    ratios(model)
    weights.append(model[0].weight.data)
    weights = weights[1:]
    expected = [math.log10(np.std(b - a) / np.std(a)) for a, b in zip(weights[:-1], weights[1:])]
    assert ratios.steps == [0, 1, 2, 3]
    np.testing.assert_allclose(ratios.logs["0.weight"], expected, rtol=1e-6)


def test_update_ratios_of_one_step_in_every_so_many(model):
    ratios = UpdateRatios(every=3)
    for step in range(8):
        ratios(model)
        model[0].weight.data += 10.0**-step * np.eye(4, 3, dtype=np.float32)
    assert ratios.steps == [0, 3, 6]
    first, second, third = ratios.logs["0.weight"]
    assert first > second + 2 > third + 4, "of the one update that follows, not of three"


def test_recording_an_explosion_does_not_warn_about_it():
    net = Sequential(ReLU())
    with Recorder(net) as recorder:
        net(Tensor(np.float32([[1e30], [-1e30]]), requires_grad=True)).backward(np.ones((2, 1)))
    assert recorder["std"][0, 0] > 1e29, "what leaves the range is what one looks for"
