"""Judging a network: in its evaluation mode, over any number of batches, and back again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import (
    MLP,
    Dropout,
    Identity,
    Linear,
    Module,
    Sequential,
    confusion_matrix,
    evaluate,
    evaluating,
    predict,
)
from utils import Tensor


def data(rows=10):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 4)).astype(np.float32), rng.integers(3, size=rows)


class Table(Module):
    """Gives the rows of a table of logits for their numbers."""

    def __init__(self, logits):
        super().__init__()
        self.logits = np.asarray(logits)

    def forward(self, rows):
        return Tensor(self.logits[rows])


def test_evaluating_turns_dropout_off_and_builds_no_graph():
    model, x = MLP([4, 50, 3], dropout=0.5), data()[0]
    with evaluating(model) as same:
        assert same is model and not any(m.training for m in model.modules())
        y, again = model(x), model(x)
    assert not y.requires_grad
    np.testing.assert_array_equal(y.data, again.data)
    assert model(x).requires_grad and not np.array_equal(model(x).data, y.data)


def test_every_part_gets_its_own_mode_back():
    model = Sequential(Linear(4, 4), Dropout(), Sequential(Dropout()))
    model[1].eval()
    modes = [m.training for m in model.modules()]
    with evaluating(model):
        pass
    assert [m.training for m in model.modules()] == modes == [True, True, False, True, True]
    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        raise RuntimeError("stop")
    assert [m.training for m in model.modules()] == modes, "also after an error"


@pytest.mark.parametrize("batch", [1, 3, 10, 1000])
def test_predictions_do_not_depend_on_the_batch(batch):
    model, (x, _) = MLP([4, 50, 3], dropout=0.5), data()
    expected = model.eval()(x).data
    model.train()
    found = predict(model, x, batch)
    assert type(found) is np.ndarray and model.training
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [2, 1024])
def test_evaluate_by_hand(batch):
    model = Table(np.log([[1.0, 3.0], [3.0, 1.0], [1.0, 3.0]]))
    found = evaluate(model, np.arange(3), np.array([1, 0, 0]), batch)
    # Probabilities 3/4, 3/4 and 1/4 were given to what came.
    assert found["loss"] == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 3)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert list(found) == ["loss", "accuracy"] and all(type(v) is float for v in found.values())


def test_evaluating_changes_nothing():
    model, (x, targets) = MLP([4, 5, 3], dropout=0.5), data()
    before = [p.data.copy() for p in model.parameters()]
    evaluate(model, x, targets)
    for p, array in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.data, array)
        assert p.grad is None


def test_nothing_to_predict():
    with pytest.raises(ValueError, match="no inputs"):
        predict(Identity(), np.zeros((0, 3)))


def test_confusion_by_hand():
    true, taken = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    found = confusion_matrix(taken, true, 4)
    assert found.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert confusion_matrix(np.zeros(0, int), np.zeros(0, int), 2).tolist() == [[0, 0], [0, 0]]
    assert confusion_matrix([1], [0], 2).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_confusion_of_labels_of_any_integer_type(dtype):
    labels = np.arange(36)
    for true, taken in [(labels.astype(dtype), labels), (labels, labels.astype(dtype))]:
        found = confusion_matrix(taken, true, 36)
        np.testing.assert_array_equal(found, np.eye(36), "35 * 36 does not fit into 8 bits")


@pytest.mark.parametrize(
    "taken, true", [([4], [0]), ([0], [3]), ([-1], [1]), ([1, 1], [1]), ([0.5], [0])]
)
def test_confusion_of_what_does_not_fit_is_an_error(taken, true):
    with pytest.raises(ValueError):
        confusion_matrix(np.array(taken), np.array(true), 3)


def test_ignored_targets_count_neither_for_the_loss_nor_as_mistakes():
    logits = np.array([[[2.0, 0.0], [0.0, 3.0], [5.0, 5.0]]])
    padded = evaluate(Table(logits), np.array([0]), np.array([[0, 0, -100]]))
    assert padded["accuracy"] == 0.5
    assert padded == evaluate(Table(logits[:, :2]), np.array([0]), np.array([[0, 0]]))
