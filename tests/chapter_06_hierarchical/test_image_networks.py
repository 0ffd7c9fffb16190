"""LeNet-5, the residual network and the separable one: sizes, gradients, what each promises."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import Tanh, count_parameters, evaluating
from chapter_04_training_dynamics import Residual
from chapter_06_hierarchical import (
    Conv2d,
    DepthwiseSeparable,
    LeNet5,
    ResidualBlock,
    ResNet,
    SeparableNet,
    convolution,
)
from utils import Tensor

NETWORKS = [LeNet5, ResNet, SeparableNet]
SMALL = {
    LeNet5: lambda rng: LeNet5(3, Tanh, rng),
    ResNet: lambda rng: ResNet(3, (3, 4), blocks=1, rng=rng),
    SeparableNet: lambda rng: SeparableNet(3, (3, 3, 4), rng=rng),
}


def pictures(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def awake(network):
    """Blocks begin as their shortcuts: let their convolutions say something."""
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            block.module[-1].weight.data[...] = np.linspace(0.5, 1.5, block.module[-1].weight.size)
    return network


def sizes_through(network, x):
    """The output's shape of every direct part of a chain of layers."""
    shapes = []
    for layer in network:
        x = layer(x)
        shapes.append(x.shape[1:])
    return shapes


# What all of them promise


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_of_pictures_with_and_without_a_channel(kind, rng):
    network, x = kind(7, rng=rng), pictures(rng, 2, 28, 28)
    with evaluating(network):
        y, z = network(x), network(x[:, None])
    assert y.shape == (2, 7) and y.dtype == np.float32
    assert np.array_equal(y.data, z.data), "(B, 28, 28) is (B, 1, 28, 28)"


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients(kind, rng, check_network):
    size = 28 if kind is LeNet5 else 8
    check_network(awake(SMALL[kind](rng)), rng.normal(size=(2, size, size)))


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_parameter_is_used(kind, rng):
    network = awake(kind(rng=rng))
    network(pictures(rng, 3, 28, 28)).backward(rng.normal(size=(3, 10)))
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == [], "parameters without a gradient"


@pytest.mark.parametrize("kind", NETWORKS)
def test_pictures_do_not_see_each_other_in_evaluation(kind, rng):
    network, x = kind(rng=rng), pictures(rng, 3, 28, 28)
    with evaluating(network):
        together, alone = network(x).data, network(x[1:2]).data
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_generator_the_same_network(kind):
    first, second = (kind(rng=np.random.default_rng(4)).state_dict() for _ in range(2))
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("shape", [(28, 28), (2, 3, 28, 28)], ids=str)
def test_what_is_no_grey_picture_is_refused(kind, shape):
    """One picture without a batch, and a picture in colour."""
    with pytest.raises(ValueError, match=r"not \("):
        kind()(np.zeros(shape, np.float32))


# LeNet-5


def test_the_sizes_of_lenet():
    network = LeNet5()
    assert count_parameters(network) == 61_706
    shapes = sizes_through(network.features, Tensor(np.zeros((1, 1, 28, 28), np.float32)))
    assert shapes == [
        (6, 28, 28), (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 10, 10), (16, 5, 5),
    ]  # fmt: skip
    linears = [p.shape for p in network.classifier.parameters() if p.ndim == 2]
    assert linears == [(120, 400), (84, 120), (10, 84)]


def test_lenet_of_other_activations(rng):
    """Of tanh all layers stay within -1 and 1, so the last is bounded by its weights."""
    network = LeNet5(4, Tanh, rng)
    kinds = [type(module).__name__ for module in network.modules()]
    assert kinds.count("Tanh") == 4 and "ReLU" not in kinds
    last = list(network.parameters())[-2:]
    most = np.abs(last[0].data).sum(axis=1) + np.abs(last[1].data)
    assert (np.abs(network(1e4 * pictures(rng, 2, 28, 28)).data) <= most + 1e-5).all()


def test_lenet_of_a_picture_of_another_size_says_what_it_needs():
    with pytest.raises(ValueError, match="400 features"):
        LeNet5()(np.zeros((2, 32, 32), np.float32))


# The residual network


@pytest.mark.parametrize("training", [True, False])
def test_a_block_begins_as_its_shortcut(training, rng):
    block = ResidualBlock(3, 3, rng=rng).train(training)
    x = pictures(rng, 2, 3, 5, 5)
    assert isinstance(block, Residual)
    assert np.array_equal(block(Tensor(x)).data, np.maximum(x, 0))


