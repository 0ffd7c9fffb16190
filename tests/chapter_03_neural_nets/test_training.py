"""The training loop: it learns, keeps account and the best, stops at NaN, and goes on exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import (
    MLP,
    SGD,
    Adam,
    AdamW,
    Batches,
    Dropout,
    History,
    Linear,
    Module,
    Sequential,
    Tanh,
    evaluate,
    mse_loss,
    train,
)
from utils import manual_seed, no_grad
from utils.checkpoints import load_checkpoint
from utils.seeding import generator_state


def spirals(rows=200, seed=0):
    """Two interleaved classes that no straight line parts."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    turn = rng.uniform(0.3, 2.5, rows)
    angle = 2 * turn + np.pi * labels
    points = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1)
    return (points + rng.normal(0, 0.05, (rows, 2))).astype(np.float32), labels


class Setup:
    """A small run with everything random in it, the same for the same seed."""

    def __init__(self, seed=0, dropout=0.2, optimizer=AdamW, own_generators=False, **options):
        manual_seed(seed)
        rng = np.random.default_rng(seed) if own_generators else None
        self.model = MLP([2, 16, 16, 2], Tanh, dropout=dropout, rng=rng)
        rate = lambda step: 0.01 / (1 + step / 50)
        self.optimizer = optimizer(self.model.parameters(), rate, **options)
        data = np.random.default_rng(seed + 100) if own_generators else None
        self.batches = Batches(*spirals(), batch_size=30, rng=data)

    def train(self, steps, **options):
        return train(self.model, self.optimizer, self.batches, steps, **options)


def assert_equal_runs(a, b):
    for kind in ("model", "optimizer"):
        one, other = getattr(a, kind).state_dict(), getattr(b, kind).state_dict()
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], f"{kind} {name}")
    assert a.batches.state_dict() == b.batches.state_dict()


def judge(model):
    return evaluate(model, *spirals(seed=1))


# Learning


@pytest.mark.parametrize("optimizer", [Adam, AdamW])
def test_the_loss_falls_and_the_classes_are_parted(optimizer):
    run = Setup(dropout=0.0, optimizer=optimizer)
    history = run.train(600)
    assert history.steps == len(history.losses) == 600 and run.optimizer.steps == 600
    assert history.losses[0] == pytest.approx(math.log(2), abs=0.3)
    assert np.mean(history.losses[-20:]) < 0.2
    assert judge(run.model)["accuracy"] > 0.9
    assert all(type(loss) is float for loss in history.losses)


def test_a_step_is_forward_backward_update():
    run, twin = Setup(dropout=0.0, optimizer=SGD), Setup(dropout=0.0, optimizer=SGD)
    x, targets = next(twin.batches)
    logits = twin.model(x).data.astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = p.copy()
    expected[np.arange(30), targets] -= 1
    bias = twin.model[-1].bias.data - 0.01 * expected.mean(axis=0)
    history = run.train(1)
    assert history.losses[0] == pytest.approx(-np.log(p[np.arange(30), targets]).mean(), rel=1e-5)
    np.testing.assert_allclose(run.model[-1].bias.data, bias, rtol=1e-5)


def test_gradients_do_not_pile_up():
    run = Setup(dropout=0.0, optimizer=SGD)
    run.train(1)
    for p in run.model.parameters():
        p.grad = np.full(p.shape, 1e6, np.float32)
    run.train(1)
    assert max(np.abs(p.data).max() for p in run.model.parameters()) < 10


def test_another_loss_and_batches_of_any_length():
    manual_seed(0)
    x = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    model = Linear(1, 1)
    batches = Batches(x, 3 * x + 1, np.full_like(x, 2), batch_size=5)
    loss = lambda model, x, y, factor: mse_loss(model(x), y, reduction="mean") * factor.mean()
    train(model, SGD(model.parameters(), 0.2), batches, 200, loss)
    assert (model.weight.item(), model.bias.item()) == pytest.approx((3, 1), abs=1e-3)


