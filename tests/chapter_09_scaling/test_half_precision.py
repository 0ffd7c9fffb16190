"""Numbers of 16 bits: what they hold, what is rounded, and what is kept."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from torch_twins import NO_TORCH

from chapter_05_gradient_mastery import cross_entropy, linear, linear_activation
from chapter_07_attention import GPT, GPTConfig
from chapter_09_scaling.half_precision import (
    KINDS,
    HalfLinear,
    half_linear,
    half_linear_composed,
    half_precision,
    pack,
    rounded,
    unpack,
)
from utils import Tensor, detect_anomaly, grad, manual_seed, no_grad

INF, NAN = np.inf, np.nan


def test_float16_s_numbers_by_hand():
    x = np.array([1 + 2**-11, 1 + 3 * 2**-11, 65519, 65520, -1e6, 2**-25, 2**-24, 3 * 2**-25, -0.0])
    expected = [1, 1 + 2**-9, 65504, INF, -INF, 0, 2**-24, 2**-23, -0.0]
    found = rounded(x.astype(np.float32), "float16")
    np.testing.assert_array_equal(found, np.float32(expected), "to the nearest, ties to even")
    assert np.signbit(found[-1]) and found.dtype == np.float32


def test_bfloat16_s_numbers_by_hand():
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, 3e38, 3.4e38, -3.4e38, 1e-40, INF, -0.0], np.float32)
    found = rounded(x, "bfloat16")
    np.testing.assert_array_equal(found[:2], np.float32([1, 1 + 2**-6]), "ties go to even")
    np.testing.assert_array_equal(found[3:5], [INF, -INF], "beyond the largest is infinity")
    assert abs(found[2] / 3e38 - 1) < 2**-8
    assert 0 < found[5] < 2e-40, "bfloat16 has float32's subnormal numbers"
    assert found[6] == INF and np.signbit(found[7])


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_nan_and_rounding_twice_is_rounding_once(kind, rng):
    x = (rng.normal(size=4000) * 10.0 ** rng.integers(-44, 38, 4000)).astype(np.float32)
    x[:3] = NAN, INF, -INF
    once = rounded(x, kind)
    assert np.isnan(once[0]) and np.isnan(once).sum() == 1
    np.testing.assert_array_equal(rounded(once, kind), once)


def test_all_numbers_of_float16_and_those_between_as_numpy_rounds_them():
    """Every number, every middle between two, and what lies on both sides of a middle."""
    numbers = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (numbers[1:] + numbers[:-1]) / 2
    near = [np.nextafter(middles, np.float32(to)) for to in (0, INF)]
    for x in (numbers, middles, *near):
        for signed in (x, -x):
            with np.errstate(all="ignore"):
                expected = signed.astype(np.float16)
            found = pack(signed)
            assert np.array_equal(found.view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_as_torch(kind, rng):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    x = (rng.normal(size=20_000) * 10.0 ** rng.integers(-44, 38, 20_000)).astype(np.float32)
    x[:4] = INF, -INF, 0.0, -0.0
    theirs = torch.tensor(x).to(getattr(torch, kind))
    assert np.array_equal(pack(x, kind).view(np.int16), theirs.view(torch.int16).numpy())
    assert np.array_equal(unpack(pack(x, kind), kind), theirs.float().numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_half_the_bytes(kind):
    x = np.zeros((3, 5), np.float32)
    assert pack(x, kind).nbytes * 2 == x.nbytes and unpack(pack(x, kind), kind).shape == (3, 5)


CASES = [(bias, activation) for bias in (True, False) for activation in (None, "relu", "gelu_tanh")]


def arguments(rng, bias=True, dtype=np.float32):
    shapes = [(2, 3, 4), (5, 4), (5,)][: 3 if bias else 2]
    return [rng.normal(size=s).astype(dtype) for s in shapes]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bias", "activation"), CASES)
def test_a_product_of_rounded_numbers_rounded(kind, bias, activation, rng):
    """Against the same in plain NumPy, and the gradients too."""
    x, w, *b = arguments(rng, bias)
    leaves = [Tensor(a, requires_grad=True) for a in (x, w, *b)]
    y = half_linear(*leaves, activation=activation, kind=kind)
    rx, rw = rounded(x, kind), rounded(w, kind)
    z = Tensor(rounded(rx @ rw.T + sum(b), kind), requires_grad=True)
    one = np.eye(5, dtype=np.float32)
    f = z * 1 if activation is None else linear_activation(z, one, activation=activation)
    np.testing.assert_array_equal(y.data, rounded(f.data, kind), "the value")
    g = rng.normal(size=y.shape).astype(np.float32)
    dz = rounded(grad(f, [z], rounded(g, kind))[0].data, kind)
    found = grad(y, leaves, g)
    flat = dz.reshape(-1, 5)
    expected = [rounded(dz @ rw, kind), rounded(flat.T @ rx.reshape(-1, 4), kind), flat.sum(0)]
    for what, a, e in zip(("x", "weight", "bias"), found, expected):
        np.testing.assert_allclose(
            a.data, e, 2**-7, 1e-5, err_msg=f"the gradient of {what}, of rounded numbers"
        )
    for what, a in zip(("x", "weight"), found):
        np.testing.assert_array_equal(
            a.data, rounded(a.data, kind), f"the gradient of {what} must itself be of 16 bits"
        )


@pytest.mark.parametrize(("bias", "activation"), CASES)
def test_near_the_layer_of_32_bits(bias, activation, rng):
    given = arguments(rng, bias)
    plain = linear if activation is None else linear_activation
    options = {} if activation is None else {"activation": activation}
    leaves = [Tensor(a, requires_grad=True) for a in given]
    y, expected = half_linear(*leaves, activation=activation), plain(*leaves, **options)
    np.testing.assert_allclose(y.data, expected.data, 3e-3, 3e-3)
    for a, e in zip(grad(np.sum(y), leaves), grad(np.sum(expected), leaves)):
        np.testing.assert_allclose(a.data, e.data, 2e-2, 2e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_its_composed_form(kind, rng):
    leaves = [Tensor(a, requires_grad=True) for a in arguments(rng)]
    y = half_linear(*leaves, activation="gelu_tanh", kind=kind)
    composed = half_linear_composed(*leaves, activation="gelu_tanh", kind=kind)
    np.testing.assert_allclose(y.data, composed.data, 2**-7, 1e-4)
    for a, e in zip(grad(np.sum(y), leaves), grad(np.sum(composed), leaves)):
        np.testing.assert_allclose(a.data, e.data, 2e-2, 2e-2)


def test_exact_where_nothing_is_rounded():
    """Small whole numbers fit into 16 bits, so the gradients can be held against differences."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.integers(-4, 5, size=s).astype(np.float64) for s in [(3, 4), (2, 4), (2,)])
    leaves = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    y = half_linear(*leaves)
    np.testing.assert_array_equal(y.data, x @ w.T + b)
    assert y.dtype == np.float64
    found = grad(np.sum(y * y), leaves)
    expected = grad(np.sum(linear(*leaves) ** 2), leaves)
    for a, e in zip(found, expected):
        np.testing.assert_array_equal(a.data, e.data)


