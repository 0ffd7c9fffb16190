"""Initialisers: what they promise of the numbers, measured, and what that does to a signal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import (
    SCHEMES,
    Identity,
    Parameter,
    ReLU,
    Tanh,
    calculate_gain,
    constant_,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    normal_,
    ones_,
    orthogonal_,
    uniform_,
    variances_through_depth,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
from chapter_03_neural_nets.initialization import fans
from utils import manual_seed

OUT, IN = 300, 500
HE = math.sqrt(2 / (1 + 0.5**2))  # the gain of a leaky relu of slope 0.5

# The initialiser, its standard deviation by formula, and whether it is uniform.
FORMULAS = {
    "uniform": (lambda w, rng: uniform_(w, -2, 4, rng), 6 / math.sqrt(12), True),
    "normal": (lambda w, rng: normal_(w, 1, 3, rng), 3, False),
    "xavier uniform": (lambda w, rng: xavier_uniform_(w, rng=rng), math.sqrt(2 / 800), True),
    "xavier normal": (lambda w, rng: xavier_normal_(w, 5 / 3, rng), 5 / 3 * 0.05, False),
    "he uniform": (lambda w, rng: kaiming_uniform_(w, rng=rng), math.sqrt(2 / 500), True),
    "he uniform, leaky": (
        lambda w, rng: kaiming_uniform_(w, 0.5, rng=rng),
        HE / math.sqrt(500),
        True,
    ),
    "he normal": (lambda w, rng: kaiming_normal_(w, rng=rng), math.sqrt(2 / 500), False),
    "he normal, fan_out": (
        lambda w, rng: kaiming_normal_(w, mode="fan_out", nonlinearity="relu", rng=rng),
        math.sqrt(2 / 300),
        False,
    ),
    "he normal, tanh": (
        lambda w, rng: kaiming_normal_(w, nonlinearity="tanh", rng=rng),
        5 / 3 / math.sqrt(500),
        False,
    ),
    "lecun": (lambda w, rng: lecun_normal_(w, rng=rng), math.sqrt(1 / 500), False),
    "lecun, gain": (lambda w, rng: lecun_normal_(w, 2.0, rng), 2 * math.sqrt(1 / 500), False),
}


MEANS = {"uniform": 1, "normal": 1}  # the others' is 0


def weight(*shape, dtype=np.float32):
    return Parameter(np.full(shape, np.nan, dtype))


@pytest.mark.parametrize("name", FORMULAS)
def test_the_standard_deviation_is_the_formula(name, rng):
    fill, std, uniform = FORMULAS[name]
    w = weight(OUT, IN)
    array = w.data
    assert fill(w, rng) is w and w.data is array, "fill in place and return the parameter"
    assert w.requires_grad and w.dtype == np.float32 and w.grad is None
    z = (w.data - MEANS.get(name, 0)) / std
    assert z.mean() == pytest.approx(0, abs=0.02), f"the mean should be {MEANS.get(name, 0)}"
    assert z.std() == pytest.approx(1, rel=0.01), f"the standard deviation should be {std:.4f}"
    if uniform:
        assert 0.999 < np.abs(z).max() / math.sqrt(3) < 1.0001, "the bound is sqrt(3) deviations"


@pytest.mark.parametrize("name", FORMULAS)
def test_the_numbers_are_distributed_as_promised(name, rng):
    fill, std, uniform = FORMULAS[name]
    z = np.sort((fill(weight(OUT, IN), rng).data.ravel() - MEANS.get(name, 0)) / std)
    if uniform:
        expected = np.clip((z / math.sqrt(3) + 1) / 2, 0, 1)
    else:
        expected = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z.tolist()])
    distance = np.abs(np.arange(len(z)) / len(z) - expected).max()
    # Kolmogorov's and Smirnov's test: 2.2 is passed once in 8,000 times.
    assert distance < 2.2 / math.sqrt(len(z)), "these are numbers of another distribution"


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 2), (4, 3, 2, 2)])
def test_fans_count_the_field_of_a_convolution(shape):
    field = math.prod(shape[2:])
    assert fans(weight(*shape)) == (shape[1] * field, shape[0] * field)


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (9, 9), (6, 2, 3), (30, 2, 2, 3), (1, 7)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal_rows_or_columns(shape, gain, rng):
    w = orthogonal_(weight(*shape, dtype=np.float64), gain, rng).data.reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_matrices_are_drawn_evenly():
    rng = np.random.default_rng(0)
    corners = [orthogonal_(weight(2, 2), rng=rng).data for _ in range(2000)]
    first, turns = np.array([w[0, 0] for w in corners]), np.array(
        [np.linalg.det(w) for w in corners]
    )
    assert np.mean(first > 0) == pytest.approx(0.5, abs=0.05), "QR alone fixes the signs"
    assert np.mean(turns > 0) == pytest.approx(0.5, abs=0.05), "half of them are reflections"


def test_constants():
    assert np.all(zeros_(weight(3)).data == 0) and np.all(ones_(weight(2, 2)).data == 1)
    assert np.all(constant_(weight(3), -2.5).data == -2.5)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
@pytest.mark.parametrize("name", ["xavier uniform", "he normal", "he normal, fan_out", "lecun"])
def test_a_layer_without_inputs_or_outputs(name, shape, rng):
    assert FORMULAS[name][0](weight(*shape), rng).shape == shape


@pytest.mark.parametrize("name", [*FORMULAS, "orthogonal"])
def test_the_same_seed_gives_the_same_numbers(name):
    fill = FORMULAS[name][0] if name in FORMULAS else lambda w, rng: orthogonal_(w, rng=rng)
    found = []
    for seed in (1, 1, 2):
        manual_seed(seed)
        found.append(fill(weight(4, 5), None).data)
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    given = [fill(weight(4, 5), np.random.default_rng(1)).data for _ in range(2)]
    assert np.array_equal(*given)


@pytest.mark.parametrize(
    "name, gain",
    [("linear", 1), ("sigmoid", 1), ("tanh", 5 / 3), ("relu", math.sqrt(2)), ("selu", 0.75)],
)
def test_gains(name, gain):
    assert calculate_gain(name) == pytest.approx(gain)


def test_the_gain_of_a_leaky_relu_depends_on_its_slope():
    assert calculate_gain("leaky_relu", 0) == pytest.approx(math.sqrt(2))
    assert calculate_gain("leaky_relu", 1) == pytest.approx(1)
    assert calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / 1.0001))
    with pytest.raises(ValueError, match="'swish'.*known: linear"):
        calculate_gain("swish")


@pytest.mark.parametrize("fill", [xavier_uniform_, kaiming_normal_, lecun_normal_, orthogonal_])
def test_a_vector_has_no_inputs_and_outputs(fill):
    with pytest.raises(ValueError, match=r"\(7,\)"):
        fill(weight(7))


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="'fan_avg'"):
        kaiming_normal_(weight(2, 2), mode="fan_avg")


# What it does to a signal


def ratio(values):
    """The last layer's variance over the first one's."""
    return values[-1] / values[0]


def through(scheme, activation, depth=30, width=128):
    rng = np.random.default_rng(0)
    return variances_through_depth(SCHEMES[scheme], activation, depth, width, 64, rng)


def test_he_keeps_the_signal_of_relus_where_others_lose_it():
    kept = through("He", ReLU)
    assert len(kept.activations) == len(kept.gradients) == 30
    assert 0.05 < ratio(kept.activations) < 20, "He: Var(w) = 2 / fan_in keeps a relu's signal"
    assert 0.05 < ratio(kept.gradients) < 20
    for scheme in ("LeCun", "Xavier"):
        lost = through(scheme, ReLU)
        # Each of 29 layers halves the variance.
        assert math.log2(ratio(lost.activations)) == pytest.approx(-29, abs=6), scheme
        assert math.log2(ratio(lost.gradients)) == pytest.approx(29, abs=6), scheme


def test_orthogonal_weights_keep_a_linear_signal_exactly():
    kept = through("orthogonal", Identity)
    np.testing.assert_allclose(kept.activations, kept.activations[0], rtol=0.02)
    np.testing.assert_allclose(kept.gradients, kept.gradients[0], rtol=0.02)


def test_weights_too_small_vanish_and_too_large_saturate():
    small = through("normal, std 0.01", Tanh)
    assert small.activations[-1] < 1e-40 and small.gradients[0] < 1e-40
    large = through("normal, std 1", Tanh)
    assert large.activations[-1] > 0.8, "nearly all units are at -1 or 1"
    assert large.gradients[0] > 1e6 * large.gradients[-1], "the gradients explode"


def test_the_measurement_by_hand():
    halves = variances_through_depth(
        lambda w, rng: constant_(w, 0.5), Identity, 3, 1, 100, np.random.default_rng(4)
    )
    first, second, third = halves.activations
    assert (second, third) == pytest.approx((first / 4, first / 16)), "y = x / 2 in every layer"
    assert halves.gradients[0] == pytest.approx(halves.gradients[2] / 16), "first layer first"