def test_any_iterable_gives_batches():
    run = Setup()
    assert train(run.model, run.optimizer, [next(run.batches) for _ in range(3)], 3).steps == 3


# The account


def test_evaluations_come_when_asked_and_at_the_end():
    run, modes = Setup(), []

    def look(model):
        modes.append(model.training)
        return {"loss": np.float32(len(modes)), "other": 0}

    history = run.train(7, evaluate=look, evaluate_every=3)
    assert [e["step"] for e in history.evaluations] == [3, 6, 7]
    assert history.evaluations[1] == {"step": 6, "loss": 2, "other": 0}
    assert type(history.evaluations[0]["loss"]) is float, "NumPy's numbers do not go into JSON"
    assert [e["step"] for e in Setup().train(7, evaluate=look).evaluations] == [7]


def test_training_goes_on_in_training_mode_after_an_evaluation():
    run, modes = Setup(), []
    run.model.eval()

    def look(model):
        model.eval()
        return {"loss": 0.0}

    watch = lambda model: modes.append([m.training for m in model.modules()])
    run.train(4, evaluate=look, evaluate_every=1, before_step=[watch])
    assert all(all(mode) for mode in modes)


def test_the_best_is_the_lowest_first_metric():
    metrics = iter([(3.0, 1), (1.0, 2), (2.0, 0)])
    look = lambda model: dict(zip(("loss", "other"), next(metrics)))
    history = Setup().train(3, evaluate=look, evaluate_every=1)
    assert history.best == {"step": 2, "loss": 1.0, "other": 2.0}
    assert History().best is None and Setup().train(2).best is None


def test_the_best_weights_are_kept():
    seen = []

    def look(model):
        seen.append({name: array.copy() for name, array in model.state_dict().items()})
        return {"loss": [3.0, 1.0, 2.0][len(seen) - 1]}

    for keep, index in [(True, 1), (False, 2)]:
        seen.clear()
        run = Setup()
        run.train(3, evaluate=look, evaluate_every=1, keep_best=keep)
        for name, array in run.model.state_dict().items():
            np.testing.assert_array_equal(array, seen[index][name])


def test_a_nan_is_never_the_best():
    losses = iter([math.nan, 2.0, 1.0, math.nan])
    history = Setup().train(4, evaluate=lambda model: {"loss": next(losses)}, evaluate_every=1)
    assert history.best["loss"] == 1.0, "nothing is below NaN: do not begin with it"


def test_functions_before_the_step_see_whole_gradients():
    run, norms = Setup(optimizer=SGD), []

    def freeze(model):
        norms.append([np.abs(p.grad).max() for p in model.parameters()])
        for p in model.parameters():
            p.grad[...] = 0

    before = run.model.state_dict()["1.weight"].copy()
    run.train(3, before_step=[freeze, lambda model: norms.append("second")])
    assert norms[1::2] == ["second"] * 3 and np.min(norms[::2]) > 0
    np.testing.assert_array_equal(run.model.state_dict()["1.weight"], before)


# Trouble


class Logarithm(Module):
    def forward(self, x):
        return np.log(x)


def test_the_module_that_made_a_nan_is_named():
    model = Sequential(Linear(2, 3), Sequential(Linear(3, 3), Logarithm()), Linear(3, 2))
    for p in model[1][0].parameters():
        p.data[...] = -1
    model[0].weight.data[...], model[0].bias.data[...] = 0, 1
    batches = Batches(*spirals(), batch_size=5)
    with pytest.raises(FloatingPointError, match=r"step 0: .*nan.*1\.1 \(Logarithm\) gave NaN"):
        train(model, SGD(model.parameters(), 0.1), batches, 10)


