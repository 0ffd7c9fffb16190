"""Residual paths, and the deep network: each switch does what it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import Linear, ReLU, Sequential, Tanh, orthogonal_, zeros_
from chapter_04_training_dynamics import BatchNorm1d, DeepMLP, LayerNorm, Recorder, Residual
from utils import Tensor, check_gradients


def test_residual_by_hand():
    layer = Linear(2, 2, bias=False)
    layer.weight.data[...] = [[1, 1], [0, 2]]
    x = Tensor([[3.0, 5.0]])
    assert Residual(layer)(x).tolist() == [[11.0, 15.0]]
    assert Residual(layer, scale=0.5)(x).tolist() == [[7.0, 10.0]]


def test_residual_lets_the_gradient_past_a_dead_layer():
    layer = Linear(3, 3)
    zeros_(layer.weight), zeros_(layer.bias)
    x = Tensor([[1.0, -2.0, 3.0]], requires_grad=True)
    y = Residual(Sequential(layer, Tanh()))(x)
    assert y.tolist() == x.tolist(), "a layer that says nothing leaves the identity"
    y.backward([[1.0, 2.0, 3.0]])
    assert x.grad.tolist() == [[1.0, 2.0, 3.0]]


def test_residual_gradients(rng):
    layer = Residual(Sequential(Linear(3, 3, rng=rng), Tanh()), scale=0.7).astype(np.float64)
    check_gradients(layer, [rng.normal(size=(2, 3))])


def test_residual_refuses_another_shape():
    with pytest.raises(ValueError, match=r"Linear turned \(4, 3\) into \(4, 1\)"):
        Residual(Linear(3, 1))(Tensor(np.ones((4, 3), np.float32)))


def test_switched_off_it_is_a_plain_mlp(rng):
    net = DeepMLP(6, 3, width=5, depth=4, rng=rng)
    kinds = [type(module).__name__ for module in net.modules()]
    assert kinds.count("Linear") == 5 and kinds.count("Tanh") == 4
    assert "Residual" not in kinds and "BatchNorm1d" not in kinds
    x = rng.normal(size=(2, 6)).astype(np.float32)
    y = x
    *hidden, last = (m for m in net.modules() if isinstance(m, Linear))
    for layer in hidden:
        y = np.tanh(y @ layer.weight.data.T + layer.bias.data)
    y = y @ last.weight.data.T + last.bias.data
    np.testing.assert_allclose(net(Tensor(x)).data, y, atol=1e-6)
    assert net(Tensor(x.reshape(2, 2, 3))).shape == (2, 3), "pictures are flattened"


def test_residual_path_goes_around_each_layer_but_the_first(rng):
    net = DeepMLP(6, 3, width=5, depth=4, residual=True, rng=rng)
    x = rng.normal(size=(2, 6)).astype(np.float32)
    first, *others, last = (m for m in net.modules() if isinstance(m, Linear))
    y = np.tanh(x @ first.weight.data.T + first.bias.data)
    for layer in others:
        y = y + np.tanh(y @ layer.weight.data.T + layer.bias.data)
    np.testing.assert_allclose(
        net(Tensor(x)).data, y @ last.weight.data.T + last.bias.data, atol=1e-5
    )


def test_initialisation_is_of_the_hidden_layers():
    net = DeepMLP(5, 3, width=5, depth=3, initialize=orthogonal_)
    *hidden, last = (m.weight.data for m in net.modules() if isinstance(m, Linear))
    for weight in hidden:
        np.testing.assert_allclose(weight @ weight.T, np.eye(5), atol=1e-5)
    assert np.abs(last @ last.T - np.eye(3)).max() > 0.1


def test_all_first_weights_come_from_the_given_generator():
    make = lambda: DeepMLP(
        5, 3, width=4, depth=3, initialize=orthogonal_, rng=np.random.default_rng(7)
    )
    for one, other in zip(make().parameters(), make().parameters()):
        np.testing.assert_array_equal(one.data, other.data)


def test_parts_are_those_that_are_passed():
    class Other(Linear):
        pass

    net = DeepMLP(4, 2, width=3, depth=2, activation=ReLU, normalization=LayerNorm, linear=Other)
    kinds = [type(module) for module in net.modules()]
    assert kinds.count(Other) == 3 and kinds.count(LayerNorm) == 2 and kinds.count(ReLU) == 2
    assert kinds.index(Other) < kinds.index(LayerNorm) < kinds.index(ReLU)


@pytest.mark.parametrize("depth, width", [(0, 5), (3, 0)])
def test_no_layers_or_units(depth, width):
    with pytest.raises(ValueError, match=f"not {depth} of {width}"):
        DeepMLP(4, 2, width=width, depth=depth)


def signals(rng, **remedy):
    """The standard deviations of signal and gradient in the first and the last of 20 layers."""
    net = DeepMLP(32, 10, width=32, rng=rng, **remedy)
    x = rng.normal(size=(64, 32)).astype(np.float32)
    with Recorder(net) as recorder:
        net(Tensor(x)).backward(rng.normal(size=(64, 10)))
    return recorder["signal"][[0, -1], 0], recorder["gradient"][[0, -1], 0]


def test_without_a_remedy_signal_and_gradient_vanish(rng):
    (first, last), (near, far) = signals(rng)
    assert last < first / 1000 and near < far / 1000


@pytest.mark.parametrize(
    "remedy",
    [{"initialize": orthogonal_}, {"normalization": BatchNorm1d}, {"residual": True}],
    ids=["initialisation", "normalisation", "residual path"],
)
def test_every_remedy_keeps_them(remedy, rng):
    (first, last), (near, far) = signals(rng, **remedy)
    assert first / 10 < last < first * 10, "the signal keeps its scale through 20 layers"
    assert far / 10 < near < far * 20, "and the gradient on its way back"
