"""Every kernel beside its composed form in float64: values, gradients, second derivatives.

A kernel without a case fails the first test, so whoever adds one adds its cases here.
"""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import (
    LAYOUTS,
    agree,
    agree_in_layout,
    agree_twice_derived,
    agree_when_some_are_wanted,
    case,
    kept,
    kernels_of,
    tensors,
    whole,
)

import chapter_05_gradient_mastery as chapter_05
from utils import Tensor, grad

KERNELS = kernels_of(chapter_05)


ACTIVATIONS = ("relu", "tanh", "gelu", "gelu_tanh", "silu")
SHAPES = [(4,), (5, 4), (2, 3, 4), (2, 3, 2, 4)]
CHANNELS = [(5, 3), (2, 3, 4), (2, 3, 2, 4), (3, 3, 1)]
EMPTY = [(0, 4), (2, 0, 4)]
AFFINE = [(), (None, None), (None, (4,)), ((4,), None), ((4,),), ((1,), (1,)), ((), ())]

USUAL = [
    *(case("linear", shape, (3, 4), (3,)) for shape in SHAPES),
    case("linear", (5, 4), (3, 4)),
    case("linear", (5, 4), (3, 4), None),
    *(case("linear_activation", (5, 4), (3, 4), (3,), activation=name) for name in ACTIVATIONS),
    *(case("linear_activation", (2, 3, 4), (3, 4), activation=name) for name in ACTIVATIONS),
    *(case("linear_activation", shape, (3, 4), (3,)) for shape in SHAPES),
    *(case("gelu", shape, approximate=kind) for shape in SHAPES for kind in ("none", "tanh")),
    *(case("silu", shape) for shape in SHAPES),
    *(case(name, shape) for name in ("softmax", "log_softmax") for shape in SHAPES),
    *(case(name, (2, 3, 4), axis=k) for name in ("softmax", "log_softmax") for k in (0, 1, -2)),
    *(case("mean_cross_entropy", shape, whole(shape[:-1], 4)) for shape in SHAPES),
    *(case("embedding", (6, 3), whole(shape, 6)) for shape in [(3,), (2, 9), (2, 3, 4)]),
    *(case("batch_norm", shape, (3,), (3,)) for shape in CHANNELS),
    *(case("batch_norm", (5, 4), *affine, eps=0.1) for affine in AFFINE),
    *(case("layer_norm", shape, (4,), (4,)) for shape in SHAPES),
    *(case("layer_norm", (5, 4), *affine, eps=0.1) for affine in AFFINE),
    *(case("layer_norm", (2, 3, 4), *[(2, 3, 4)[-n:]] * 2, dims=n) for n in (1, 2, 3)),
    *(case("rms_norm", shape, (4,)) for shape in SHAPES),
    *(case("rms_norm", (5, 4), *affine[:1], eps=0.1) for affine in AFFINE),
    *(case("rms_norm", (2, 3, 4), (2, 3, 4)[-n:], dims=n) for n in (1, 2, 3)),
    *(case("masked", shape, kept(*shape), scale=1.5) for shape in SHAPES),
    case("masked", (5, 4), kept(5, 4)),
]

UNUSUAL = [  # no axes, no examples, no features, parameters that broadcast, a large table
    *(case(name, ()) for name in ("gelu", "silu", "softmax", "log_softmax")),
    case("gelu", (), approximate="tanh"),
    case("masked", (), np.array(True), scale=1.5),
    case("embedding", (6, 3), np.array(4)),
    *(case("linear", shape, (3, 4), (3,)) for shape in EMPTY),
    *(case("linear_activation", shape, (3, 4), (3,), activation="gelu") for shape in EMPTY),
    *(case(name, (5, 0), (3, 0), (3,)) for name in ("linear", "linear_activation")),
    *(case(name, (5, 4), (0, 4), (0,)) for name in ("linear", "linear_activation")),
    *(case(name, s) for s in [*EMPTY, (4, 0)] for name in ("gelu", "silu")),
    *(case(name, s) for s in EMPTY for name in ("softmax", "log_softmax")),
    *(case(name, (4, 0), axis=0) for name in ("softmax", "log_softmax")),
    *(case(name, (2, 3, 4), axis=k) for k in (None, (0, 2)) for name in ("softmax", "log_softmax")),
    *(case("layer_norm", shape, (4,), (4,)) for shape in EMPTY),
    *(case("rms_norm", shape, (4,)) for shape in EMPTY),
    case("layer_norm", (0, 3, 4), (3, 4), (3, 4), dims=2),
    case("batch_norm", (4, 0), (0,), (0,)),
    case("batch_norm", (1, 3), (3,), (3,)),
    *(case("masked", shape, kept(*shape), scale=2.0) for shape in [*EMPTY, (4, 0)]),
    case("masked", (5, 4), kept(1, 4), scale=2.0),
    case("masked", (5, 4), kept(5, 1), scale=2.0),
    *(case("embedding", (6, 3), np.zeros(shape, np.int64)) for shape in [(0,), (2, 0)]),
    case("embedding", (6, 0), whole((5,), 6)),
    case("embedding", (6, 3), np.array([-1, 5, 0, -6])),
    case("embedding", (1500, 2), whole((3, 40), 30)),
    case("embedding", (1500, 2), np.zeros((0,), np.int64)),
    case("embedding", (1500, 2), np.array([-1, 1499, 3])),
    case("mean_cross_entropy", (5, 1), whole((5,), 1)),
    case("mean_cross_entropy", (5, 4), np.array([0, 3, 1, 2, 2], np.uint8)),
    *(case("linear", (5, 4), (3, 4), bias) for bias in [(1,), (), (1, 3)]),
    *(case("linear_activation", (5, 4), (3, 4), bias) for bias in [(1,), (), (1, 3)]),
    *(case("layer_norm", (2, 3, 4), p, p) for p in [(1, 4), (1, 1)]),
    case("layer_norm", (2, 3, 4), (3, 1), (1, 4), dims=2),
    case("rms_norm", (2, 3, 4), (1, 4)),
    *(case("batch_norm", (2, 3, 4), p, p) for p in [(1,), (), (1, 3)]),
]


