"""Containers: modules in a row and modules in a list, read like Python's own sequences."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import MLP, Identity, Linear, ModuleList, ReLU, Sequential, Tanh
from utils import Tensor


def test_sequential_calls_one_after_the_other():
    first, second = Linear(1, 1), Linear(1, 1)
    for layer, weight, bias in [(first, 2.0, 1.0), (second, 10.0, 5.0)]:
        layer.weight.data[...], layer.bias.data[...] = weight, bias
    assert Sequential(first, second)(Tensor([[3.0]])).tolist() == [[75]], "10 (2 x + 1) + 5"
    assert Sequential(second, first)(Tensor([[3.0]])).tolist() == [[71]], "2 (10 x + 5) + 1"


def test_an_empty_sequential_returns_what_it_is_given():
    x = Tensor([1.0])
    assert Sequential()(x) is x and len(Sequential()) == 0


@pytest.mark.parametrize("kind", [Sequential, ModuleList])
def test_indexing_as_in_a_list(kind):
    modules = [ReLU(), Tanh(), Identity()]
    container = kind(modules) if kind is ModuleList else kind(*modules)
    assert len(container) == 3 and list(container) == modules
    assert container[0] is modules[0] and container[-1] is modules[2]
    assert list(container[1:]) == modules[1:] and type(container[1:]) is kind
    assert list(container[::-1]) == modules[::-1] and len(container[3:]) == 0
    with pytest.raises(IndexError):
        container[3]
    assert [name for name, _ in container.named_children()] == ["0", "1", "2"]


def test_append_names_the_newcomer_after_its_place():
    net = Sequential(Linear(2, 3))
    assert net.append(ReLU()).append(Linear(3, 1)) is net
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert net(np.ones((4, 2), np.float32)).shape == (4, 1)


def test_a_module_twice_is_called_twice_and_trained_once():
    layer = Linear(2, 2)
    net = Sequential(layer, layer)
    assert len(net) == 2 and len(list(net.parameters())) == 2
    x = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(net(x).data, layer(layer(x)).data)


@pytest.mark.parametrize("stranger", [np.tanh, None, [ReLU()]])
def test_only_modules_are_held(stranger):
    with pytest.raises(TypeError, match=f"holds modules, not {type(stranger).__name__}"):
        Sequential(ReLU(), stranger)
    with pytest.raises(TypeError, match=f"holds modules, not {type(stranger).__name__}"):
        ModuleList([stranger])


def test_a_list_of_modules_is_not_called_itself():
    with pytest.raises(NotImplementedError, match="ModuleList does not define forward"):
        ModuleList([ReLU()])(Tensor([1.0]))


def test_a_slice_of_a_model_shares_its_layers():
    model = MLP([4, 3, 2], activation=Tanh)
    body = model[:-1]
    assert isinstance(body, Sequential) and list(body) == list(model)[:-1]
    x = np.ones((5, 4), np.float32)
    np.testing.assert_array_equal(model[-1](body(x)).data, model(x).data)
