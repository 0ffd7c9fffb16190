"""What decisions hang on: gradients by the input, against central differences."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import Dropout, Linear, Sequential, Tanh
from chapter_04_training_dynamics import BatchNorm1d
from chapter_06_hierarchical import LeNet5, RecurrentModel, WaveNet, saliency, token_influence
from utils import no_grad


@pytest.fixture
def model(rng):
    layers = [Linear(4, 6, rng=rng), BatchNorm1d(6), Tanh(), Dropout(0.5), Linear(6, 3, rng=rng)]
    return Sequential(*layers).astype(np.float64)


def test_of_a_linear_model_it_is_the_row_of_the_class(rng):
    layer, x = Linear(4, 3, rng=rng), rng.normal(size=(3, 4)).astype(np.float32)
    found = saliency(layer, x, [2, 0, 2])
    assert np.array_equal(found, layer.weight.data[[2, 0, 2]]) and found.dtype == np.float32


def test_it_is_the_difference_that_a_pixel_makes(model, rng):
    x, classes, step = rng.normal(size=(3, 4)), np.array([1, 0, 2]), 1e-5
    found = saliency(model, x, classes)
    model.eval()
    for i, j in np.ndindex(3, 4):
        up, down = x.copy(), x.copy()
        up[i, j], down[i, j] = x[i, j] + step, x[i, j] - step
        change = (model(up).data - model(down).data)[i, classes[i]] / (2 * step)
        assert abs(found[i, j] - change) < 1e-8


def test_pictures_without_a_channel_keep_their_shape(rng):
    x = rng.normal(size=(2, 28, 28)).astype(np.float32)
    found = saliency(LeNet5(rng=rng), x, [3, 7])
    assert found.shape == (2, 28, 28) and found.any(axis=(1, 2)).all()


def test_the_model_is_left_as_it_was(model, rng):
    x = rng.normal(size=(5, 4))
    model(x).sum().backward()
    model[3].eval()
    gradients = [p.grad.copy() for p in model.parameters()]
    state = {k: v.copy() for k, v in model.state_dict().items()}
    first = saliency(model, x, np.zeros(5, int))
    assert np.array_equal(first, saliency(model, x, np.zeros(5, int))), "no dropout"
    assert [m.training for m in model] == [True, True, True, False, True]
    assert all(np.array_equal(p.grad, g) for p, g in zip(model.parameters(), gradients))
    assert all(np.array_equal(v, state[k]) for k, v in model.state_dict().items())


def test_a_model_whose_parameters_are_frozen_still_has_a_saliency(rng):
    layer = Linear(4, 3, rng=rng)
    for p in layer.parameters():
        p.requires_grad = False
    assert np.array_equal(
        saliency(layer, np.ones((1, 4), np.float32), [1])[0], layer.weight.data[1]
    )


def test_classes_that_there_are_not(model, rng):
    for wrong in (3, -1):
        with pytest.raises((ValueError, IndexError)):
            saliency(model, rng.normal(size=(1, 4)), [wrong])
    with pytest.raises((ValueError, IndexError)):
        saliency(model, rng.normal(size=(3, 4)), [0, 1])


def test_pixels_of_whole_numbers_have_no_gradient(model):
    with pytest.raises(TypeError, match="int64"):
        saliency(model, np.zeros((1, 4), np.int64), [0])


# Tokens

IDS = [0, 3, 1, 4, 2, 0]


@pytest.mark.parametrize("make", [WaveNet, RecurrentModel])
def test_the_influence_of_tokens_by_differences(make, rng):
    """The length of a gradient is the most that a step in any direction changes."""
    network = make(5, 3, rng=rng).astype(np.float64)
    found, step, table = token_influence(network, IDS), 1e-6, network.embedding.weight.data
    lengths = np.zeros((5, 5))
    for seen in range(5):
        for i in range(3):
            logits = []
            for sign in (1, -1):

                def moved(module, args, output, seen=seen, i=i, sign=sign):
                    nudge = np.zeros(output.shape)
                    nudge[0, seen, i] = sign * step
                    return output + nudge

                with no_grad(), network.embedding.register_forward_hook(moved):
                    logits.append(network(np.array([IDS[:-1]])).data[0])
            change = (logits[0] - logits[1]) / (2 * step)
            lengths[:, seen] += change[np.arange(5), IDS[1:]] ** 2
    assert table.shape == (5, 3)
    np.testing.assert_allclose(found, lengths**0.5, atol=1e-7)


@pytest.mark.parametrize("make", [WaveNet, RecurrentModel])
def test_of_a_causal_model_nothing_later_counts(make, rng):
    network = make(5, 8, rng=rng)
    found = token_influence(network, IDS)
    assert found.shape == (5, 5)
    assert not np.triu(found, 1).any() and (np.diag(found) > 0).all()


def test_wavenet_hangs_on_no_token_before_its_field(rng):
    found = token_influence(WaveNet(5, 8, (1, 2), rng=rng), [*IDS, *IDS])
    assert not np.tril(found, -4).any()


def test_the_network_is_left_as_it_was(rng):
    network = RecurrentModel(5, 4, dropout=0.5, rng=rng)
    first = token_influence(network, IDS)
    assert np.array_equal(first, token_influence(network, IDS)), "no dropout"
    assert network.training and all(p.grad is None for p in network.parameters())
    before = network.eval()(np.array([IDS])).data
    calls = []
    with network.embedding.register_forward_hook(lambda *args: calls.append(args)):
        assert np.array_equal(network(np.array([IDS])).data, before)
    assert len(calls) == 1


@pytest.mark.parametrize("ids", [[], [0]], ids=str)
def test_of_one_token_nothing_is_predicted(ids):
    with pytest.raises(ValueError, match="token"):
        token_influence(WaveNet(5, 4), ids)