def test_every_kernel_of_the_chapter_has_cases():
    assert len(KERNELS) >= 11 and set(KERNELS) == {c.name for c in USUAL}
    assert set(KERNELS) <= set(chapter_05.__all__), "the package exports its kernels"


def test_a_wrong_kernel_is_noticed():
    def wrong(x):
        return KERNELS["silu"](x) * (1 + 1e-11)

    wrong.composed = KERNELS["silu"].composed
    with pytest.raises(AssertionError, match="the value"):
        agree(wrong, tensors([np.array([1.0, 2.0])]))


@pytest.mark.parametrize("case", [*USUAL, *UNUSUAL], ids=str)
def test_fused_equals_composed(case):
    agree(KERNELS[case.name], tensors(case.arrays()), **case.options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", USUAL, ids=str)
def test_whatever_the_layout_in_memory(case, layout):
    agree_in_layout(KERNELS[case.name], case, layout)


@pytest.mark.parametrize("case", [c for c in USUAL if c.name != "embedding"], ids=str)
def test_an_input_made_by_broadcasting_gathers_what_all_its_places_received(case):
    x, *others = case.arrays()
    row = Tensor(x[:1], requires_grad=True)
    agree(
        KERNELS[case.name], [np.broadcast_to(row, x.shape), *others], wanted=[row], **case.options
    )


@pytest.mark.parametrize("case", USUAL, ids=str)
def test_only_some_gradients_are_wanted(case):
    agree_when_some_are_wanted(KERNELS[case.name], case)


TWICE = {
    "linear": lambda x, y: (x, x, y[0]),
    "linear_activation": lambda x, y: (x, x),
    "layer_norm": lambda x, y: (x[0], x[0], x[0]),
    "rms_norm": lambda x, y: (x, x[1]),
    "batch_norm": lambda x, y: (x, x[0], x[0]),
}


@pytest.mark.parametrize("name", TWICE)
def test_one_tensor_in_two_places(name, rng):
    x, y = tensors(rng.normal(size=(2, 3, 3)))
    agree(KERNELS[name], TWICE[name](x, y), wanted=[x])


@pytest.mark.parametrize("name", sorted(set(TWICE) - {"batch_norm"}))
def test_the_same_tensor_itself_twice(name, rng):
    x = Tensor(rng.normal(size=(3,) if name.endswith("norm") else (3, 3)), requires_grad=True)
    agree(KERNELS[name], [x, x])


@pytest.mark.parametrize("case", [c for c in USUAL if np.prod(c.args[0]) <= 24], ids=str)
def test_second_derivatives(case):
    agree_twice_derived(KERNELS[case.name], case)


def test_batch_norm_with_moments_that_are_known(rng):
    args = tensors([rng.normal(size=s) for s in [(4, 3, 2), (3,), (3,)]])
    x = args[0].data
    moments = x.mean(axis=(0, 2)), x.var(axis=(0, 2))
    agree(KERNELS["batch_norm"], args, moments=moments)
    y, expected = KERNELS["batch_norm"](*args, moments=moments), KERNELS["batch_norm"](*args)
    for a, b in zip(*(grad(v.sum() * v.mean(), args, create_graph=True) for v in (y, expected))):
        np.testing.assert_allclose(a.data, b.data, 1e-12, 1e-12, err_msg="under create_graph")


@pytest.mark.parametrize("name", ["gelu", "linear_activation"])
def test_an_unknown_kind_is_named(name):
    option = {"gelu": {"approximate": "erf"}, "linear_activation": {"activation": "sine"}}[name]
    args = [np.ones((2, 2))] * (1 if name == "gelu" else 2)
    with pytest.raises(ValueError, match=next(iter(option.values()))):
        KERNELS[name](*args, **option)