def test_an_infinity_in_the_data_is_found_in_the_step_of_its_batch():
    run = Setup(dropout=0.0)
    good = [next(run.batches) for _ in range(5)]
    bad = (np.full((30, 2), np.inf, np.float32), good[0][1])
    run.model = MLP([2, 4, 2])
    run.optimizer = SGD(run.model.parameters(), 0.1)
    with pytest.raises(FloatingPointError, match=r"step 3: .*1 \(Linear\)"):
        train(run.model, run.optimizer, [*good[:3], bad, good[3]], 5)
    assert not run.model[1]._hooks or not run.model[1]._hooks.get("after"), "hooks are taken away"


def test_the_parameter_that_an_update_broke_is_named():
    run = Setup(dropout=0.0, optimizer=SGD)

    def poison(model):
        if run.optimizer.steps == 4:
            model[3].weight.grad[0, 0] = np.nan

    with pytest.raises(FloatingPointError, match="step 5: the parameter 3.weight holds NaN"):
        run.train(100, before_step=[poison])
    run = Setup(dropout=0.0, optimizer=SGD)
    with pytest.raises(FloatingPointError, match="step 5: the parameter 3.weight holds NaN"):
        run.train(5, before_step=[poison])  # nor does the last step go unseen


def test_a_rate_far_too_high_is_reported_without_warnings():
    run = Setup(dropout=0.0, optimizer=SGD)
    run.optimizer = SGD(run.model.parameters(), 1e38)
    with pytest.raises(FloatingPointError, match=r"step \d+.*lower the learning rate"):
        run.train(50)


def test_no_broken_checkpoint_is_saved(tmp_path):
    run = Setup(optimizer=SGD)

    def poison(model):
        if run.optimizer.steps == 7:
            model[1].bias.grad[0] = np.nan

    with pytest.raises(FloatingPointError):
        run.train(20, before_step=[poison], checkpoint=tmp_path, checkpoint_every=2)
    saved = load_checkpoint(tmp_path)
    assert saved.step == 6 and all(np.isfinite(a).all() for a in saved.arrays.values())


# Going on


@pytest.mark.parametrize("own_generators", [False, True])
@pytest.mark.parametrize("optimizer, options", [(SGD, {"momentum": 0.9}), (AdamW, {})])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, optimizer, options, own_generators):
    make = lambda seed: Setup(seed, 0.2, optimizer, own_generators, **options)
    look = {"evaluate": judge, "evaluate_every": 4, "keep_best": True}
    whole = make(0)
    expected = whole.train(23, **look)
    place = generator_state()
    for steps in (5, 5, 14, 23):  # 5 twice: a run that is already there does nothing
        run = make(0 if steps == 5 else 77)
        found = run.train(steps, checkpoint=tmp_path, checkpoint_every=5, **look)
        assert found.steps == steps
    assert generator_state() == place, "the default generator must go on where it was"
    assert found.losses == expected.losses
    # The pieces that ended at 5 and 14 were evaluated there as well.
    assert [e for e in found.evaluations if e["step"] not in (5, 14)] == expected.evaluations
    assert_equal_runs(run, whole)


def test_saving_does_not_change_the_run(tmp_path):
    plain = Setup()
    losses = plain.train(12).losses
    saved = Setup()
    assert saved.train(12, checkpoint=tmp_path, checkpoint_every=3).losses == losses
    assert_equal_runs(saved, plain)


def test_the_history_survives(tmp_path):
    look = {"evaluate": judge, "evaluate_every": 4, "keep_best": True}
    first = Setup().train(8, checkpoint=tmp_path, **look)
    again = Setup(5).train(8, checkpoint=tmp_path, **look)
    assert again == first and isinstance(again, History)


def test_the_best_weights_survive_though_they_came_before_the_stop(tmp_path):
    weights = {}

    def worse_and_worse(model):
        weights[len(weights)] = model.state_dict()["1.weight"].copy()
        return {"loss": len(weights)}

    look = {"evaluate": worse_and_worse, "evaluate_every": 2, "keep_best": True}
    Setup().train(4, checkpoint=tmp_path, **look)
    run = Setup(77)
    history = run.train(8, checkpoint=tmp_path, **look)
    assert history.best == {"step": 2, "loss": 1} and len(history.evaluations) == 4
    np.testing.assert_array_equal(run.model.state_dict()["1.weight"], weights[0])


