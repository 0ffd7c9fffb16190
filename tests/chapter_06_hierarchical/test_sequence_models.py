"""Whole sequences as data, and chains that say at every token what comes next."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import cross_entropy, evaluate
from chapter_03_neural_nets.losses import IGNORED
from chapter_06_hierarchical import GRU, LSTM, RNN, RecurrentModel, padded_sequences, trimmed
from utils import Tensor

IDS = np.array([[3, 1, 4, 1, 0, 2], [0, 0, 2, 3, 4, 1]])


def test_sequences_by_hand():
    inputs, targets = padded_sequences([[5, 6, 7], [8], []])
    assert inputs.tolist() == [[0, 5, 6, 7], [0, 8, 0, 0], [0, 0, 0, 0]]
    assert targets.tolist() == [
        [5, 6, 7, 0],
        [8, 0, IGNORED, IGNORED],
        [0, IGNORED, IGNORED, IGNORED],
    ], "a document's end is predicted, what is behind it is not"
    assert inputs.dtype == targets.dtype == np.int64


def test_another_boundary():
    inputs, targets = padded_sequences(iter([(1, 2), np.array([3])]), boundary=9)
    assert inputs.tolist() == [[9, 1, 2], [9, 3, 9]]
    assert targets.tolist() == [[1, 2, 9], [3, 9, IGNORED]]


def test_every_target_is_the_next_input(rng):
    documents = [rng.integers(1, 9, size=n) for n in rng.integers(0, 12, size=30)]
    inputs, targets = padded_sequences(documents)
    inner = (targets != IGNORED) & (targets != 0)
    assert np.array_equal(targets[:, :-1][inner[:, :-1]], inputs[:, 1:][inner[:, :-1]])
    assert (targets != IGNORED).sum() == sum(map(len, documents)) + len(documents)


def test_no_documents():
    with pytest.raises(ValueError, match="no documents"):
        padded_sequences([])


def test_columns_where_nothing_is_predicted_are_cut_off():
    inputs, targets = padded_sequences([[5, 6, 7], [8], []])
    for rows, length in (([0, 1], 4), ([1, 2], 2), ([2], 1)):
        x, y = trimmed(inputs[rows], targets[rows])
        assert x.tolist() == inputs[rows, :length].tolist()
        assert y.tolist() == targets[rows, :length].tolist()
    x, y = trimmed(inputs, np.full_like(targets, IGNORED))
    assert x.shape == y.shape == (3, 1), "a batch of nothing still is a batch"


def test_a_hole_in_the_targets_stays():
    targets = np.array([[IGNORED, 4, IGNORED, 2, IGNORED]])
    assert trimmed(np.arange(5)[None], targets)[0].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("network", [RNN, GRU, LSTM])
def test_trimming_changes_no_loss(network, rng):
    model = RecurrentModel(9, 4, network=network, rng=rng)
    inputs, targets = padded_sequences([[5, 6], [8], [1, 2, 3, 4, 5]])
    x, y = inputs[:2], targets[:2]
    whole = cross_entropy(model(x), y).item()
    x, y = trimmed(x, y)
    assert x.shape == (2, 3) and cross_entropy(model(x), y).item() == pytest.approx(whole)


# Chains as language models


@pytest.mark.parametrize("network", [RNN, GRU, LSTM])
def test_gradients(network, rng, check_network):
    check_network(RecurrentModel(5, 3, 2, network=network, rng=rng), IDS)


@pytest.mark.parametrize("network", [RNN, GRU, LSTM])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_later_token_changes_no_earlier_logits(network, place, rng):
    model, changed = RecurrentModel(5, 4, network=network, rng=rng), IDS.copy()
    changed[:, place] = (changed[:, place] + 1) % 5
    y, z = model(IDS).data, model(changed).data
    assert y.shape == (2, 6, 5)
    assert np.array_equal(y[:, :place], z[:, :place]), f"token {place} is seen before its time"
    assert (y[:, place:] != z[:, place:]).any(axis=2).all(), "a chain forgets nothing at once"


def test_a_chain_by_hand(rng):
    model = RecurrentModel(5, 2, network=RNN, rng=rng).astype(np.float64)
    w = {name: p.data for name, p in model.named_parameters()}
    h, expected = np.zeros((2, 2)), []
    for ids in IDS.T:
        x = w["embedding.weight"][ids] @ w["chain.weight_ih_l0"].T + w["chain.bias_ih_l0"]
        h = np.tanh(x + h @ w["chain.weight_hh_l0"].T + w["chain.bias_hh_l0"])
        expected.append(h @ w["head.weight"].T + w["head.bias"])
    np.testing.assert_allclose(model(IDS).data, np.stack(expected, axis=1), atol=1e-12)


def test_options_reach_the_chain():
    model = RecurrentModel(5, 4, num_layers=3, dropout=0.25, network=GRU)
    assert isinstance(model.chain, GRU) and model.chain.num_layers == 3
    assert model.chain.dropout.p == 0.25 and model.dropout.p == 0.25


@pytest.mark.parametrize("ids", [[], [3], [1, 2, 0, 4]], ids=str)
def test_the_next_token_is_the_last_of_all(ids, rng):
    model = RecurrentModel(5, 4, dropout=0.5, rng=rng)
    found = model.next_logits(ids, boundary=2)
    assert found.shape == (5,) and model.training, "the mode is what it was"
    assert np.array_equal(found, model.eval()(np.array([[2, *ids]])).data[0, -1])


def test_the_likelihood_of_a_document_is_the_product_of_its_steps(rng):
    """What `evaluate` says of padded sequences is what token by token adds up to."""
    model, documents = RecurrentModel(5, 4, rng=rng), [[1, 2, 3], [4]]
    steps = []
    for document in documents:
        for i, token in enumerate([*document, 0]):
            logits = model.next_logits(document[:i]).astype(np.float64)
            steps.append(np.log(np.exp(logits).sum()) - logits[token])
    loss = evaluate(model, *padded_sequences(documents))["loss"]
    assert loss == pytest.approx(np.mean(steps), rel=1e-5)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 5]], "ids from 0 to 4, not 5"),
        ([[0.5]], "whole numbers"),
        ([1, 2], r"three axes"),
        (np.zeros((1, 0), int), "one token or more"),
    ],
    ids=str,
)
def test_what_is_no_batch_of_sequences(ids, message):
    with pytest.raises(ValueError, match=message):
        RecurrentModel(5, 4)(np.array(ids))


def test_a_chain_takes_a_tensor_of_ids(rng):
    model = RecurrentModel(5, 4, rng=rng)
    assert np.array_equal(model(Tensor(IDS)).data, model(IDS).data)
