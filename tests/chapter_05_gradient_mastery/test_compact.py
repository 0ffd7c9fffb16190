"""The compact formulas: the module's loss and gradients, and a training equal to the engine's."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Batches, ContextMLP, cross_entropy, train
from chapter_04_training_dynamics import BatchNorm1d
from chapter_05_gradient_mastery import backward, forward, loss_and_gradients, train_by_hand

SIZES = [(32, 3, 4, 8, 27), (2, 1, 1, 1, 2), (7, 5, 2, 3, 4), (64, 2, 10, 16, 65)]  # B, T, E, H, V


def network(t, e, h, v, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return ContextMLP(v, t, e, [h], normalization=BatchNorm1d, rng=rng).astype(dtype)


def batch_of(b, t, v, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(v, size=(b, t)), rng.integers(v, size=b)


def copied(model):
    return {name: array.copy() for name, array in model.state_dict().items()}


@pytest.mark.parametrize("b, t, e, h, v", SIZES)
def test_loss_and_gradients_are_the_modules(b, t, e, h, v):
    model, (ids, targets) = network(t, e, h, v), batch_of(b, t, v)
    rng = np.random.default_rng(2)
    for p in model.parameters():  # a new scale is 1, and hides where it is forgotten
        p.data += rng.normal(0, 0.3, p.shape)
    state = copied(model)
    loss, gradients, batch = loss_and_gradients(state, ids, targets)
    expected = cross_entropy(model(ids), targets)
    expected.backward()
    assert isinstance(loss, float)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    assert set(gradients) == {name for name, _ in model.named_parameters()}
    for name, p in model.named_parameters():
        assert gradients[name].shape == p.shape, name
        np.testing.assert_allclose(gradients[name], p.grad, rtol=0, atol=1e-12, err_msg=name)
    values = forward(state, ids, targets)
    np.testing.assert_allclose(batch["mean"], values["mean"][0], rtol=1e-12)
    np.testing.assert_allclose(batch["variance"], values["variance"][0], rtol=1e-12)


def test_compact_is_line_by_line_with_another_eps():
    model, (ids, targets) = network(3, 4, 8, 27), batch_of(32, 3, 27)
    p = copied(model)
    loss, gradients, _ = loss_and_gradients(p, ids, targets, eps=0.1)
    values = forward(p, ids, targets, eps=0.1)
    d = backward(p, values, ids, targets)
    np.testing.assert_allclose(loss, values["loss"], rtol=1e-12)
    for name, g in gradients.items():
        np.testing.assert_allclose(g, d[name], rtol=0, atol=1e-12, err_msg=name)


def test_logits_far_apart_neither_overflow_nor_warn():
    model, (ids, targets) = network(3, 4, 8, 5), batch_of(32, 3, 5)
    p = copied(model)
    p["mlp.4.weight"] *= 1e4
    loss, gradients, _ = loss_and_gradients(p, ids, targets)
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients.values())


def test_the_state_is_left_alone_by_one_gradient():
    model, (ids, targets) = network(3, 4, 8, 5), batch_of(32, 3, 5)
    before = copied(model)
    loss_and_gradients(model.state_dict(), ids, targets)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def both_trainings(steps=150, batch=16, rows=50, drop_last=False, **options):
    """The state and the losses by hand, and the model and the losses of `train`."""
    model = network(3, 4, 8, 9)
    state, data = copied(model), batch_of(rows, 3, 9)

    def batches():
        rng = np.random.default_rng(2)
        return Batches(*data, batch_size=batch, drop_last=drop_last, rng=rng)

    by_hand = train_by_hand(state, batches(), steps, **options)
    optimizer = SGD(model.parameters(), options.get("lr", 0.1), options.get("momentum", 0.9))
    by_engine = train(model, optimizer, batches(), steps).losses
    return state, by_hand, model, by_engine


@pytest.mark.parametrize("options", [{}, {"lr": 0.02, "momentum": 0.5}, {"momentum": 0.0}], ids=str)
def test_training_without_autodiff_is_training_with_it(options):
    state, by_hand, model, by_engine = both_trainings(**options)
    np.testing.assert_allclose(
        by_hand, by_engine, rtol=0, atol=1e-9, err_msg="losses, step by step"
    )
    assert by_hand[-1] < by_hand[0] - 0.3, "the loss falls"
    own = model.state_dict()
    assert list(state) == list(own)
    for name, array in own.items():
        assert state[name].dtype == array.dtype and state[name].shape == array.shape, name
        np.testing.assert_allclose(state[name], array, rtol=1e-9, atol=1e-9, err_msg=name)
    assert state["mlp.2.num_batches_tracked"] == 150
    model.load_state_dict(state)


def test_the_last_smaller_batch_of_an_epoch_counts_as_well():
    """50 rows in batches of 16 end with one of 2: unbiased variances differ by size of batch."""
    state, _, model, _ = both_trainings(steps=4)
    for name in ("mlp.2.running_mean", "mlp.2.running_var"):
        np.testing.assert_allclose(state[name], model.state_dict()[name], rtol=1e-12, err_msg=name)


def test_statistics_momentum_is_the_share_of_the_new_batch():
    model, (ids, targets) = network(3, 4, 8, 5), batch_of(32, 3, 5)
    state = copied(model)
    _, _, batch = loss_and_gradients(state, ids, targets)
    train_by_hand(state, iter([(ids, targets)]), 1, statistics_momentum=1.0)
    np.testing.assert_allclose(state["mlp.2.running_mean"], batch["mean"])
    np.testing.assert_allclose(state["mlp.2.running_var"], batch["variance"] * 32 / 31)


def test_one_step_by_hand_is_minus_lr_times_the_gradient():
    model, (ids, targets) = network(3, 4, 8, 5), batch_of(32, 3, 5)
    state, before = copied(model), copied(model)
    loss, gradients, _ = loss_and_gradients(state, ids, targets)
    assert train_by_hand(state, iter([(ids, targets)]), 1, lr=0.25) == [loss]
    for name, g in gradients.items():
        np.testing.assert_allclose(state[name], before[name] - 0.25 * g, atol=1e-15, err_msg=name)


def test_the_state_is_changed_in_place():
    model, data = network(3, 4, 8, 5), batch_of(32, 3, 5)
    state = model.state_dict()
    arrays = dict(state)
    train_by_hand(state, iter([data, data]), 2)
    for name, array in arrays.items():
        assert state[name] is array, f"{name} has been replaced: the model would not see it"


def test_float32_stays_float32():
    model, data = network(3, 4, 8, 5, np.float32), batch_of(32, 3, 5)
    state = copied(model)
    train_by_hand(state, iter([data, data]), 2)
    kinds = {name: array.dtype for name, array in model.state_dict().items()}
    assert {name: array.dtype for name, array in state.items()} == kinds


def test_a_batch_of_one_has_no_variance_to_learn_from():
    """As BatchNorm1d refuses it in training: its unbiased variance is 0 / 0."""
    model = network(3, 4, 8, 5)
    state = copied(model)
    with pytest.raises(ValueError, match="1"):
        train_by_hand(state, iter([batch_of(1, 3, 5)]), 1)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(state[name], array, err_msg=f"{name} is lost")
