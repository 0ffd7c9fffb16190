"""Attention by hand, as a soft dictionary, and the layer's refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_07_attention import (
    MultiheadAttention,
    Rotary,
    attend,
    attention,
    attention_weights,
    causal_mask,
    padding_mask,
)
from utils import Tensor, check_gradients, manual_seed


def test_two_keys_by_hand():
    q, k = np.array([[2.0, 0, 0, 0]]), np.array([[math.log(3), 0, 0, 0], [0, 5, 0, 0]])
    # The scores are 2 log 3 / sqrt(4) = log 3, and 0.
    np.testing.assert_allclose(attention_weights(q, k), [[0.75, 0.25]])
    np.testing.assert_allclose(attention(q, k, np.array([[4.0], [8.0]])), [[5.0]])
    np.testing.assert_allclose(attention(q, k, k, np.array([False, True])), [k[1]])


def test_a_key_that_fits_well_is_an_ordinary_lookup(rng):
    keys = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    values = rng.normal(size=(6, 3))
    np.testing.assert_allclose(attention(1000 * keys[[4]], keys, values), values[[4]], rtol=1e-6)


def test_shares_are_shares_whatever_the_mask(rng):
    q, k = rng.normal(size=(2, 3, 5, 4)) * 10, rng.normal(size=(2, 3, 7, 4))
    for mask in (None, causal_mask(5, 7), padding_mask([3, 7])):
        shares = attention_weights(q, k, mask)
        assert shares.shape == (2, 3, 5, 7) and (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(axis=-1), 1, err_msg="each row of shares adds to 1")
        if mask is not None:
            hidden = shares[np.broadcast_to(~mask, shares.shape)]
            assert (hidden == 0).all(), "what is masked has no share at all"


def test_a_mask_of_floats_is_added_to_the_scores():
    shares = attention_weights(np.zeros((1, 4)), np.ones((3, 4)), np.log([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(shares, [[1 / 8, 2 / 8, 5 / 8]])


def test_a_query_that_may_look_at_nothing_takes_nothing(rng):
    q, k = rng.normal(size=(2, 4)), rng.normal(size=(3, 4))
    mask = np.array([[False, False, False], [True, False, True]])
    for kind in (mask, np.where(mask, 0.0, -np.inf)):
        shares = attention_weights(q, k, kind)
        assert (shares[0] == 0).all(), f"the shares of what sees nothing are {shares[0]}, not 0"
        np.testing.assert_allclose(shares[1, [0, 2]], attention_weights(q[1:], k[[0, 2]])[0])
    found = attention(q, k[:0], k[:0])
    assert found.tolist() == [[0.0] * 4] * 2, "where there are no keys nothing is taken"


def test_scores_keep_their_variance_as_heads_grow(rng):
    """Without 1 / sqrt(D) the softmax of wide heads picks one key alone."""
    largest = []
    for size in (4, 64, 1024):
        q, k = rng.normal(size=(200, size)), rng.normal(size=(10, size))
        largest.append(attention_weights(q, k).max(axis=-1).mean())
    assert max(largest) - min(largest) < 0.15, f"the largest share depends on D: {largest}"


def test_gradients_also_where_a_query_may_look_at_nothing(rng):
    arrays = [rng.normal(size=shape) for shape in [(2, 3, 4), (2, 5, 4), (2, 5, 2)]]
    mask = rng.random((3, 5)) < 0.5
    mask[1] = False
    check_gradients(lambda q, k, v: attention(q, k, v, mask), arrays)


def test_keys_in_another_order_are_the_same_answer(rng):
    q, k, v = (rng.normal(size=(5, 4)) for _ in range(3))
    order = rng.permutation(5)
    np.testing.assert_allclose(attention(q, k[order], v[order]), attention(q, k, v))


def test_grouped_queries_are_many_heads_whose_keys_and_values_are_alike(rng):
    shared = MultiheadAttention(8, 4, num_kv_heads=2).astype(np.float64)
    every = MultiheadAttention(8, 4).astype(np.float64)
    assert shared.in_proj_weight.shape == (8 + 2 * 4, 8), "2 heads of 2 for keys, 2 for values"
    for name in ("in_proj_weight", "in_proj_bias"):
        small = getattr(shared, name).data
        small[...] = rng.normal(size=small.shape)
        q, k, v = np.split(small, [8, 12])
        k, v = (np.repeat(x.reshape(2, 2, -1), 2, axis=0).reshape(q.shape) for x in (k, v))
        getattr(every, name).data[...] = np.concatenate([q, k, v])
    every.out_proj.load_state_dict(shared.out_proj.state_dict())
    x = rng.normal(size=(2, 5, 8))
    np.testing.assert_allclose(shared(Tensor(x)).data, every(Tensor(x)).data, rtol=1e-10)


def test_heads_of_another_size_than_the_width_over_their_number(rng):
    layer = MultiheadAttention(6, 2, head_dim=5, num_kv_heads=1)
    assert layer.in_proj_weight.shape == (20, 6) and layer.out_proj.weight.shape == (6, 10)
    assert layer(Tensor(rng.normal(size=(2, 3, 6)).astype(np.float32))).shape == (2, 3, 6)


def test_another_attend_stands_in():
    seen = []

    def attend(q, kv=None, kept=None, **options):
        seen.append((q.shape, options["heads"], options["kv_heads"]))
        return q[..., :8]

    layer = MultiheadAttention(8, 4, num_kv_heads=2, attend=attend)
    layer(Tensor(np.zeros((2, 3, 8), np.float32)))
    assert seen == [((2, 3, 16), 4, 2)]


def test_dropout_takes_shares_away_in_training_alone(rng):
    x = Tensor(rng.normal(size=(4, 6, 8)).astype(np.float32))
    layer, whole = MultiheadAttention(8, 2, dropout=0.5), MultiheadAttention(8, 2)
    whole.load_state_dict(layer.state_dict())
    assert not np.allclose(layer(x).data, layer(x).data)
    manual_seed(3)
    first = layer(x).data
    manual_seed(3)
    np.testing.assert_array_equal(layer(x).data, first, "the same seed drops the same")
    np.testing.assert_array_equal(layer.eval()(x).data, whole(x).data)
    layer.train()
    mean = np.mean([layer(x).data for _ in range(1500)], axis=0)
    np.testing.assert_allclose(mean, whole(x).data, atol=0.1, err_msg="the mean stays the same")


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        ((8, 3), {}, "embed_dim=8 .* num_heads=3"),
        ((8, 0), {}, "0 heads"),
        ((8, 4), {"num_kv_heads": 3}, "4 heads .* 3 keys"),
        ((8, 4), {"num_kv_heads": 0}, "0 keys"),
        ((8, 2), {"dropout": 1.0}, "dropout .* 1.0"),
        ((8, 2), {"dropout": math.nan}, "dropout .* nan"),
        ((8, 2), {"dropout": -0.1}, "dropout .* -0.1"),
    ],
)
def test_sizes_that_make_no_layer(args, options, said):
    with pytest.raises(ValueError, match=said):
        MultiheadAttention(*args, **options)


def test_inputs_that_do_not_fit():
    layer, good = MultiheadAttention(8, 2), Tensor(np.zeros((2, 3, 8), np.float32))
    bad = Tensor(np.zeros((2, 3, 6), np.float32))
    for args in [(bad,), (good, bad)]:
        with pytest.raises(ValueError, match=r"8 features .*\(2, 3, 6\)"):
            layer(*args)
    with pytest.raises(TypeError, match="booleans, or floats .* not int64"):
        layer(good, mask=np.ones((3, 3), np.int64))
    with pytest.raises(ValueError, match=r"\(4, ?4\)"):
        layer(good, mask=np.ones((4, 4), bool))
    with pytest.raises(ValueError, match="even, not 3"):
        MultiheadAttention(6, 2, positions=Rotary())(Tensor(np.zeros((1, 2, 6), np.float32)))


def test_a_layer_shows_its_heads():
    assert "8, heads=4 (keys and values: 2)" in repr(MultiheadAttention(8, 4, num_kv_heads=2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("score", [-300, -30, 30, 300])
def test_large_and_small_scores_are_in_range(score, dtype):
    q = np.array([[[1.0], [0.0]]], dtype)
    kv = np.array([[[score, 1.0], [score, 3.0]]], dtype)
    y = attend(q, kv, heads=1)
    np.testing.assert_allclose(y, [[[2.0], [2.0]]], rtol=1e-3, err_msg="equal scores, equal shares")


def test_no_answer_depends_on_what_else_is_in_the_batch(rng):
    packed = rng.normal(size=(3, 6, 24)).astype(np.float32)
    mask = np.ones((3, 1, 6, 6), bool)
    alone = attend(packed[:1], heads=2, mask=mask[:1])
    packed[1, 0] *= 100
    mask[2] = False
    assert np.array_equal(attend(packed, heads=2, mask=mask)[:1], alone)
