"""Softmax, cross-entropy and their units: by hand, at the limits of floats, and by PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_02_text_generation.likelihood import (
    bits_per_character,
    cross_entropy,
    log_softmax,
    perplexity,
    softmax,
)
from utils import Tensor, check_gradients, grad

INF = math.inf


def test_log_softmax_by_hand():
    found = log_softmax(Tensor(np.log([1.0, 3.0, 4.0])))
    np.testing.assert_allclose(found.data, np.log([1 / 8, 3 / 8, 1 / 2]))


def test_cross_entropy_by_hand():
    logits = Tensor(np.log([[1.0, 3.0], [1.0, 1.0]]))
    found = cross_entropy(logits, [0, 1])
    # Probabilities 1/4 and 1/2 were given to what came.
    assert found.item() == pytest.approx((math.log(4) + math.log(2)) / 2)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_sums_to_one_and_ignores_a_shift(axis, rng):
    logits = rng.normal(size=(3, 4, 5))
    found = softmax(Tensor(logits), axis=axis).data
    assert found.shape == logits.shape and (found > 0).all()
    np.testing.assert_allclose(found.sum(axis=axis), 1, err_msg=f"the sum along axis {axis}")
    shifted = softmax(Tensor(logits + 7), axis=axis).data
    np.testing.assert_allclose(shifted, found, err_msg="e^7 cancels in the quotient")
    np.testing.assert_allclose(log_softmax(Tensor(logits), axis=axis).data, np.log(found))


@pytest.mark.parametrize("large", [1000.0, -1000.0, 1e30])
def test_log_softmax_of_large_logits(large):
    found = log_softmax(Tensor(np.array([[large, large], [0.0, -1000.0]]))).data
    np.testing.assert_allclose(
        found,
        [[-math.log(2)] * 2, [0.0, -1000.0]],
        err_msg="subtract each row's largest logit before exp, and take no logarithm of 0",
    )


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([1000.0, 1000.0], [-math.log(2)] * 2),
        ([-1000.0, -1000.0], [-math.log(2)] * 2),
        ([1000.0, -1000.0], [0.0, -2000.0]),
        ([1e30, 0.0], [0.0, -1e30]),
        ([0.0, -INF, math.log(3)], [math.log(1 / 4), -INF, math.log(3 / 4)]),
        ([-INF, 5.0], [-INF, 0.0]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_logits_and_masks(logits, expected, dtype):
    x = Tensor(np.array(logits, dtype), requires_grad=True)
    found = log_softmax(x)
    np.testing.assert_allclose(
        found.data, expected, rtol=1e-6, err_msg="subtract the largest logit before exp"
    )
    assert found.dtype == dtype
    best = int(np.argmax(logits))
    cross_entropy(x.reshape(1, -1), [best]).backward()
    probabilities = np.exp(expected)
    probabilities[best] -= 1
    np.testing.assert_allclose(
        x.grad, probabilities, atol=1e-6, err_msg="the gradient is softmax minus one-hot, not NaN"
    )


def test_all_masked_is_nan_as_in_pytorch():
    with np.errstate(invalid="ignore"):
        assert np.isnan(log_softmax(Tensor(np.full(3, -INF))).data).all()


def test_small_probabilities_keep_their_digits():
    found = log_softmax(Tensor(np.array([0.0, -40.0]))).data
    assert found[0] == pytest.approx(-math.exp(-40), rel=1e-9) or found[0] == 0.0
    assert found[1] == pytest.approx(
        -40, rel=1e-15
    ), "log(softmax(x)) rounds first, log_softmax not"


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes():
    logits = Tensor(np.zeros((4, 50_257), np.float32))
    found = cross_entropy(logits, [0, 1, 2, 50_256])
    assert found.shape == () and found.dtype == np.float32
    assert found.item() == pytest.approx(math.log(50_257), rel=1e-6)


def test_cross_entropy_takes_any_leading_shape(rng):
    logits, targets = rng.normal(size=(2, 3, 5)), rng.integers(5, size=(2, 3))
    found = cross_entropy(Tensor(logits), targets).item()
    flat = cross_entropy(Tensor(logits.reshape(6, 5)), targets.ravel()).item()
    assert found == pytest.approx(flat)
    terms = [
        -np.log(np.exp(z[t]) / np.exp(z).sum()) for z, t in zip(logits.reshape(6, 5), targets.flat)
    ]
    assert found == pytest.approx(np.mean(terms)), "the mean over all targets, not the sum"
    one = cross_entropy(Tensor(logits[0, 0]), targets[0, 0])
    assert one.item() == pytest.approx(terms[0])


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("function", [log_softmax, softmax])
def test_gradients(function, axis, rng):
    check_gradients(
        lambda x: function(x, axis=axis), [rng.normal(size=(3, 4))], order=2, tolerance=1e-6
    )


def test_cross_entropy_gradients(rng):
    logits, targets = rng.normal(size=(2, 3, 4)), rng.integers(4, size=(2, 3))
    check_gradients(lambda x: cross_entropy(x, targets), [logits], order=2, tolerance=1e-6)
    x = Tensor(logits, requires_grad=True)
    (found,) = grad(cross_entropy(x, targets), [x])
    expected = (softmax(Tensor(logits)).data - np.eye(4)[targets]) / 6
    np.testing.assert_allclose(
        found.data, expected, err_msg="(softmax - one-hot) / number of targets"
    )


def test_pytorch_agrees(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not here: install the oracle extra")
    logits = (100 * rng.normal(size=(6, 9))).astype(np.float32)
    logits[0, 3:] = -INF
    logits[1, :8] = -INF
    logits[2] = 1000
    targets = np.array([2, 8, 0, 4, 5, 6])
    ours, theirs = Tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    expected = torch.log_softmax(theirs, -1).detach().numpy()
    np.testing.assert_allclose(log_softmax(ours).data, expected, rtol=1e-6, atol=1e-6)
    loss = cross_entropy(ours, targets)
    their_loss = torch.nn.functional.cross_entropy(theirs, torch.tensor(targets))
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-6)
    loss.backward()
    their_loss.backward()
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-5, atol=1e-8)


def test_perplexity_and_bits():
    assert perplexity(math.log(27)) == pytest.approx(27), "27 equally likely tokens: perplexity 27"
    assert perplexity(0.0) == 1
    assert bits_per_character(math.log(2)) == pytest.approx(1)
    # 10 tokens of 3 bits for 20 characters are one and a half bits a character.
    assert bits_per_character(3 * math.log(2), tokens=10, characters=20) == pytest.approx(1.5)


@pytest.mark.parametrize("nll", [INF, 1e6])
def test_perplexity_of_a_hopeless_model_is_infinite(nll):
    assert (
        perplexity(nll) == INF
    ), "a training that blew up has to be reported, not to end in a traceback"


@pytest.mark.parametrize(
    ("shape", "targets", "message"),
    [
        ((2, 3), [0], r"\(2, 3\).*\(2,\).*\(1,\)"),
        ((2, 3), [[0, 1]], r"\(1, 2\)"),
        ((2, 3), 1, r"\(\)"),
        ((2, 3), [0, 3], "0 to 2"),
        ((2, 3), [-1, 0], "0 to 2"),
        ((2, 3), [0.0, 1.0], "whole numbers"),
        ((2, 3), [0, math.nan], "whole numbers"),
        ((0, 3), np.zeros(0, int), "no targets"),
    ],
)
def test_bad_targets_are_named(shape, targets, message):
    with pytest.raises(ValueError, match=message):
        cross_entropy(Tensor(np.zeros(shape)), targets)


@pytest.mark.parametrize("targets", [[0, 3], [-1, 0], [0], [[0, 1]]], ids=str)
def test_targets_that_do_not_fit_are_refused(targets):
    with pytest.raises(ValueError):
        cross_entropy(Tensor(np.zeros((2, 3))), targets)


@pytest.mark.parametrize("counts", [(0, 5), (5, 0), (-1, 5), (math.nan, 5), (5, math.nan)])
def test_bits_of_no_characters_are_an_error(counts):
    with pytest.raises(ValueError, match="bits per character"):
        bits_per_character(1.0, *counts)