@pytest.mark.parametrize(("into", "stride"), [(5, 1), (3, 2), (6, 2)])
def test_a_block_that_changes_the_shape_begins_as_a_convolution(into, stride, rng):
    block, x = ResidualBlock(3, into, stride, rng=rng).eval(), Tensor(pictures(rng, 2, 3, 6, 6))
    y, (conv, _) = block(x), block.shortcut
    assert conv.kernel_size == (1, 1) and conv.bias is None
    assert y.shape == (2, into, 6 // stride, 6 // stride)
    seen = np.einsum("bchw,oc->bohw", x.data[:, :, ::stride, ::stride], conv.weight.data[..., 0, 0])
    # The running statistics are 0 and 1 at first.
    np.testing.assert_allclose(y.data, np.maximum(seen, 0) / np.sqrt(1 + 1e-5), atol=1e-5)


def test_a_block_by_hand():
    """Of one pixel a 3 x 3 window sees one cell, so a block is arithmetic."""
    block = ResidualBlock(1, 1).astype(np.float64).eval()
    first, norm, _, second, last = block.module
    first.weight.data[..., 1, 1], second.weight.data[..., 1, 1] = 2, -3
    norm.bias.data[...], last.weight.data[...], last.bias.data[...] = 1, 1, 0.5
    norm.running_var[...] = last.running_var[...] = 1 - norm.eps
    x = np.array([4.0, 30.0, -0.25, -2.0]).reshape(4, 1, 1, 1)
    inner = np.maximum(2 * x + 1, 0)
    expected = np.maximum(x + (-3 * inner + 0.5), 0)
    np.testing.assert_allclose(block(Tensor(x)).data, expected)
    last.weight.data[...] = -1
    expected = np.maximum(x + (3 * inner + 0.5), 0)
    assert expected.any()
    np.testing.assert_allclose(block(Tensor(x)).data, expected)


@pytest.mark.parametrize(("into", "stride"), [(3, 1), (4, 2)])
def test_gradients_of_a_block(into, stride, rng, check_network):
    check_network(awake(ResidualBlock(3, into, stride, rng)), rng.normal(size=(2, 3, 4, 4)))


def test_the_sizes_of_a_residual_network(rng):
    network = ResNet(rng=rng)
    assert 174_000 < count_parameters(network) < 176_000
    x = network.stem(Tensor(pictures(rng, 1, 1, 28, 28)))
    assert sizes_through(network.stages, x) == [(16, 28, 28), (32, 14, 14), (64, 7, 7)]
    assert [len(stage) for stage in network.stages] == [2, 2, 2]
    convolutions = [m for m in network.modules() if isinstance(m, Conv2d)]
    assert len(convolutions) == 1 + 3 * 2 * 2 + 2, "two a block, the stem, two that are shortcuts"


@pytest.mark.parametrize("channels", [(4, 8), (4, 4, 4), (8, 4)], ids=str)
def test_every_stage_but_the_first_halves_the_picture(channels, rng):
    network = ResNet(channels=channels, blocks=2, rng=rng)
    x = network.stem(Tensor(pictures(rng, 1, 1, 16, 16)))
    expected = [(c, 16 >> i, 16 >> i) for i, c in enumerate(channels)]
    assert sizes_through(network.stages, x) == expected


def test_pictures_of_any_size_and_in_colour(rng):
    for kind in (ResNet, SeparableNet):
        network = kind(5, (4, 8), in_channels=3, rng=rng)
        assert network(pictures(rng, 2, 3, 19, 32)).shape == (2, 5)


@pytest.mark.parametrize("options", [{"blocks": 0}, {"channels": ()}], ids=str)
def test_a_residual_network_of_nothing_is_refused(options):
    """Without blocks nothing is residual; without channels there is nothing to add."""
    with pytest.raises(ValueError, match=next(iter(options))):
        ResNet(**options)


# The separable network


@pytest.mark.parametrize("stride", [1, 2])
def test_separable_is_a_convolution_whose_weight_is_a_product(stride, rng):
    layer = DepthwiseSeparable(3, 5, stride, rng).eval()
    where, _, _, what, *_ = layer
    assert where.weight.shape == (3, 1, 3, 3) and what.weight.shape == (5, 3, 1, 1)
    where.weight.data[...] = np.abs(where.weight.data)  # so that the relu between does nothing
    x = np.abs(pictures(rng, 2, 3, 7, 7))
    weight = what.weight.data * where.weight.data[:, 0]  # (O, C, 3, 3)
    whole = convolution(x, weight, stride=stride, padding=1) / (1 + 1e-5)  # of two batch norms
    np.testing.assert_allclose(layer(Tensor(x)).data, np.maximum(whole, 0), atol=1e-5)


def test_gradients_of_a_separable_layer(rng, check_network):
    check_network(DepthwiseSeparable(2, 3, 2, rng), rng.normal(size=(2, 2, 5, 5)))


def test_apart_it_takes_a_ninth_of_the_weights():
    def weights(module):
        return sum(p.size for p in module.parameters() if p.ndim == 4)

    assert weights(DepthwiseSeparable(64, 128)) == 9 * 64 + 64 * 128
    assert weights(Conv2d(64, 128, 3)) / weights(DepthwiseSeparable(64, 128)) > 8


def test_the_picture_is_halved_where_the_channels_grow(rng):
    network = SeparableNet(channels=(4, 8, 8, 16), rng=rng)
    shapes = sizes_through(network.features, Tensor(pictures(rng, 1, 1, 28, 28)))
    assert shapes[-3:] == [(8, 14, 14), (8, 14, 14), (16, 7, 7)] and shapes[0] == (4, 28, 28)
