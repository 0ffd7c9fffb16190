"""Positions: what each scheme adds or turns, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_07_attention import (
    ALiBi,
    LearnedPositions,
    Positions,
    Rotary,
    SinusoidalPositions,
    rotate,
)
from chapter_07_attention.alibi import slopes
from chapter_07_attention.positions import sinusoids
from utils import Tensor, check_gradients


def zeros(*shape):
    return Tensor(np.zeros(shape, np.float64))


def test_the_base_of_all_schemes_does_nothing(rng):
    x, none = Tensor(rng.normal(size=(2, 3, 4))), Positions()
    assert none.embed(x) is x and none.turn(x, 2, 2) is x and none.bias(3, 3) is None


def test_sinusoids_by_hand():
    table = SinusoidalPositions().embed(zeros(1, 3, 4)).data[0]
    # Pairs side by side: place / 10000^0, and place / 10000^(2/4).
    expected = [[np.sin(t), np.cos(t), np.sin(t / 100), np.cos(t / 100)] for t in range(3)]
    np.testing.assert_allclose(table, expected)
    half = SinusoidalPositions(0.5).embed(zeros(1, 3, 4)).data[0]
    np.testing.assert_allclose(half, table / 2)
    odd = SinusoidalPositions().embed(zeros(1, 3, 5)).data[0]
    assert odd.shape == (3, 5) and np.allclose(odd[:, 0], np.sin(range(3)))


def test_a_table_of_sinusoids_by_hand():
    expected = [
        [0, 1, 0, 1, 0],
        [np.sin(1), np.cos(1), np.sin(10_000**-0.4), np.cos(10_000**-0.4), np.sin(10_000**-0.8)],
    ]
    table = sinusoids(2, 5)
    assert table.dtype == np.float64 and table.shape == (2, 5), "an odd size lacks the last cosine"
    np.testing.assert_allclose(table, expected)
    assert not table.flags.writeable, "the table is kept: who writes to it spoils it for all"


def test_a_shift_of_sinusoids_is_a_rotation_whatever_the_place():
    table = SinusoidalPositions().embed(zeros(1, 40, 16)).data[0]
    products = table @ table.T
    for apart in (0, 1, 7):
        same = np.diagonal(products, apart)
        np.testing.assert_allclose(same, same[0], err_msg="products depend on the distance alone")


def test_sinusoids_leave_dtype_and_batch_alone(rng):
    x = rng.normal(size=(3, 5, 6)).astype(np.float32)
    y = SinusoidalPositions().embed(Tensor(x)).data
    assert y.dtype == np.float32
    np.testing.assert_allclose((y - x)[0], (y - x)[2], atol=1e-6)
    assert list(SinusoidalPositions().parameters()) == [], "nothing is learnt"


def test_learned_positions_add_a_vector_a_place(rng):
    scheme = LearnedPositions(6, 4, rng).astype(np.float64)
    x = rng.normal(size=(2, 3, 4))
    np.testing.assert_allclose(scheme.embed(Tensor(x)).data, x + scheme.weight.data[:3])
    scheme.embed(Tensor(x)).sum().backward()
    assert scheme.weight.grad.tolist() == [[2.0] * 4] * 3 + [[0.0] * 4] * 3
    with pytest.raises(ValueError, match="6 places are known, not 7"):
        scheme.embed(zeros(1, 7, 4))


def pair_by_place(theta=10_000.0, length=9, size=8):
    """One query and one key put at every place: all products (T, T)."""
    rng = np.random.default_rng(5)
    q, k = (np.tile(rng.normal(size=size), (1, length, 1)) for _ in range(2))
    turned = [Rotary(theta).turn(Tensor(x), size, 1).data[0] for x in (q, k)]
    return (q, k), turned, turned[0] @ turned[1].T


@pytest.mark.parametrize("theta", [10_000.0, 10.0])
def test_rotary_products_depend_on_the_distance_alone(theta):
    _, _, products = pair_by_place(theta)
    for apart in range(-8, 9):
        same = np.diagonal(products, apart)
        np.testing.assert_allclose(same, same[0], err_msg=f"{apart} places apart")
    assert np.ptp(products[0]) > 0.1, "and do depend on it"


def test_rotary_positions_keep_the_length_and_the_first_place():
    (q, _), (turned, _), _ = pair_by_place()
    np.testing.assert_allclose((turned**2).sum(axis=-1), (q[0] ** 2).sum(axis=-1))
    np.testing.assert_allclose(turned[0], q[0, 0], err_msg="the first place is turned by 0")
    assert np.abs(turned[1:] - q[0, 1:]).max(axis=-1).min() > 0.1


def test_rotary_pairs_are_halves_by_hand():
    x = np.array([[[9.0, 9, 9, 9], [1.0, 2.0, 0.0, 0.0]]])
    expected = [np.cos(1), 2 * np.cos(0.01), np.sin(1), 2 * np.sin(0.01)]
    np.testing.assert_allclose(rotate(x, size=4, count=1)[0, 1], expected)


def test_rotary_positions_leave_values_alone(rng):
    x = rng.normal(size=(2, 4, 6 * 4))
    turned = Rotary().turn(Tensor(x), 4, 5).data
    np.testing.assert_array_equal(turned[..., 20:], x[..., 20:], "only queries and keys are turned")
    assert (turned[:, 1:, :20] != x[:, 1:, :20]).any(axis=-1).all()


def test_rotary_places_may_be_given(rng):
    x, places = rng.normal(size=(1, 5, 4)), np.array([4, 0, 4])
    whole = rotate(x, size=4, count=1)
    found = rotate(x[:, places], size=4, count=1, places=places)
    np.testing.assert_allclose(found, whole[:, places], err_msg="a row is turned by its own place")


def test_the_gradient_of_turning_is_turned_back(rng):
    x = rng.normal(size=(2, 3, 12))
    before, options = x.copy(), {"size": 4, "count": 2, "theta": 10.0}
    check_gradients(lambda x: rotate(x, **options), [x])
    turned = rotate(x, **options)
    np.testing.assert_array_equal(x, before, err_msg="the argument is not yours to change")
    assert not np.shares_memory(turned, x), "the caller may write to what is returned"


def test_gradients_of_every_scheme(rng):
    for scheme in (SinusoidalPositions(), LearnedPositions(5, 4).astype(np.float64)):
        check_gradients(scheme.embed, [rng.normal(size=(2, 3, 4))])
    check_gradients(lambda x: Rotary(10.0).turn(x, 4, 2), [rng.normal(size=(2, 3, 12))])


def test_slopes_by_hand():
    # The paper's: 1/2^1 ... 1/2^8 for 8 heads; for 12 every second of those for 16 besides.
    np.testing.assert_allclose(slopes(8), [2.0**-i for i in range(1, 9)])
    np.testing.assert_allclose(slopes(12)[8:], [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5])
    np.testing.assert_allclose(slopes(1), [2.0**-8])
    for heads in range(1, 40):
        found = slopes(heads)
        assert found.shape == (heads,) and len(set(found)) == heads, "a slope for each head"
        assert ((found > 0) & (found < 1)).all()


def test_alibi_falls_with_the_distance(rng):
    bias = ALiBi(4).bias(3, 5)
    assert bias.shape == (4, 3, 5)
    for head, slope in enumerate(slopes(4)):
        for t in range(3):
            for s in range(t + 3):
                # The queries are the last three of the five places.
                assert bias[head, t, s] == pytest.approx(-slope * (t + 2 - s))
    assert list(ALiBi(4).parameters()) == [], "nothing is learnt"


def test_tables_that_are_kept_cannot_be_spoilt():
    bias = ALiBi(2).bias(3, 3)
    with pytest.raises(ValueError, match="read-only"):
        bias += 1
    np.testing.assert_array_equal(ALiBi(2).bias(3, 3), bias)