class Named(Module):
    """A layer, then Dropout with a generator of its own, in an attribute of this name."""

    def __init__(self, name):
        super().__init__()
        self.linear, self.last = Linear(2, 2), name
        setattr(self, name, Dropout(0.5, rng=np.random.default_rng(1)))

    def forward(self, x):
        return getattr(self, self.last)(self.linear(x))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["dropout", "batches", "default"])
def test_every_generator_goes_on_whatever_the_name_of_its_module(tmp_path, name, own):
    def run(steps, **options):
        manual_seed(3)
        model = Named(name)
        rng = np.random.default_rng(4) if own else None
        batches = Batches(*spirals(60), batch_size=20, rng=rng)
        return train(model, SGD(model.parameters(), 0.1), batches, steps, **options).losses

    expected = run(20)
    run(10, checkpoint=tmp_path)
    assert run(20, checkpoint=tmp_path) == expected


def test_batches_without_a_place_are_refused_before_training(tmp_path):
    run = Setup()
    before = run.model.state_dict()["1.weight"].copy()
    with pytest.raises(TypeError, match="list_iterator has no state_dict"):
        train(run.model, run.optimizer, [next(run.batches)], 1, checkpoint=tmp_path)
    np.testing.assert_array_equal(run.model.state_dict()["1.weight"], before)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_settings_is_refused_and_stays(tmp_path):
    """Another run of the same shapes would go on from this one's weights, and nobody would see."""
    settings = {"lr": 0.1, "hidden": (16, 16), "dropout": None}
    first, again = (Setup().train(2, checkpoint=tmp_path, settings=settings) for _ in range(2))
    assert again.losses == first.losses
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    others = {"lr was 0.1, not 0.2$": {**settings, "lr": 0.2}, "new was None, not 1": {"new": 1}}
    for said, changed in {**others, "another run: lr was 0.1, not None, hidden was": None}.items():
        run = Setup(5)
        weights = run.model.state_dict()["1.weight"].copy()
        with pytest.raises(ValueError, match=said):
            run.train(4, checkpoint=tmp_path, settings=changed)
        np.testing.assert_array_equal(run.model.state_dict()["1.weight"], weights)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    Setup().train(2, checkpoint=tmp_path)
    run = Setup()
    run.batches = Batches(*spirals(seed=1), batch_size=30)
    with pytest.raises(ValueError, match="holds another run: .*other data"):
        run.train(4, checkpoint=tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    Setup().train(2, checkpoint=tmp_path)
    model = MLP([2, 3, 2])
    with pytest.raises(ValueError, match="1.weight has shape"):
        train(model, SGD(model.parameters()), Setup().batches, 4, checkpoint=tmp_path)


def test_no_gradients_are_needed_after_training():
    run = Setup()
    run.train(2)
    with no_grad():
        assert not run.model(spirals()[0]).requires_grad
    assert run.model.training


def test_an_evaluation_that_overflows_does_not_warn(rng):
    model = MLP([2, 3, 2], rng=rng)
    for p in model.parameters():
        p.data *= 1e30
    x, y = rng.normal(size=(8, 2)).astype(np.float32), np.arange(8) % 2
    optimizer = SGD(model.parameters(), 0.0)
    loss = lambda model, x, y: np.sum(model[1].weight * 0.0)  # finite, whatever the model says
    # Warnings are errors here: a diverging run ends with one line and no line more.
    train(
        model,
        optimizer,
        Batches(x, y, batch_size=4, rng=rng),
        1,
        loss,
        lambda m: {"loss": float(np.abs(m(x).data).max())},
    )
