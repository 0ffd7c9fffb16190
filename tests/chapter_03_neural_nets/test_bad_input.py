"""What does not fit is refused, and the error shows what was given."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import (
    MLP,
    SGD,
    Adam,
    Batches,
    ContextMLP,
    Dropout,
    Embedding,
    Linear,
    Module,
    Parameter,
    binary_cross_entropy_with_logits,
    cross_entropy,
    evaluate,
    huber_loss,
    l1_loss,
    mse_loss,
    train,
)
from utils import Tensor

nan = math.nan
binary = binary_cross_entropy_with_logits
floats = lambda *shape: Tensor(np.zeros(shape, np.float32))


def refused(message, error=ValueError):
    return pytest.raises(error, match=message)


# Layers


@pytest.mark.parametrize("shape", [(3,), (2, 5), (4, 2), (2, 4, 3), (0, 3), ()])
def test_the_wrong_number_of_features(shape):
    text = str(shape).replace("(", r"\(").replace(")", r"\)")
    with refused(rf"Linear\(in_features=4.*needs 4 features .* not {text}"):
        Linear(4, 2)(floats(*shape))


@pytest.mark.parametrize("ids", [[0, 5], [-1], [[2, 300]], np.array([2**40])])
def test_ids_that_are_not_in_the_table(ids):
    worst = int(np.ravel(ids)[-1])
    with refused(rf"Embedding\(5, 2\) has ids from 0 to 4, not {worst}"):
        Embedding(5, 2)(ids)


@pytest.mark.parametrize("ids, kind", [([0.5], "float"), ([nan], "float"), ([True], "bool")])
def test_ids_that_are_no_whole_numbers(ids, kind):
    with refused(f"whole numbers, not {kind}"):
        Embedding(5, 2)(np.array(ids))
    with refused("whole numbers, not float32"):
        ContextMLP(5)(floats(2, 3))


def test_a_context_of_another_length():
    with refused(r"12 features .* not \(7, 8\)"):
        ContextMLP(5, context=3, embedding_dim=4)(np.zeros((7, 2), int))


@pytest.mark.parametrize("p", [-0.1, 1.5, nan])
def test_a_share_that_is_none(p):
    with refused(f"from 0 to 1, not {p}"):
        Dropout(p)
    with refused(f"{p}"):
        MLP([2, 3, 2], dropout=p)


@pytest.mark.parametrize("padding", [-1, 5])
def test_padding_that_is_no_id(padding):
    with refused(f"padding_idx={padding}"):
        Embedding(5, 2, padding_idx=padding)


@pytest.mark.parametrize("sizes", [(-1, 2), (2, -3)])
def test_layers_of_less_than_nothing(sizes):
    for layer in (Linear, Embedding):
        with refused(str(min(sizes))):
            layer(*sizes)


@pytest.mark.parametrize("sizes", [[], [3], [3, 0, 2], [3, -1], [3, nan]])
def test_sizes_that_make_no_network(sizes):
    with pytest.raises(ValueError) as caught:
        MLP(sizes)
    assert str(sizes) in str(caught.value)


# Parameters


@pytest.mark.parametrize("data", [np.arange(3), np.array([True]), Tensor(np.arange(3))])
def test_parameters_are_floats(data):
    for requires_grad in (True, False):
        with refused(f"float.* not {data.dtype}", TypeError):
            Parameter(data, requires_grad)


def test_casting_to_integers():
    with refused("floats, not int32", TypeError):
        Linear(2, 2).astype(np.int32)


def test_an_optimiser_does_not_take_integers():
    with refused("floating Tensors, not int64 ones", TypeError):
        SGD([Tensor(np.arange(3))])
    with refused("floating Tensors, not ndarray", TypeError):
        Adam([np.zeros(3)])
    with refused("params"):
        SGD([{"lr": 0.1}])


@pytest.mark.parametrize("lr", [-1e-3, nan, math.inf])
def test_learning_rates(lr):
    for kind in (SGD, Adam):
        with refused(f"lr must be a finite number .* not {lr}"):
            kind(Linear(2, 2).parameters(), lr)


def test_keys_of_another_model():
    with refused("missing: 3.weight, 3.bias; unexpected: 2.weight, 2.bias"):
        state = MLP([4, 4]).state_dict()
        state.update({"2.weight": np.zeros((2, 4)), "2.bias": np.zeros(2)})
        MLP([4, 4, 2]).load_state_dict(state)


# Losses


@pytest.mark.parametrize(
    "shape, targets, message",
    [
        ((2, 3), [0], r"\(2, 3\) need targets of shape \(2,\), not \(1,\)"),
        ((2, 3), [[0], [1]], r"not \(2, 1\)"),
        ((2, 3), 1, r"not \(\)"),
        ((3,), [0], r"\(3,\) need targets of shape \(\)"),
        ((), [], r"logits of shape \(\)"),
        ((2, 3), [0, 3], "0 to 2 .*, not 3"),
        ((2, 3), [-1, 0], "0 to 2 .*, not -1"),
        ((2, 3), [-100, 7], "not 7"),
        ((2, 3), [0.0, 1.0], "whole numbers, not float64"),
        ((2, 3), [True, False], "whole numbers, not bool"),
        ((0, 3), np.zeros(0, int), "no targets"),
        ((2, 3), [-100, -100], "no targets"),
    ],
)
def test_targets_of_cross_entropy(shape, targets, message):
    with refused(message):
        cross_entropy(floats(*shape), np.array(targets))


@pytest.mark.parametrize("weight", [[1, 1], [[1, 1, 1]], [1, -1, 1], [1, nan, 1], 1.0])
def test_class_weights(weight):
    with refused("weight must be 3 numbers from 0 up"):
        cross_entropy(floats(2, 3), [0, 1], weight=weight)


def test_weights_of_zero_have_no_mean():
    with refused("no targets"):
        cross_entropy(floats(2, 3), [0, 1], weight=[0, 0, 1])


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, nan])
def test_label_smoothing(smoothing):
    with refused(f"from 0 to 1, not {smoothing}"):
        cross_entropy(floats(2, 3), [0, 1], label_smoothing=smoothing)


@pytest.mark.parametrize("loss", [mse_loss, l1_loss, huber_loss, binary])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 4), (), (4, 1, 1)])
def test_targets_that_would_broadcast(loss, shape):
    text = str(shape).replace("(", r"\(").replace(")", r"\)")
    for targets in (np.zeros(shape), floats(*shape)):
        with refused(rf"{loss.__name__}: predictions of shape \(4, 1\) and .* {text}"):
            loss(floats(4, 1), targets)


@pytest.mark.parametrize("loss", [mse_loss, l1_loss, huber_loss, binary])
def test_the_mean_of_nothing(loss):
    with refused(r"\(0, 3\)"):
        loss(floats(0, 3), np.zeros((0, 3)))


@pytest.mark.parametrize("loss", [mse_loss, l1_loss, huber_loss])
def test_whole_numbers_do_not_cut_off_the_targets(loss):
    predictions = Tensor(np.array([1, 2]))
    try:
        found = loss(predictions, [0.5, 1.5], reduction="none").tolist()
    except (TypeError, ValueError):
        return
    expected = {mse_loss: 0.25, l1_loss: 0.5, huber_loss: 0.125}[loss]
    assert found == [expected] * 2, "the targets became integers, in silence"


@pytest.mark.parametrize("loss", [mse_loss, l1_loss, huber_loss, binary, cross_entropy])
def test_unknown_reductions(loss):
    targets = [0] if loss is cross_entropy else [[0, 0]]
    with refused("'average'"):
        loss(floats(1, 2), targets, reduction="average")


@pytest.mark.parametrize("delta", [0.0, -1.0, nan, math.inf])
def test_deltas(delta):
    with refused(f"delta must be a number above 0, not {delta}"):
        huber_loss(floats(2), [0, 0], delta=delta)


@pytest.mark.parametrize("target", [-0.5, 2, nan])
def test_answers_between_yes_and_no(target):
    with refused("targets are from 0 to 1"):
        binary(floats(2), [0, target])


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_weights_that_would_broadcast_the_loss(name):
    with refused(r"\(3, 1\)"):
        binary(floats(3), np.ones(3), **{name: np.ones((3, 1))})


# Running


class Nothing(Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize("size", [0, -1, nan, 2.5])
def test_batches_of_no_size(size):
    with refused(f"{size}"):
        Batches(np.zeros((5, 2)), batch_size=size)


def test_data_without_rows():
    with refused(r"\(0, 3\) and \(0,\)"):
        Batches(np.zeros((0, 3)), np.zeros(0))
    with refused(r"\(\)"):
        Batches(np.array(3.0))
    with refused("no inputs"):
        evaluate(Nothing(), [], [])


def training(steps=3, **options):
    model = Linear(2, 2)
    batches = Batches(np.zeros((4, 2), np.float32), np.zeros(4, int), batch_size=2)
    return train(model, SGD(model.parameters(), 0.1), batches, steps, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint_every": 0},
        {"evaluate_every": -1},
        {"steps": -1},
        {"steps": nan},
    ],
    ids=str,
)
def test_training_every_so_many_steps(options):
    ((name, value),) = options.items()
    with refused(f"{name}.*{value}"):
        training(evaluate=lambda model: {"loss": 0.0}, **options)


def test_training_on_too_few_batches_says_so():
    model = Linear(2, 2)
    batches = [(np.zeros((4, 2), np.float32), np.zeros(4, int))]
    with refused("batches"):
        train(model, SGD(model.parameters(), 0.1), batches, 2)


def test_the_best_of_no_evaluations():
    with refused("evaluate"):
        training(keep_best=True)


def test_labels_outside_the_classes_stop_training():
    model = Linear(2, 2)
    batches = Batches(np.zeros((4, 2), np.float32), np.array([0, 1, 2, 9]), batch_size=4)
    with refused("0 to 1 .*not"):
        train(model, SGD(model.parameters(), 0.1), batches, 1)
