"""The one-layer network against counts: both by hand, then the one arriving at the other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_02_text_generation.bigram_network import BigramNetwork, bigram_counts
from chapter_02_text_generation.character_tokenizer import CharacterTokenizer
from chapter_02_text_generation.ngram import NGram
from chapter_02_text_generation.smoothing import AddK
from utils import Tensor, check_gradients

# With 0 = boundary, 1 = a, 2 = b: "ab", "aab", "b".
DOCUMENTS = [[1, 2], [1, 1, 2], [2]]
COUNTS = np.array([[0, 2, 1], [0, 1, 2], [3, 0, 0]])
# Where counting ends: -log p of each pair, weighted by how often it occurs.
BEST = -(2 * math.log(2 / 3) + math.log(1 / 3) + math.log(1 / 3) + 2 * math.log(2 / 3)) / 9


def test_counts_by_hand():
    np.testing.assert_array_equal(
        bigram_counts(DOCUMENTS, 3), COUNTS, err_msg="rows are the token before, columns the next"
    )


def test_boundary_may_be_any_id():
    shifted = [[token - 1 for token in document] for document in DOCUMENTS]
    found = bigram_counts(shifted, 3, boundary=2)
    np.testing.assert_array_equal(np.roll(found, (1, 1), axis=(0, 1)), COUNTS)


def test_counts_have_a_row_for_every_token_and_one_pair_for_every_prediction():
    counts = bigram_counts([[1], [], np.array([1, 1])], 6)
    assert counts.shape == (6, 6)
    assert counts.sum() == 3 + 3, "every token and every closing boundary is predicted once"
    assert counts[0, 0] == 1, "an empty document is one boundary after another"


def test_loss_by_hand():
    network = BigramNetwork(3)
    assert network.loss(COUNTS).item() == pytest.approx(
        math.log(3), rel=1e-6
    ), "before training all tokens are equally likely"
    shares = COUNTS / COUNTS.sum(axis=1, keepdims=True)
    network.weight.data[:] = np.log(np.maximum(shares, 1e-30))
    assert network.loss(COUNTS).item() == pytest.approx(BEST, rel=1e-6)


def test_loss_gradients(rng):
    network = BigramNetwork(3)
    weight = rng.normal(size=(3, 3))

    def loss(tensor):
        network.weight = tensor
        return network.loss(COUNTS)

    check_gradients(loss, [weight], order=2, tolerance=1e-6)
    leaf = Tensor(weight, requires_grad=True)
    loss(leaf).backward()
    softmax = np.exp(weight) / np.exp(weight).sum(axis=1, keepdims=True)
    shares = COUNTS / 9
    expected = shares.sum(axis=1, keepdims=True) * softmax - shares
    np.testing.assert_allclose(leaf.grad, expected, atol=1e-7)


def test_training_arrives_where_counting_does():
    network = BigramNetwork(4)
    counts = np.pad(COUNTS, (0, 1))
    losses = network.fit(counts)
    assert losses[0] == pytest.approx(math.log(4), rel=1e-6)
    assert BEST < losses[-1] < BEST + 0.005, "no table of logits beats the counts, or stays away"
    found = network.probabilities()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[:3, :3], COUNTS / 3, atol=0.01)
    np.testing.assert_allclose(found[3], 1 / 4, err_msg="what never occurred stays undecided")


@pytest.mark.parametrize("letters", [1, 3, 8])
def test_training_as_it_comes_suits_small_alphabets_too(letters, rng):
    documents = [rng.integers(1, letters + 1, size=6).tolist() for _ in range(200)]
    counted = NGram(2, letters + 1, AddK(0)).fit(documents).mean_nll(documents)
    learnt = BigramNetwork(letters + 1).fit(bigram_counts(documents, letters + 1))[-1]
    assert learnt < counted + 0.01, (
        f"{letters} letters: counts reach {counted:.4f}, the network {learnt:.4f}; few rows "
        "share all pairs, so gradients are large: a step that suits 27 letters is too long here"
    )


def test_the_same_training_twice_is_the_same_bit_for_bit():
    runs = [BigramNetwork(3) for _ in range(2)]
    losses = [network.fit(COUNTS, steps=20) for network in runs]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(runs[0].weight.data, runs[1].weight.data)


def test_all_names(reference_data):
    names = (reference_data / "names.txt").read_text().split()
    tokenizer = CharacterTokenizer.train("".join(names), special_tokens=["."])
    documents = [tokenizer.encode(name) for name in names]
    counted = NGram(2, 27, AddK(0)).fit(documents).mean_nll(documents)
    assert counted == pytest.approx(2.4540, abs=0.0005)
    counts = bigram_counts(documents, 27)
    assert counts[0, 1] == 4410, "4,410 names begin with a"
    network = BigramNetwork(27)
    learnt = network.fit(counts)[-1]
    assert (
        counted <= learnt < counted + 0.01
    ), f"counts reach {counted:.4f}, your network {learnt:.4f}"


@pytest.mark.parametrize("document", [[1, 3], [1, 30], [0, 4, 0], [1, -1, 2]], ids=str)
def test_an_id_outside_the_vocabulary_is_never_counted_as_another(document):
    # A pair is numbered previous * 3 + next: unchecked, (0, 4) counts as (1, 1).
    with pytest.raises((ValueError, IndexError)):
        bigram_counts([document], 3)
