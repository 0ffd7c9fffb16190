"""Mixup, CutMix and stochastic depth (early stopping and weight decay have files of their own)."""

from __future__ import annotations

import functools
import math
import re

import numpy as np
import pytest

from chapter_03_neural_nets import (
    cross_entropy,
)
from chapter_07_attention import GPT, GPTConfig
from chapter_08_optimization import (
    StochasticDepth,
    StochasticDepthLayer,
    cutmix,
    mixup,
)
from utils import Tensor, check_gradients, manual_seed

KINDS = {"mixup": mixup, "cutmix": cutmix}


def pictures(count=6, shape=(1, 8, 10), dtype=np.float32):
    """Picture i is i everywhere, and so is its label."""
    labels = np.arange(count)
    return (
        np.ones((count, *shape), dtype) * labels.reshape(-1, *[1] * len(shape)).astype(dtype),
        labels,
    )


# Mixup and CutMix


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", KINDS)
def test_the_share_of_the_labels_is_that_of_the_pixels(name, dtype):
    images, labels = pictures(dtype=dtype)
    images, labels = images + 1, labels + 1
    before, shares = images.copy(), []
    for seed in range(50):
        mixed = KINDS[name](images, labels, alpha=1.0, rng=np.random.default_rng(seed))
        assert mixed.inputs.shape == images.shape and mixed.inputs.dtype == dtype
        np.testing.assert_array_equal(mixed.targets, labels)
        assert sorted(mixed.others) == list(labels), "each example is some example's partner"
        assert 0 <= mixed.share <= 1
        found = mixed.inputs.mean(axis=(1, 2, 3))
        expected = mixed.share * labels + (1 - mixed.share) * mixed.others
        np.testing.assert_allclose(
            found, expected, rtol=1e-5,
            err_msg=f"{name}: the labels' share {mixed.share:.3f} is not that of the pixels",
        )  # fmt: skip
        shares.append(mixed.share)
    assert np.std(shares) > 0.1, "the share is drawn anew"
    np.testing.assert_array_equal(images, before, err_msg="the batch itself must stay as it is")


def test_mixup_mixes_every_number_alike(rng):
    x, y = rng.normal(size=(5, 3)), np.arange(5)
    mixed = mixup(x, y, alpha=2.0, rng=rng)
    expected = mixed.share * x + (1 - mixed.share) * x[mixed.others]
    np.testing.assert_allclose(mixed.inputs, expected, atol=1e-12)


def test_cutmix_takes_one_rectangle_and_the_rest_is_the_pictures_own():
    images = np.arange(4 * 3 * 8 * 10, dtype=np.float64).reshape(4, 3, 8, 10)
    at_borders = 0
    for seed in range(100):
        mixed = cutmix(images, np.arange(4), rng=np.random.default_rng(seed))
        partner = images[mixed.others]
        changed = (mixed.inputs == partner).all(axis=(0, 1)) & (mixed.others != np.arange(4)).any()
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        if not len(rows):
            continue
        assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "a rectangle"
        assert changed.sum() == len(rows) * len(columns)
        assert mixed.share == pytest.approx(1 - changed.sum() / 80), "counted after borders cut it"
        np.testing.assert_array_equal(mixed.inputs[..., ~changed], images[..., ~changed])
        at_borders += rows[0] == 0 or rows[-1] == 7 or columns[0] == 0 or columns[-1] == 9
    assert at_borders > 20, "the centre may be anywhere, also near the border"


def test_cutmixs_rectangle_is_as_large_as_was_drawn():
    images, labels = pictures(4, (50, 100))
    before, sizes = images.copy(), []
    for seed in range(30):
        mixed = cutmix(images, labels, alpha=1e6, rng=np.random.default_rng(seed))
        changed = (mixed.inputs != images).any(axis=0)
        sizes.append((changed.any(axis=1).sum(), changed.any(axis=0).sum()))
    np.testing.assert_array_equal(images, before, err_msg="the batch itself must stay as it is")
    # Such an alpha draws a half: sides of sqrt(1 / 2), where no border cuts them.
    np.testing.assert_allclose(np.max(sizes, axis=0), [35.4, 70.7], atol=1.5)
    with pytest.raises(ValueError, match=r"\(4, 100\)"):
        cutmix(images[:, 0], labels)