def test_second_derivatives_go_through_as_if_rounding_had_slope_one():
    x = Tensor(np.array([[2.0, -1.0]]), requires_grad=True)
    w = Tensor(np.array([[3.0, 4.0]]), requires_grad=True)
    (dx,) = grad(np.sum(half_linear(x, w) ** 2), [x], create_graph=True)  # 2 (w x) w
    (dw,) = grad(np.sum(dx), [w])
    np.testing.assert_allclose(dw.data, [[2 * 7 * 2 + 2 * 2, 2 * 7 * -1 + 2 * 2]])


def kept_by(y):
    """The bytes of the arrays that a node saves besides the parameters."""
    return sum(a.nbytes for a in y.node.saved[:2] if isinstance(a, np.ndarray))


def test_what_is_kept_is_of_16_bits(rng):
    layer = HalfLinear(64, 64)
    x = Tensor(rng.normal(size=(8, 64)).astype(np.float32), requires_grad=True)
    y = layer(x * 1)
    assert kept_by(y) == x.data.nbytes / 2, "the input is kept in 16 bits"
    gc.collect()
    kept = [a for a in y.node.saved if isinstance(a, np.ndarray) and a.shape == x.shape]
    assert [a.dtype for a in kept] == [np.float16], "and nothing of its shape in 32"


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpt_of_16_bits(kind):
    config = GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16)
    rng = np.random.default_rng(1)
    ids, targets = rng.integers(11, size=(2, 4, 8))

    def made(**options):
        manual_seed(0)
        model = GPT(config, **options)
        cross_entropy(model(ids), targets).backward()
        return model

    plain, half = made(), made(**half_precision(kind))
    assert list(plain.state_dict()) == list(half.state_dict()), "weights pass either way"
    assert {p.dtype for p in half.parameters()} == {np.dtype(np.float32)}, "masters stay float32"
    for (name, p), q in zip(plain.named_parameters(), half.parameters()):
        far = np.abs(p.grad - q.grad).max() / np.abs(p.grad).max()
        assert 0 < far < 0.1, f"the gradient of {name} is {far:.2g} of its largest away"


def test_gradients_below_float16_s_range_are_lost_and_bfloat16_s_are_not():
    x = Tensor(np.ones((1, 2), np.float32), requires_grad=True)
    w = Tensor(np.ones((1, 2), np.float32))
    for kind, lost in (("float16", True), ("bfloat16", False)):
        y = half_linear(x, w, kind=kind)
        (dx,) = grad(y, [x], np.array([[1e-8]], np.float32))
        assert (dx.data == 0).all() == lost, f"1e-8 in {kind}"


def test_without_gradients_and_when_watched():
    layer = HalfLinear(2, 2)
    x = Tensor(np.full((1, 2), 1e6, np.float32))
    with no_grad():
        assert layer(x * 0).node is None
    with np.errstate(all="ignore"), detect_anomaly(), pytest.raises(
        FloatingPointError, match="half_linear made"
    ):
        layer(x)


def test_what_it_does_not_know():
    for wrong in (lambda: pack(np.ones(2), "float8"), lambda: HalfLinear(2, 2, kind="int8")):
        with pytest.raises(ValueError, match="float16 or bfloat16"):
            wrong()
    with pytest.raises(ValueError, match="'step'"):
        half_linear(Tensor(np.ones((1, 2))), Tensor(np.ones((1, 2))), activation="step")
