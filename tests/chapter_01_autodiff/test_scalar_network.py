"""Neuron, Layer, MLP: outputs by hand and by NumPy, gradients by differences, and learning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_01_autodiff.numerical import numerical_gradient
from chapter_01_autodiff.scalar_network import MLP, Layer, Neuron
from utils import Tensor, check_gradients, manual_seed


def numbers(parameters):
    return [p.data for p in parameters]


def numpy_forward(model, x):
    """The network's output out of plain matrices."""
    for layer in model.layers:
        weights = np.array([numbers(neuron.weights) for neuron in layer.neurons])
        biases = np.array([neuron.bias.data for neuron in layer.neurons])
        x = weights @ x + biases
        if layer is not model.layers[-1]:
            x = np.tanh(x)
    return x


@pytest.mark.parametrize("linear", [False, True])
def test_neuron_by_hand(linear):
    neuron = Neuron(2, linear=linear)
    for parameter, value in zip(neuron.parameters(), (0.5, -0.25, 0.1)):
        parameter.data = value
    total = 0.5 * 3 - 0.25 * 2 + 0.1
    assert neuron([3.0, 2.0]).data == pytest.approx(total if linear else math.tanh(total))


def test_neuron_gradients_by_hand():
    neuron = Neuron(2)
    for parameter, value in zip(neuron.parameters(), (0.5, -0.25, 0.1)):
        parameter.data = value
    neuron([3.0, 2.0]).backward()
    slope = 1 - math.tanh(1.1) ** 2
    found = [p.grad for p in neuron.parameters()]
    np.testing.assert_allclose(found, [3 * slope, 2 * slope, slope])


@pytest.mark.parametrize("sizes", [[2, 1], [3, 4, 2], [2, 16, 16, 1]])
def test_network_equals_matrices(sizes, rng):
    model = MLP(sizes, rng=rng)
    for parameter in model.parameters():
        parameter.data += rng.normal()
    x = rng.normal(size=sizes[0])
    found = numbers(model(x.tolist()))
    assert len(found) == sizes[-1]
    np.testing.assert_allclose(
        found, numpy_forward(model, x), rtol=1e-12, err_msg="tanh on all layers except the last"
    )


def test_number_of_parameters():
    model = MLP([2, 16, 16, 1])
    assert len(model.parameters()) == (2 + 1) * 16 + (16 + 1) * 16 + (16 + 1) == 337
    assert len(set(map(id, model.parameters()))) == 337, "no parameter may be listed twice"
    assert len(Layer(3, 5).parameters()) == 20


def test_gradients_equal_differences_and_those_of_arrays(rng):
    model = MLP([2, 3, 2], rng=rng)
    parameters, x = model.parameters(), [0.3, -1.2]

    def loss(values):
        for parameter, value in zip(parameters, values):
            parameter.data = float(value)
        first, second = model(x)
        return first * first + second

    start = np.array(numbers(parameters))
    differences = numerical_gradient(lambda values: loss(values).data, start)
    loss(start).backward()
    found = [p.grad for p in parameters]
    np.testing.assert_allclose(found, differences, atol=1e-8)

    def on_arrays(p):
        rows = [(p[3 * i : 3 * i + 2] * np.array(x)).sum() + p[3 * i + 2] for i in range(3)]
        hidden = np.tanh(np.stack(rows))
        first, second = ((p[i : i + 3] * hidden).sum() + p[i + 3] for i in (9, 13))
        return first * first + second

    check_gradients(on_arrays, [start])
    tensor = Tensor(start, requires_grad=True)
    on_arrays(tensor).backward()
    np.testing.assert_allclose(found, tensor.grad, rtol=1e-12)


def test_weights_begin_so_that_a_sum_has_variance_one():
    weights = numbers(Neuron(4000, rng=np.random.default_rng(0)).weights)
    assert np.mean(weights) == pytest.approx(0, abs=5 * 4000**-0.5 * 4000**-0.5)
    assert np.std(weights) == pytest.approx(4000**-0.5, rel=0.05)
    assert Neuron(3).bias.data == 0


def test_the_same_seed_gives_the_same_network():
    first, second = (MLP([2, 4, 1], rng=np.random.default_rng(3)) for _ in range(2))
    assert numbers(first.parameters()) == numbers(second.parameters())
    manual_seed(3)
    third = MLP([2, 4, 1])
    manual_seed(3)
    assert numbers(third.parameters()) == numbers(MLP([2, 4, 1]).parameters())
    weights = numbers(first.layers[0].neurons[0].weights + first.layers[0].neurons[1].weights)
    assert len(set(weights)) == 4, "neurons that begin alike stay alike: draw each weight anew"


def test_a_few_steps_learn_what_no_line_can():
    model = MLP([2, 8, 1], rng=np.random.default_rng(0))
    xor = [([-1.0, -1.0], -1.0), ([-1.0, 1.0], 1.0), ([1.0, -1.0], 1.0), ([1.0, 1.0], -1.0)]
    losses = []
    for _ in range(60):
        loss = sum((model(x)[0] - y) ** 2 for x, y in xor)
        for p in model.parameters():
            p.grad = 0.0
        loss.backward()
        for p in model.parameters():
            p.data -= 0.05 * p.grad
        losses.append(loss.data)
    assert losses[-1] < 0.1 < losses[0], f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f}"


@pytest.mark.parametrize("sizes", [[], [3], [2, 0, 1], [2, -1]])
def test_sizes_that_make_no_network(sizes):
    with pytest.raises(ValueError, match=r"not \["):
        MLP(sizes)


@pytest.mark.parametrize("x", [[1.0], [1.0, 2.0, 3.0]])
def test_the_wrong_number_of_inputs_is_an_error(x):
    with pytest.raises(ValueError, match=f"2 .*{len(x)}"):
        MLP([2, 3, 1])(x)
