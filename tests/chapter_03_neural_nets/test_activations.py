"""Activations: their formulas, their gradients, and what they do where floats end."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    elu,
    gelu,
    leaky_relu,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from utils import Tensor, check_gradients

logistic = lambda x: 1 / (1 + math.exp(-x))
normal_below = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))
tanh_form = lambda x: math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)

# Ours, and the formula of the paper for one number.
FORMULAS = {
    "relu": (relu, lambda x: max(x, 0)),
    "leaky_relu": (leaky_relu, lambda x: x if x > 0 else 0.01 * x),
    "leaky_relu 0.3": (lambda x: leaky_relu(x, 0.3), lambda x: x if x > 0 else 0.3 * x),
    "elu": (elu, lambda x: x if x > 0 else math.expm1(x)),
    "elu 2": (lambda x: elu(x, 2.0), lambda x: x if x > 0 else 2 * math.expm1(x)),
    "tanh": (tanh, math.tanh),
    "sigmoid": (sigmoid, logistic),
    "softplus": (softplus, lambda x: math.log1p(math.exp(x))),
    "gelu": (gelu, lambda x: x * normal_below(x)),
    "gelu tanh": (
        lambda x: gelu(x, "tanh"),
        lambda x: x / 2 * (1 + math.tanh(tanh_form(x))),
    ),
    "silu": (silu, lambda x: x * logistic(x)),
}
# Where x goes to minus infinity, and to infinity.
LIMITS = {
    "relu": (0, "x"),
    "elu": (-1, "x"),
    "tanh": (-1, 1),
    "sigmoid": (0, 1),
    "softplus": (0, "x"),
    "gelu": (0, "x"),
    "gelu tanh": (0, "x"),
    "silu": (0, "x"),
}
MODULES = [
    (ReLU(), relu),
    (LeakyReLU(), leaky_relu),
    (LeakyReLU(0.3), lambda x: leaky_relu(x, 0.3)),
    (ELU(), elu),
    (ELU(alpha=2.0), lambda x: elu(x, 2.0)),
    (Tanh(), tanh),
    (Sigmoid(), sigmoid),
    (Softplus(), softplus),
    (GELU(), gelu),
    (GELU(approximate="tanh"), lambda x: gelu(x, "tanh")),
    (SiLU(), silu),
]


@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_the_formulas(name):
    ours, formula = FORMULAS[name]
    xs = np.array([-9, -3, -1, -0.5, -1e-3, 0, 1e-3, 0.5, 1, 3, 9])
    np.testing.assert_allclose(ours(Tensor(xs)).data, [formula(x) for x in xs], atol=1e-13)
    single = ours(Tensor(xs.astype(np.float32)))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.data, [formula(x) for x in xs], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients(name, rng):
    # Away from 0, where some bend.
    xs = rng.uniform(0.05, 3, (3, 4)) * rng.choice([-1, 1], (3, 4))
    check_gradients(FORMULAS[name][0], [xs], order=2, tolerance=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LIMITS)
def test_far_from_zero_they_saturate_and_stay_finite(name, dtype):
    x = Tensor(np.array([-1000, 1000], dtype), requires_grad=True)
    y = FORMULAS[name][0](x)
    expected = [1000 if limit == "x" else limit for limit in LIMITS[name]]
    np.testing.assert_allclose(y.data, expected, atol=1e-6)
    y.backward(np.ones(2, dtype))
    slopes = [1 if limit == "x" else 0 for limit in LIMITS[name]]
    np.testing.assert_allclose(x.grad, slopes, atol=1e-6, err_msg="the gradient at -1000, 1000")


@pytest.mark.parametrize(
    "name, slope", [("relu", 0), ("leaky_relu", 0.01), ("elu", 1), ("elu 2", 2)]
)
def test_at_the_bend_the_gradient_is_that_from_below(name, slope):
    x = Tensor([0.0, -0.0], requires_grad=True)
    FORMULAS[name][0](x).backward(np.ones(2, np.float32))
    np.testing.assert_allclose(x.grad, slope, rtol=1e-6, err_msg="no mean of both sides")


@pytest.mark.parametrize("module, function", MODULES, ids=lambda x: repr(x))
def test_modules_call_the_functions(module, function, rng):
    x = Tensor(rng.normal(size=(2, 3)))
    np.testing.assert_array_equal(module(x).data, function(x).data)
    assert not list(module.parameters()) and not module.state_dict()


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 1, 2)])
@pytest.mark.parametrize("name", FORMULAS)
def test_any_shape(name, shape):
    y = FORMULAS[name][0](Tensor(np.zeros(shape, np.float32), requires_grad=True))
    assert y.shape == shape and y.dtype == np.float32
    y.backward(np.ones(shape, np.float32))


def test_the_tanh_form_of_gelu_is_near_but_not_equal():
    xs = Tensor(np.linspace(-6, 6, 1001))
    gap = np.abs(gelu(xs).data - gelu(xs, "tanh").data).max()
    assert 1e-4 < gap < 5e-4


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_sums_to_one_along_its_axis(axis, rng):
    x = Tensor(rng.normal(size=(3, 4)) * 100)
    p = Softmax(axis)(x).data
    np.testing.assert_allclose(p.sum(axis=axis), 1)
    log_p = LogSoftmax(axis)(x).data
    np.testing.assert_allclose(log_p[p > 1e-300], np.log(p[p > 1e-300]), atol=1e-14)


def test_what_each_says_of_itself():
    assert [repr(module) for module, _ in MODULES[:5]] == [
        "ReLU()",
        "LeakyReLU(negative_slope=0.01)",
        "LeakyReLU(negative_slope=0.3)",
        "ELU(alpha=1.0)",
        "ELU(alpha=2.0)",
    ]
    assert repr(GELU(approximate="tanh")) == "GELU(approximate='tanh')"
    assert repr(LogSoftmax(1)) == "LogSoftmax(dim=1)"


def test_an_unknown_form_of_gelu_is_named():
    with pytest.raises(ValueError, match="'erf'"):
        gelu(Tensor([1.0]), "erf")
