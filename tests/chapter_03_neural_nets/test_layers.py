"""Layers: what they compute, how they begin, and Dropout's two promises."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import (
    MLP,
    ContextMLP,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    Linear,
    Sequential,
    Tanh,
)
from utils import Tensor, check_gradients, manual_seed


def test_linear_by_hand():
    layer = Linear(2, 3)
    layer.weight.data[...] = [[1, 2], [3, 4], [5, 6]]
    layer.bias.data[...] = [10, 20, 30]
    assert layer.weight.shape == (3, 2), "PyTorch's order: (out_features, in_features)"
    assert layer(Tensor([[1.0, -1.0]])).tolist() == [[9, 19, 29]]


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 4), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_acts_on_the_last_axis(shape, bias, rng):
    layer, x = Linear(4, 3, bias=bias), rng.normal(size=shape).astype(np.float32)
    expected = np.einsum("...i,oi->...o", x, layer.weight.data)
    expected = expected + layer.bias.data if bias else expected
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
def test_linear_gradients(shape, rng):
    layer = Linear(4, 3).astype(np.float64)

    def forward(x, weight, bias):
        layer.weight = layer.bias = None  # a Parameter does not make way for a Tensor
        layer.weight, layer.bias = weight, bias
        return layer(x) * layer(x)

    check_gradients(forward, [rng.normal(size=shape), rng.normal(size=(3, 4)), rng.normal(size=3)])


def test_linear_begins_within_its_bound():
    layer = Linear(400, 300)
    for p in layer.parameters():
        assert np.abs(p.data).max() <= 1 / 20
        assert p.data.std() == pytest.approx(1 / 20 / np.sqrt(3), rel=0.1), "uniform, not normal"


@pytest.mark.parametrize("make", [lambda rng: Linear(3, 4, rng=rng), lambda rng: Embedding(3, 4)])
def test_the_same_seed_begins_alike(make):
    states = []
    for seed in (1, 1, 2):
        manual_seed(seed)
        states.append(make(None).weight.data)
    assert np.array_equal(states[0], states[1]) and not np.array_equal(states[0], states[2])


def test_embedding_looks_up_rows():
    table = Embedding(5, 2)
    ids = np.array([[4, 0, 4]])
    y = table(ids)
    np.testing.assert_array_equal(y.data, table.weight.data[[[4, 0, 4]]])
    y.backward(np.array([[[1, 2], [3, 4], [10, 20]]], np.float32))
    expected = np.zeros((5, 2))
    expected[4], expected[0] = [11, 22], [3, 4]
    np.testing.assert_array_equal(table.weight.grad, expected, "equal ids add their gradients")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_embedding_takes_any_integers(dtype):
    table = Embedding(5, 2)
    for ids in (np.array(3, dtype), np.zeros((0, 2), dtype), np.ones((2, 2), dtype)):
        assert table(ids).shape == (*ids.shape, 2)
    assert table([1, 2]).shape == (2, 2) and table(Tensor(np.array([1], dtype))).shape == (1, 2)


def test_padding_begins_as_zeros_and_stays():
    table = Embedding(4, 2, padding_idx=1)
    assert table.weight.data[1].tolist() == [0, 0] and np.all(table.weight.data[[0, 2, 3]] != 0)
    table.weight.data[1] = 7
    y = table([1, 2, 1])
    np.testing.assert_array_equal(y.data[[0, 2]], 7)
    y.backward(np.ones((3, 2), np.float32))
    assert table.weight.grad.tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_drops_the_share_and_keeps_the_mean(p, dtype, rng):
    x = Tensor(np.ones((200, 500), dtype), requires_grad=True)
    y = Dropout(p, rng=rng)(x)
    kept = y.data != 0
    assert y.dtype == dtype
    assert kept.mean() == pytest.approx(1 - p, abs=0.01)
    np.testing.assert_allclose(y.data[kept], 1 / (1 - p), rtol=1e-6)
    assert y.data.mean() == pytest.approx(1, abs=0.03), "divide what is kept by 1 - p"
    y.backward(np.ones_like(y.data))
    np.testing.assert_array_equal(x.grad, y.data, "the gradient goes where the signal went")


def test_dropout_does_nothing_where_it_should_not():
    x = Tensor(np.ones(100, np.float32))
    assert Dropout(0.0)(x) is x and Dropout(0.9).eval()(x) is x
    assert np.all(Dropout(1.0)(x).data == 0), "p = 1 drops everything, without a NaN"


def test_dropout_draws_anew_each_time_and_alike_from_a_seed():
    x = Tensor(np.ones(100, np.float32))
    layer = Dropout(0.5, rng=np.random.default_rng(3))
    first, second = layer(x).data, layer(x).data
    assert not np.array_equal(first, second), "each call has its own mask"
    again = Dropout(0.5, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(again(x).data, first)
    manual_seed(5)
    default = Dropout(0.5)(x).data
    manual_seed(5)
    np.testing.assert_array_equal(Dropout(0.5)(x).data, default)


@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 6), (0, 2, 3), (5, 0), (5,)])
def test_flatten_keeps_the_batch(shape):
    x = Tensor(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    y = Flatten()(x)
    assert y.shape == (shape[0], int(np.prod(shape[1:])))
    np.testing.assert_array_equal(y.data.ravel(), x.data.ravel())


def test_identity_returns_its_argument():
    x = Tensor([1.0])
    assert Identity()(x) is x


def test_an_mlp_is_linear_layers_with_bends_between():
    model = MLP([6, 5, 4, 3], activation=Tanh, dropout=0.5)
    kinds = "Flatten Linear Tanh Dropout Linear Tanh Dropout Linear"
    assert " ".join(type(layer).__name__ for layer in model) == kinds
    x = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    hidden = x.reshape(7, 6)
    for linear in (model[1], model[4]):
        hidden = np.tanh(hidden @ linear.weight.data.T + linear.bias.data)
    expected = hidden @ model[7].weight.data.T + model[7].bias.data
    np.testing.assert_allclose(model.eval()(x).data, expected, rtol=1e-5, atol=1e-6)


def test_an_mlp_is_built_from_the_parts_it_is_given():
    made = []

    def linear(*sizes, rng):
        made.append(sizes)
        return Linear(*sizes, rng=rng)

    model = MLP([4, 3, 2], linear=linear, normalization=lambda n: Sequential(Linear(n, n)))
    assert made == [(4, 3), (3, 2)]
    kinds = "Flatten Linear Sequential ReLU Linear"
    assert " ".join(type(layer).__name__ for layer in model) == kinds


def test_a_context_mlp_reads_its_tokens_in_order(rng):
    model = ContextMLP(5, context=2, embedding_dim=3, hidden=(4,), rng=rng)
    ids = rng.integers(5, size=(7, 2))
    vectors = model.embedding.weight.data
    x = np.concatenate([vectors[ids[:, 0]], vectors[ids[:, 1]]], axis=1)
    np.testing.assert_array_equal(model(ids).data, model.mlp(Tensor(x)).data)


@pytest.mark.parametrize(
    "ids, window", [([], [0, 0]), ([3], [0, 3]), ([1, 2], [1, 2]), ([4, 1, 2, 3], [2, 3])]
)
def test_the_next_token_is_told_from_the_last_ones(ids, window):
    model = ContextMLP(5, context=2, embedding_dim=3, hidden=(4,), dropout=0.5)
    found = model.next_logits(ids)
    assert isinstance(found, np.ndarray) and found.shape == (5,)
    assert model.training, "the model is left in the mode it was in"
    np.testing.assert_array_equal(found, model.eval()(np.array([window])).data[0])