@pytest.mark.parametrize("alpha, spread", [(0.1, 0.456), (1.0, 0.289), (20.0, 0.078)])
def test_mixups_share_is_drawn_from_beta(alpha, spread):
    rng = np.random.default_rng(0)
    shares = [mixup(np.zeros((2, 1)), np.zeros(2), alpha, rng).share for _ in range(2000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.std(shares) == pytest.approx(spread, rel=0.1), "the spread of Beta(alpha, alpha)"


@pytest.mark.parametrize("name", KINDS)
def test_the_same_seed_mixes_the_same(name):
    images, labels = pictures()
    results = []
    for _ in range(2):
        manual_seed(5)
        results += [
            KINDS[name](images, labels),
            KINDS[name](images, labels, rng=np.random.default_rng(5)),
        ]
    for a, b in zip(results[:2], results[2:]):
        assert a.share == b.share and (a.inputs == b.inputs).all() and (a.others == b.others).all()


@pytest.mark.parametrize(
    "count, shape", [(1, (4, 4)), (1, (1, 1, 1)), (3, (1, 1)), (2, (3, 1, 9)), (5, (7, 7))]
)
@pytest.mark.parametrize("name", KINDS)
def test_the_smallest_batches_and_pictures(name, count, shape):
    images, labels = pictures(count, shape)
    for seed in range(20):
        mixed = KINDS[name](images, labels, rng=np.random.default_rng(seed))
        own = mixed.share * labels + (1 - mixed.share) * mixed.others
        np.testing.assert_allclose(mixed.inputs.reshape(count, -1).mean(1), own, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_lists_are_mixed_as_arrays(name):
    images, labels = pictures(3, (4, 4))
    pairs = (images.astype(float), labels), (images.tolist(), list(labels))
    found = [KINDS[name](*pair, rng=np.random.default_rng(1)) for pair in pairs]
    for ours, same in zip(*found):
        np.testing.assert_array_equal(ours, same)


@pytest.mark.parametrize("kind, inputs, options, error", [
    *[(kind, np.ones((2, 3, 4)), {"alpha": alpha}, ValueError)
      for kind in (mixup, cutmix) for alpha in (0.0, -1.0, math.nan, math.inf)],
    *[(kind, np.ones((2, 3, 4), np.uint8), {}, TypeError) for kind in (mixup, cutmix)],
    (cutmix, np.ones((2, 3)), {}, ValueError),
    *[(kind, np.ones((3, 3, 4)), {}, ValueError) for kind in (mixup, cutmix)],
    (cutmix, np.ones((2, 0, 3)), {}, ValueError),
    (mixup, np.float64(1), {}, ValueError),
])  # fmt: skip
def test_what_cannot_be_mixed_is_refused(kind, inputs, options, error):
    shape = re.escape(str(inputs.shape))
    message = "alpha" if options else "uint8" if error is TypeError else shape
    with pytest.raises(error, match=message):
        kind(inputs, np.zeros(2), **options)


def test_the_mixed_loss_is_weighted_and_has_gradients(rng):
    x, y = rng.normal(size=(6, 3)), rng.integers(4, size=6)
    mixed = mixup(x, y, alpha=1.0, rng=rng)
    weight = rng.normal(size=(4, 3))

    def loss(w):
        return mixed.loss(cross_entropy, lambda inputs: Tensor(inputs) @ w.T)

    check_gradients(loss, [weight])
    logits = mixed.inputs @ weight.T
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    rows = np.arange(6)
    own, other = -log_p[rows, mixed.targets].mean(), -log_p[rows, mixed.others].mean()
    expected = mixed.share * own + (1 - mixed.share) * other
    assert loss(Tensor(weight)).item() == pytest.approx(expected)
    # The same as the cross-entropy with labels that are mixed themselves.
    labels = mixed.share * np.eye(4)[mixed.targets] + (1 - mixed.share) * np.eye(4)[mixed.others]
    assert expected == pytest.approx(-(labels * log_p).sum(1).mean())


# Stochastic depth


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_part_is_left_out_for_whole_examples_and_right_on_average(dtype, rng):
    x = Tensor(rng.normal(size=(20000, 2, 2)).astype(dtype) + 3)
    skip = StochasticDepth(0.25, rng)
    y = skip(x)
    assert y.dtype == dtype and y.shape == x.shape
    kept = (y.data != 0).reshape(len(x), -1)
    assert (kept.all(axis=1) | ~kept.any(axis=1)).all(), "an example is left out as a whole"
    assert kept[:, 0].mean() == pytest.approx(0.75, abs=0.02)
    kept = kept[:, 0]
    np.testing.assert_allclose(y.data[kept], x.data[kept] / 0.75, rtol=1e-4, err_msg="x / (1 - p)")
    assert y.data.mean() == pytest.approx(x.data.mean(), rel=0.03), "the expectation is x"
    assert skip.eval()(x) is x or (skip(x).data == x.data).all()
    assert (StochasticDepth(0.0, rng)(x).data == x.data).all()


def test_its_gradient_passes_where_the_part_was_kept(rng):
    x = Tensor(rng.normal(size=(50, 3)), requires_grad=True)
    y = StochasticDepth(0.5, rng)(x)
    y.sum().backward()
    np.testing.assert_allclose(x.grad, np.where(y.data == 0, 0, 2))


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, math.nan])
def test_p_is_a_probability_below_1(p):
    with pytest.raises(ValueError, match=f"p is .*{p}"):
        StochasticDepth(p)


CONFIG = GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8)


def gpt(skipped=None, seed=0, **options):
    layer = (
        {}
        if skipped is None
        else {"layer": functools.partial(StochasticDepthLayer, skipped=skipped)}
    )
    config = GPTConfig(**{**vars(CONFIG), **options})
    return GPT(config, rng=np.random.default_rng(seed), **layer)


def test_gpts_layers_keep_their_names_and_weights(rng):
    ordinary, deep = gpt(), gpt(0.5)
    one, other = ordinary.state_dict(), deep.state_dict()
    assert list(one) == list(other), "weights pass either way"
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=f"{name}: the same seed's start")
    ids = rng.integers(11, size=(6, 8))
    expected = ordinary(ids).data
    assert not np.allclose(deep(ids).data, expected), "nothing is left out in training"
    deep.eval()
    np.testing.assert_allclose(deep(ids).data, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gpt(0.0)(ids).data, expected, rtol=1e-5, atol=1e-6)


def test_a_layer_whose_parts_are_both_left_out_passes_its_input(rng):
    layer = StochasticDepthLayer(8, 2, 16, dropout=0.0, norm_first=True, skipped=0.5, rng=rng)
    x = rng.normal(size=(40, 3, 8)).astype(np.float32)
    y = layer(Tensor(x)).data
    same = (y == x).all(axis=(1, 2))
    assert 3 <= same.sum() <= 20, f"{same.sum()} of 40 examples pass both parts by; 10 should"
