"""The Bengio model: windows by hand, the forward pass in plain NumPy, gradients, and learning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_02_text_generation.likelihood import cross_entropy
from chapter_02_text_generation.neural_language_model import (
    NeuralLanguageModel,
    context_windows,
)
from utils import check_gradients, grad, manual_seed, seeding

NAMES = ("embedding", "w1", "b1", "w2", "b2")
# "abc", over and over: after a comes b, after b comes c, after c the end.
DOCUMENTS = [[1, 2, 3]] * 8 + [[2, 3]] * 4


def tiny(seed=0):
    """A model of 5 tokens with parameters all different from 0."""
    rng = np.random.default_rng(seed)
    model = NeuralLanguageModel(5, context=2, embedding=3, hidden=4, rng=rng)
    for p in model.parameters():
        p.data += rng.normal(0, 0.5, p.shape).astype(p.dtype)
    return model


def numpy_logits(model, contexts):
    """The forward pass, one example and one step at a time, in float64."""
    embedding, w1, b1, w2, b2 = (getattr(model, n).data.astype(np.float64) for n in NAMES)
    rows = []
    for context in contexts:
        vectors = np.concatenate([embedding[token] for token in context])
        rows.append(np.tanh(vectors @ w1 + b1) @ w2 + b2)
    return np.array(rows)


def test_windows_by_hand():
    contexts, targets = context_windows([[1, 2, 3], [4]], context=2)
    assert contexts.tolist() == [[0, 0], [0, 1], [1, 2], [2, 3], [0, 0], [0, 4]]
    assert targets.tolist() == [1, 2, 3, 0, 4, 0], "each document ends with a boundary to predict"


def test_windows_of_another_boundary_and_of_nothing():
    contexts, targets = context_windows([[0], []], context=3, boundary=9)
    assert contexts.tolist() == [[9, 9, 9], [9, 9, 0], [9, 9, 9]]
    assert targets.tolist() == [0, 9, 9]
    contexts, targets = context_windows([], context=3)
    assert contexts.shape == (0, 3) and targets.shape == (0,)
    assert contexts.dtype.kind == targets.dtype.kind == "i", "ids are integers, even no ids"


def test_forward_equals_plain_numpy(rng):
    model = tiny()
    contexts = rng.integers(5, size=(7, 2))
    logits = model(contexts)
    assert logits.shape == (7, 5)
    np.testing.assert_allclose(
        logits.data,
        numpy_logits(model, contexts),
        rtol=1e-5,
        atol=1e-6,
        err_msg="the vectors of a context stand side by side, in the order of the tokens",
    )


def test_gradients(rng):
    model = tiny()
    contexts, targets = rng.integers(1, 5, size=(6, 2)), rng.integers(5, size=6)
    contexts[0] = [3, 3]  # the same row of the table twice: its gradients add up

    def loss(*tensors):
        for name, tensor in zip(NAMES, tensors):
            setattr(model, name, tensor)
        return cross_entropy(model(contexts), targets)

    check_gradients(loss, model.parameters(), order=2, tolerance=1e-6)


def test_only_tokens_that_were_seen_move():
    model = tiny()
    cross_entropy(model(np.array([[1, 2], [2, 2]])), [3, 4]).backward()
    moved = np.abs(model.embedding.grad).sum(axis=1) > 0
    assert moved.tolist() == [False, True, True, False, False]


def test_size_by_hand():
    model = NeuralLanguageModel(27, context=3, embedding=10, hidden=200)
    assert model.size == 27 * 10 + 30 * 200 + 200 + 200 * 27 + 27 == 11_897
    assert len(model.parameters()) == 5 and all(p.requires_grad for p in model.parameters())


def test_at_first_all_tokens_are_about_equally_likely(rng):
    model = NeuralLanguageModel(27, context=5, embedding=16, hidden=100, rng=rng)
    contexts, targets = rng.integers(27, size=(500, 5)), rng.integers(27, size=500)
    assert model.mean_nll(contexts, targets) == pytest.approx(math.log(27), abs=0.05), (
        "a first loss above log(vocabulary) is confidence that nothing has earned: "
        "begin the last layer near 0"
    )
    hidden = np.tanh(model.embedding.data[contexts].reshape(500, -1) @ model.w1.data)
    assert np.mean(np.abs(hidden) > 0.99) < 0.1, "the hidden layer is saturated: scale W1 down"


@pytest.mark.parametrize("batch", [1, 4, 7, 100])
def test_mean_nll_does_not_depend_on_the_batch(batch, rng):
    model = tiny()
    contexts, targets = rng.integers(5, size=(7, 2)), rng.integers(5, size=7)
    logits = numpy_logits(model, contexts)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(7), targets]).mean()
    found = model.mean_nll(contexts, targets, batch=batch)
    assert found == pytest.approx(expected, rel=1e-5), "weigh a smaller last batch by its size"
    assert all(q.grad is None for q in model.parameters())


@pytest.mark.parametrize(
    ("ids", "window"), [([], [0, 0]), ([3], [0, 3]), ([1, 2], [1, 2]), ([4, 1, 2, 3], [2, 3])]
)
def test_next_logits_look_at_the_last_tokens(ids, window):
    model = tiny()
    found = model.next_logits(ids)
    assert isinstance(found, np.ndarray) and found.shape == (5,)
    np.testing.assert_allclose(found, numpy_logits(model, [window])[0], rtol=1e-5, atol=1e-6)
    window = [4 if token == 0 else token for token in window]
    found = model.next_logits(ids, boundary=4)
    np.testing.assert_allclose(found, numpy_logits(model, [window])[0], rtol=1e-5, atol=1e-6)


def trained(seed, steps=150):
    rng = np.random.default_rng(seed)
    model = NeuralLanguageModel(5, context=2, embedding=4, hidden=8, rng=rng)
    losses = model.fit(*context_windows(DOCUMENTS, 2), steps=steps, batch=16, lr=0.5, rng=rng)
    return model, losses


def test_a_short_training_lowers_the_loss():
    windows = context_windows(DOCUMENTS, 2)
    model, losses = trained(0)
    assert len(losses) == 150 and all(math.isfinite(loss) for loss in losses)
    assert losses[0] == pytest.approx(math.log(5), abs=0.3)
    # What is left to guess is whether a document begins with 1 or with 2: 8 or 4 of 12.
    best = 12 * (math.log(3) - 2 / 3 * math.log(2)) / len(windows[1])
    found = model.mean_nll(*windows)
    assert best < found < best + 0.1, f"the best that can be is {best:.3f}, yours is {found:.3f}"


def test_the_same_seed_gives_the_same_model_bit_for_bit():
    (first, losses), (second, again) = trained(1, steps=20), trained(1, steps=20)
    assert losses == again
    for p, q in zip(first.parameters(), second.parameters()):
        np.testing.assert_array_equal(p.data, q.data)
    assert losses != trained(2, steps=20)[1]


def test_the_default_generator_is_used_only_where_none_is_given():
    before = seeding.generator().bit_generator.state
    trained(0, steps=2)
    assert seeding.generator().bit_generator.state == before, "draw from the rng that was given"
    losses = []
    for _ in range(2):
        manual_seed(4)
        model = NeuralLanguageModel(5, context=2, embedding=4, hidden=8)
        losses.append(model.fit(*context_windows(DOCUMENTS, 2), steps=3, batch=8))
    assert losses[0] == losses[1], "manual_seed must fix the weights and the batches"


def test_fit_is_gradient_descent_with_a_rate_that_falls_to_zero():
    # All examples are the same one, so that it does not matter which a batch takes.
    contexts, targets = np.array([[1, 2]] * 3), np.array([4, 4, 4])
    model, expected = tiny(), []
    for step in range(5):
        loss = cross_entropy(model(contexts), targets)
        expected.append(loss.item())
        for p, g in zip(model.parameters(), grad(loss, model.parameters())):
            p.data -= 0.4 * (1 - step / 5) * g.data
    found = tiny().fit(contexts, targets, steps=5, batch=2, lr=0.4)
    np.testing.assert_allclose(
        found,
        expected,
        rtol=1e-5,
        err_msg="each step has the gradient of its own batch alone, and the rate falls in a line",
    )


@pytest.mark.parametrize("contexts", [[[0, 5]], [[1, 2, 3]], [[1]], [[0.5, 1.0]]])
def test_contexts_that_do_not_fit_the_model_are_an_error(contexts):
    with pytest.raises((IndexError, ValueError, TypeError)):
        tiny()(np.array(contexts))


def test_targets_outside_the_vocabulary_are_an_error():
    with pytest.raises(ValueError, match="0 to 4"):
        tiny().mean_nll(np.array([[1, 2]]), np.array([5]))
