"""Chapter 6's kernels beside their composed forms: values, gradients, second derivatives."""

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
    kernels_of,
    tensors,
)

import chapter_06_hierarchical as chapter_06
from utils import Tensor

KERNELS = kernels_of(chapter_06)

CONVOLUTIONS = [
    case("convolution", (2, 3, 5), (4, 3, 3), (4,)),
    case("convolution", (2, 3, 5), (4, 3, 3)),
    case("convolution", (2, 3, 5), (4, 3, 3), None),
    case("convolution", (2, 2, 6), (2, 2, 2), (2,), stride=2, padding=1, dilation=2),
    case("convolution", (2, 2, 6), (2, 2, 2), (2,), padding=[(3, 0)], dilation=3),
    case("convolution", (2, 2, 6), (3, 2, 4), padding="same"),
    case("convolution", (2, 2, 5, 4), (3, 2, 3, 2), (3,)),
    case("convolution", (2, 2, 5, 4), (3, 2, 3, 2), (3,), stride=(2, 1), padding=(1, 2)),
    case("convolution", (1, 4, 5, 5), (6, 2, 2, 2), (6,), groups=2, dilation=(2, 1)),
    case("convolution", (2, 3, 4, 4), (3, 1, 3, 3), (3,), groups=3, padding=1),
    case("convolution", (2, 3, 4, 4), (6, 1, 3, 3), groups=3, stride=2),
    case("convolution", (1, 1, 3, 3, 3), (2, 1, 2, 2, 2), (2,)),
]
TRANSPOSED = [
    case("transposed_convolution", (2, 3, 4), (3, 2, 3), (2,)),
    case("transposed_convolution", (2, 3, 4), (3, 2, 3), stride=2, padding=1, output_padding=1),
    case("transposed_convolution", (2, 4, 3), (4, 1, 2), (2,), groups=2, dilation=2),
    case("transposed_convolution", (2, 2, 3, 3), (2, 3, 2, 2), (3,), stride=2),
    case("transposed_convolution", (1, 2, 3, 2), (2, 1, 3, 3), (2,), groups=2, padding=1),
]
POOLS = [
    *(case(name, (2, 3, 6), kernel_size=2) for name in ("max_pool", "average_pool")),
    *(case(name, (2, 3, 5, 4), kernel_size=2) for name in ("max_pool", "average_pool")),
    *(
        case(name, (2, 2, 5, 5), kernel_size=3, stride=2, padding=1)
        for name in ("max_pool", "average_pool")
    ),
    case("max_pool", (2, 2, 7), kernel_size=(3,), stride=1, dilation=2),
    case("average_pool", (2, 2, 5), kernel_size=3, padding=1, count_include_pad=False),
]
SIZES = {"tanh": (1, 1), "relu": (1, 1), "gru": (3, 1), "lstm": (4, 2)}  # gates, states


def recurrent(cell, batch_sizes, hidden=2, bias=True):
    gates, states = SIZES[cell]
    args = [(sum(batch_sizes), gates * hidden), (gates * hidden, hidden)]
    args += [(gates * hidden,) if bias else None, *[(batch_sizes[0], hidden)] * states]
    return case("recur", *args, cell=cell, batch_sizes=batch_sizes)


RECURRENCES = [
    *(recurrent(cell, sizes) for cell in SIZES for sizes in [(2, 2), (3, 3, 1, 1)]),
    *(recurrent(cell, (2, 1), bias=False) for cell in SIZES),
]
USUAL = [*CONVOLUTIONS, *TRANSPOSED, *POOLS, *RECURRENCES]
UNUSUAL = [
    case("convolution", (0, 2, 5), (3, 2, 2), (3,)),
    case("convolution", (2, 0, 5), (3, 0, 2), (3,)),
    case("convolution", (2, 2, 5), (0, 2, 2), (0,)),
    case("transposed_convolution", (0, 2, 5), (2, 3, 2), (3,)),
    *(case(name, (0, 2, 4, 4), kernel_size=2) for name in ("max_pool", "average_pool")),
    *(case(name, (2, 0, 4, 4), kernel_size=2) for name in ("max_pool", "average_pool")),
    case("max_pool", np.round(np.random.default_rng(0).normal(size=(2, 3, 6, 6))), kernel_size=3),
]


def test_every_kernel_of_the_chapter_has_cases():
    assert set(KERNELS) == {c.name for c in USUAL} | {"tree_lstm"}  # in test_tree_lstm.py
    assert set(KERNELS) <= set(chapter_06.__all__), "the package exports its kernels"


@pytest.mark.parametrize("case", [*USUAL, *UNUSUAL], ids=str)
def test_fused_equals_composed(case):
    agree(KERNELS[case.name], tensors(case.arrays()), **case.options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", USUAL, ids=str)
def test_whatever_the_layout_in_memory(case, layout):
    agree_in_layout(KERNELS[case.name], case, layout)


@pytest.mark.parametrize("case", USUAL, ids=str)
def test_only_some_gradients_are_wanted(case):
    agree_when_some_are_wanted(KERNELS[case.name], case)


@pytest.mark.parametrize("case", [c for c in USUAL if np.prod(c.args[0]) <= 60], ids=str)
def test_second_derivatives(case):
    agree_twice_derived(KERNELS[case.name], case)


def test_one_tensor_as_input_and_weight(rng):
    x = Tensor(rng.normal(size=(3, 3, 4)), requires_grad=True)
    agree(KERNELS["convolution"], [x, x], padding=1)


@pytest.mark.parametrize("case", [CONVOLUTIONS[7], TRANSPOSED[1], POOLS[4]], ids=str)
def test_the_inputs_are_left_as_they_were(case):
    arrays = case.arrays()
    before = [a.copy() for a in arrays]
    agree(KERNELS[case.name], tensors(arrays), **case.options)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before)), "a kernel wrote to its input"
