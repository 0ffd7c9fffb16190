"""A batch in parts, one after the other, is the batch."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from parted_batches import gradients, loss, problem

from chapter_03_neural_nets import Batches, train
from chapter_05_gradient_mastery import MLP, Adam, BatchNorm1d, in_threads
from chapter_07_attention import GPT, GPTConfig, TransformerEncoderLayer
from chapter_09_scaling.accumulation import accumulated
from chapter_09_scaling.checkpointing import checkpointed
from utils import detect_anomaly, manual_seed, no_grad


@pytest.mark.parametrize("parts", [1, 2, 3, 10])
@pytest.mark.parametrize("ignored", [(), (0, 1, 2, 5)], ids=["all", "some ignored"])
def test_value_and_gradients_are_those_of_the_whole_batch(parts, ignored, rng):
    given = problem(rng, ignored=ignored)
    found = gradients(accumulated(loss, parts), *given)
    for a, b in zip(found, gradients(loss, *given)):
        np.testing.assert_allclose(
            a, b, 1e-12, 1e-14, err_msg="parts count by their targets that are not ignored"
        )


def test_a_weighted_mean_by_hand():
    """Parts of 2 and 1 targets: their mean losses count 2/3 and 1/3, not 1/2 each."""
    seen = []

    def remembered(model, inputs, targets):
        value = loss(model, inputs, targets)
        seen.append(value.item())
        return value

    model, inputs, _ = problem(np.random.default_rng(0), rows=4)
    targets = np.array([0, 1, 2, -100])
    value = accumulated(remembered, 2)(model, inputs, targets).item()
    assert value == pytest.approx((2 * seen[0] + seen[1]) / 3, rel=1e-12)


def test_parts_go_one_after_the_other(rng):
    rows = []

    def remembered(model, inputs, targets):
        rows.append(len(inputs))
        return loss(model, inputs, targets)

    accumulated(remembered, 3)(*problem(rng)).backward()
    assert rows == [2, 2, 3]


def test_gradients_add_to_those_that_are_there(rng):
    model, inputs, targets = problem(rng)
    for _ in range(2):
        accumulated(loss, 3)(model, inputs, targets).backward()
    for p, g in zip(model.parameters(), gradients(loss, model, inputs, targets)[1:]):
        np.testing.assert_allclose(p.grad, 2 * g, 1e-12, 1e-14)


@pytest.mark.parametrize("around", ["threads", "checkpoints"])
def test_together_with_others(around):
    rng = np.random.default_rng(0)
    config = GPTConfig(vocab_size=7, block_size=6, n_layer=2, n_head=2, n_embd=8)
    layer = TransformerEncoderLayer
    model = GPT(config, layer=checkpointed(layer) if around == "checkpoints" else layer, rng=rng)
    model.astype(np.float64)
    given = model, rng.integers(7, size=(8, 6)), rng.integers(7, size=(8, 6))
    inner = in_threads(loss) if around == "threads" else loss
    for a, b in zip(gradients(accumulated(inner, 3), *given), gradients(loss, *given)):
        np.testing.assert_allclose(a, b, 1e-10, 1e-12)


def test_one_part_s_activations_exist_at_a_time():
    """A quarter of the batch holds a quarter of the activations, and two gradients more."""
    config = GPTConfig(vocab_size=7, block_size=64, n_layer=2, n_head=2, n_embd=16)
    rng = np.random.default_rng(0)
    model = GPT(config, rng=rng)
    ids, targets = rng.integers(7, size=(2, 16, 64))
    loss(model, ids, targets)

    def most(loss):
        tracemalloc.start()
        try:
            loss(model, ids, targets).backward()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            model.zero_grad()

    parameters = sum(p.data.nbytes for p in model.parameters())
    assert most(accumulated(loss, 4)) <= most(loss) / 4 + 3 * parameters


def test_the_same_seed_gives_the_same_training_bit_for_bit():
    def trained():
        manual_seed(3)
        model = MLP([4, 16, 3], dropout=0.5)
        data = np.random.default_rng(0)
        inputs = data.normal(size=(40, 4)).astype(np.float32)
        batches = Batches(inputs, data.integers(3, size=40), batch_size=8)
        return train(
            model, Adam(model.parameters(), 0.01), batches, 20, loss=accumulated(loss, 4)
        ).losses

    assert trained() == trained()


def test_who_asks_for_no_gradient_gets_the_loss_itself(rng):
    given = problem(rng)
    expected = loss(*given).item()
    with no_grad():
        assert accumulated(loss, 3)(*given).item() == expected
    with detect_anomaly():
        assert accumulated(loss, 3)(*given).item() == expected


def test_what_cannot_be_in_parts_is_refused(rng):
    given = rng.normal(size=(4, 4)).astype(np.float32), np.array([0, 1, 2, 0])
    with pytest.raises(ValueError, match="whole batch"):
        accumulated(loss, 2)(MLP([4, 6, 3], normalization=BatchNorm1d), *given)
    with pytest.raises(ValueError, match="own generator"):
        accumulated(loss, 2)(MLP([4, 6, 3], dropout=0.5, rng=rng), *given)
    for parts in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="parts is a whole number"):
            accumulated(loss, parts)
