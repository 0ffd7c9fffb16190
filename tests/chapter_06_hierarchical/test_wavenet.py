"""The tree of pairs and WaveNet: joined by hand, blind to what comes later, of exact reach."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import sigmoid
from chapter_06_hierarchical import (
    CausalConv1d,
    FlattenConsecutive,
    GatedBlock,
    HierarchicalNet,
    WaveNet,
)
from utils import Tensor, check_gradients, grad

IDS = np.array([[3, 1, 4, 1, 0, 2, 2, 4], [0, 0, 2, 3, 4, 1, 0, 3]])


def wavenet(dilations=(1, 2, 4), **options):
    return WaveNet(5, 4, dilations, rng=np.random.default_rng(2), **options)


# Neighbours, joined


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_flatten_consecutive_is_a_reshape(n, rng):
    x = rng.normal(size=(2, 6, 4))
    y = FlattenConsecutive(n)(Tensor(x))
    assert y.shape == (2, 6 // n, 4 * n)
    for place in range(6 // n):
        neighbours = [x[:, place * n + i] for i in range(n)]
        assert np.array_equal(y.data[:, place], np.concatenate(neighbours, axis=1))


def test_flatten_consecutive_by_hand():
    x = Tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]])
    assert FlattenConsecutive(2)(x).tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]]]
    assert repr(FlattenConsecutive(2)) == "FlattenConsecutive(2)"
    check_gradients(FlattenConsecutive(2), [x.data])


def test_neighbours_that_cannot_be_joined():
    with pytest.raises(ValueError, match=r"FlattenConsecutive\(2\) joins 2 by 2, which 5 are not"):
        FlattenConsecutive(2)(Tensor(np.ones((1, 5, 3))))
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        FlattenConsecutive(2)(Tensor(np.ones((4, 3))))


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_groups_of_no_size(n):
    with pytest.raises(ValueError, match=str(n)):
        FlattenConsecutive(n)(Tensor(np.ones((1, 4, 3))))


# The tree of pairs


def test_a_tree_by_hand(rng):
    """Level by level: join pairs, mix, normalise each unit over all places and rows, tanh."""
    network = HierarchicalNet(5, context=4, embedding_dim=2, hidden=3, rng=rng).astype(np.float64)
    x = network.embedding.weight.data[IDS[:, :4]]
    for linear in network.linears:
        x = x.reshape(2, x.shape[1] // 2, -1) @ linear.weight.data.T
        assert linear.bias is None, "the norm's shift makes a bias needless"
        x = (x - x.mean(axis=(0, 1))) / np.sqrt(x.var(axis=(0, 1)) + 1e-5)
        x = np.tanh(x)
    expected = x[:, 0] @ network.head.weight.data.T + network.head.bias.data
    np.testing.assert_allclose(network(IDS[:, :4]).data, expected, atol=1e-10)


@pytest.mark.parametrize("context", [2, 4, 8, 16])
def test_a_tree_has_a_level_for_every_doubling(context, rng):
    network = HierarchicalNet(7, context, embedding_dim=3, hidden=4, rng=rng)
    assert 2 ** len(network.linears) == context
    assert network(np.zeros((3, context), int)).shape == (3, 7)


def test_gradients_of_a_tree(rng, check_network):
    network = HierarchicalNet(5, context=4, embedding_dim=2, hidden=3, rng=rng)
    check_network(network, rng.integers(5, size=(4, 4)))


@pytest.mark.parametrize("context", [0, 1, 3, 6, -8])
def test_a_context_that_is_no_tree(context):
    with pytest.raises(ValueError, match=f"2, 4, 8, ... leaves, not {context}"):
        HierarchicalNet(5, context=context)


@pytest.mark.parametrize("length", [4, 7, 16])
def test_a_tree_refuses_more_or_fewer_tokens_than_it_has_leaves(length):
    """Of sixteen it must not read the first eight and drop the last in silence."""
    network = HierarchicalNet(5, context=8, embedding_dim=2, hidden=3)
    with pytest.raises(ValueError, match="8"):
        network(np.zeros((2, length), int))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 9])
def test_the_next_token_after_the_last_four(length, rng):
    network = HierarchicalNet(5, context=4, embedding_dim=2, hidden=3, rng=rng)
    ids = rng.integers(5, size=length).tolist()
    found = network.next_logits(ids, boundary=1)
    window = ([1, 1, 1, 1, *ids])[-4:]
    assert found.shape == (5,) and network.training, "the mode is what it was"
    np.testing.assert_allclose(found, network.eval()(np.array([window])).data[0], rtol=1e-6)


# Layers that see no later token


@pytest.mark.parametrize("kernel, dilation", [(1, 1), (2, 1), (2, 4), (3, 2), (3, 5)])
def test_causal_convolution_looks_back_in_steps_of_its_dilation(kernel, dilation, rng):
    layer = CausalConv1d(3, 2, kernel, dilation, rng=rng).astype(np.float64)
    x = rng.normal(size=(2, 3, 9))
    expected = np.zeros((2, 2, 9)) + layer.bias.data[:, None]
    for t in range(9):
        for back in range(kernel):
            if t - back * dilation >= 0:
                seen = x[:, :, t - back * dilation]
                expected[:, :, t] += seen @ layer.weight.data[:, :, kernel - 1 - back].T
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, atol=1e-12)


def test_causal_convolution_refuses_other_channels():
    with pytest.raises(ValueError, match=r"CausalConv1d\(3, 2, .* takes \(B, 3, L\), not \(1, 2"):
        CausalConv1d(3, 2, 2)(Tensor(np.ones((1, 2, 5))))


def test_a_gated_block_by_hand(rng):
    block, x = GatedBlock(2, 3, rng=rng).astype(np.float64), rng.normal(size=(2, 2, 5))
    seen = block.seen(Tensor(x)).data
    y = np.tanh(seen[:, :2]) * sigmoid(seen[:, 2:])
    mixed = block.mix(Tensor(y)).data
    after, skip = block(Tensor(x))
    np.testing.assert_allclose(after.data, x + mixed[:, :2], atol=1e-12)
    np.testing.assert_allclose(skip.data, mixed[:, 2:], atol=1e-12)


def test_a_gate_that_is_shut_lets_nothing_through(rng):
    block, x = GatedBlock(2, 1, rng=rng).eval(), rng.normal(size=(1, 2, 4)).astype(np.float32)
    block.seen.weight.data[2:], block.seen.bias.data[2:] = 0, -100
    after, skip = block(Tensor(x))
    bias = block.mix.bias.data[:, None]
    np.testing.assert_allclose(after.data, x + bias[:2], atol=1e-6)
    np.testing.assert_allclose(skip.data[0], np.repeat(bias[2:], 4, axis=1), atol=1e-6)


def test_gradients_of_a_gated_block(rng, check_network):
    both = lambda block, x: np.concatenate(block(x), axis=1)
    check_network(GatedBlock(2, 2, rng=rng), rng.normal(size=(2, 2, 5)), forward=both)


# WaveNet


def test_gradients_of_wavenet(check_network):
    check_network(wavenet((1, 2)), IDS)


@pytest.mark.parametrize("place", range(8))
def test_a_later_token_changes_no_earlier_logits(place):
    network, changed = wavenet(), IDS.copy()
    changed[:, place] = (changed[:, place] + 1) % 5
    y, z = network(IDS).data, network(changed).data
    assert y.shape == (2, 8, 5)
    assert np.array_equal(y[:, :place], z[:, :place]), f"token {place} is seen before its time"
    assert (y[:, place] != z[:, place]).any(), f"token {place} is not seen at its own place"


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (1, 2, 4), (1, 2, 1, 2), (2, 1)], ids=str)
def test_the_receptive_field_is_the_sum_of_the_dilations_and_one(dilations, rng):
    network, reach = wavenet(dilations).astype(np.float64), sum(dilations) + 1
    vectors = []
    with network.embedding.register_forward_hook(lambda m, args, y: vectors.append(y)):
        logits = network(rng.integers(5, size=(1, reach + 4)))
    # A relu may be off for all that one token says: ask every logit, and their squares.
    (gradient,) = grad((logits[0, -1] * logits[0, -1]).sum(), vectors)
    seen = np.abs(gradient.data[0]).sum(axis=1) > 0
    assert seen.tolist() == [False] * 4 + [True] * reach


def test_moved_in_time_it_says_the_same():
    """Where the whole field lies within both, only what is in it counts, and not where it is."""
    network, ids = wavenet((1, 2)), np.arange(12)[None] % 5
    y, z = network(ids).data, network(ids[:, 5:]).data
    np.testing.assert_allclose(y[:, 5 + 3 :], z[:, 3:], atol=1e-6)


def test_wavenet_by_its_blocks(rng):
    """All that the blocks say besides x is added up, and two relus lead to the logits."""
    network = wavenet()
    x, said = np.swapaxes(network.embedding.weight.data[IDS], 1, 2), 0
    for block in network.blocks:
        x, skip = (y.data for y in block(Tensor(x)))
        said = said + skip
    hidden = np.maximum(said.swapaxes(1, 2), 0) @ network.hidden.weight.data.T
    hidden = np.maximum(hidden + network.hidden.bias.data, 0)
    expected = hidden @ network.head.weight.data.T + network.head.bias.data
    np.testing.assert_allclose(network(IDS).data, expected, atol=1e-6)


def test_dropout_of_wavenet_is_in_training_only():
    network = wavenet(dropout=0.5)
    assert not np.array_equal(network(IDS).data, network(IDS).data)
    network.eval()
    np.testing.assert_array_equal(network(IDS).data, network(IDS).data)
    assert np.array_equal(network(IDS).data, wavenet()(IDS).data)


@pytest.mark.parametrize("ids", [[], [3], [1, 2, 0, 4, 4, 1]], ids=str)
def test_the_next_token_is_the_last_of_all(ids):
    network = wavenet(dropout=0.5)
    found = network.next_logits(ids, boundary=2)
    assert found.shape == (5,) and network.training, "the mode is what it was"
    assert np.array_equal(found, network.eval()(np.array([[2, *ids]])).data[0, -1])


@pytest.mark.parametrize("dilations", [(), (1, 0), (1, -2)], ids=str)
def test_a_wavenet_that_looks_nowhere(dilations):
    with pytest.raises(ValueError, match="dilation"):
        WaveNet(5, 4, dilations)
