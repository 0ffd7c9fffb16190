"""Chapter 7's kernels beside their composed forms: values, gradients, second derivatives."""

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
)

import chapter_07_attention as chapter_07
from utils import Tensor, check_gradients, grad

KERNELS = kernels_of(chapter_07)

CAUSAL = np.tril(np.ones((3, 3), bool))
SOME = np.random.default_rng(7).random((2, 4, 3, 5)) < 0.6
SOME[..., 0] = True
BLIND = np.array([[True, False, True], [False, False, False], [True, True, True]])
BIAS = np.random.default_rng(6).normal(size=(2, 3, 3))
FORBIDDING = np.where(CAUSAL, 0.5, -np.inf)

ITSELF = [  # q holds its keys and values as well
    case("attend", (2, 3, 12), heads=2),
    case("attend", (2, 3, 12), heads=1),
    case("attend", (1, 3, 16), heads=4, kv_heads=2),
    case("attend", (1, 3, 12), heads=4, kv_heads=1),
    case("attend", (2, 3, 12), heads=2, mask=CAUSAL),
    case("attend", (2, 3, 12), heads=2, mask=FORBIDDING),
    case("attend", (2, 3, 12), heads=2, mask=BIAS),
    case("attend", (2, 3, 12), heads=2, mask=BLIND),
    case("attend", (2, 3, 12), heads=2, mask=np.array([True, True, False])),
    case("attend", (2, 3, 12), None, kept(2, 2, 3, 3), heads=2, kept_scale=1.5, mask=CAUSAL),
    case("attend", (1, 3, 16), None, kept(1, 4, 3, 3), heads=4, kv_heads=2, kept_scale=2.0),
]
MEMORY = [
    case("attend", (2, 3, 8), (2, 5, 16), heads=4),
    case("attend", (2, 3, 8), (2, 5, 8), heads=4, kv_heads=2, mask=SOME),
    case("attend", (2, 1, 6), (2, 4, 12), heads=3),
    case("attend", (1, 2, 4), (1, 3, 4), heads=2, kv_heads=1, mask=np.array([True, False, True])),
    case("attend", (2, 3, 8), (2, 5, 8), kept(2, 4, 3, 5), heads=4, kv_heads=2, kept_scale=1.25),
]
TURNS = [
    case("rotate", (2, 5, 12), size=4, count=2),
    case("rotate", (2, 5, 12), size=4, count=3, theta=50.0),
    case("rotate", (2, 3, 8), size=2, count=1),
    case("rotate", (1, 4, 6), size=6, count=1),
    case("rotate", (2, 3, 8), size=4, count=0),
]
GATES = [case("swiglu", shape) for shape in [(4,), (5, 4), (2, 3, 6), (2, 3, 2, 2)]]
USUAL = [*ITSELF, *MEMORY, *TURNS, *GATES]
UNUSUAL = [
    case("attend", (0, 3, 12), heads=2),
    case("attend", (0, 3, 12), heads=2, mask=CAUSAL),
    case("attend", (0, 3, 8), (0, 5, 16), heads=4),
    case("attend", (2, 0, 8), (2, 5, 16), heads=4),
    case("attend", (2, 3, 8), (2, 0, 16), heads=4),
    case("rotate", (0, 3, 8), size=4, count=1),
    case("rotate", (2, 0, 8), size=4, count=1),
    *(case("swiglu", shape) for shape in [(0, 4), (2, 0, 4), (4, 0)]),
]


def test_every_kernel_of_the_chapter_has_cases():
    assert set(KERNELS) == {c.name for c in USUAL}, "whoever adds a kernel adds its cases here"
    assert set(KERNELS) <= set(chapter_07.__all__), "the package exports its kernels"


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


def test_the_gradients_of_queries_keys_and_values_are_slopes(rng):
    def looked(queries, keys, values):  # arguments 0, 1 and 2 of what is said of an error
        packed = np.concatenate([queries, keys, values], axis=-1)
        return KERNELS["attend"](packed, heads=2, mask=CAUSAL)

    check_gradients(looked, rng.normal(size=(3, 2, 3, 4)))


@pytest.mark.parametrize("case", [ITSELF[7], ITSELF[10], MEMORY[1], MEMORY[4]], ids=str)
def test_the_gradients_of_attention_are_slopes(case):
    """A query that sees nothing, heads that share keys, a memory, and shares that are dropped."""
    floats = [a for a in case.arrays() if a is not None and a.dtype.kind == "f"]
    others = case.args[len(floats) :]
    check_gradients(lambda *x: KERNELS["attend"](*x, *others, **case.options), floats)


def numbers_in(case):
    return sum(int(np.prod(a)) for a in case.args if type(a) is tuple)


@pytest.mark.parametrize("case", [c for c in USUAL if numbers_in(c) <= 80], ids=str)
def test_second_derivatives(case):
    agree_twice_derived(KERNELS[case.name], case)


def test_one_tensor_asks_and_is_asked(rng):
    x = Tensor(rng.normal(size=(2, 3, 8)), requires_grad=True)
    agree(KERNELS["attend"], [x, x], heads=2, kv_heads=1)


@pytest.mark.parametrize("mask", [None, CAUSAL, BIAS], ids=["all", "causal", "biased"])
@pytest.mark.parametrize("size", [30.0, 300.0])
def test_scores_far_apart_lose_no_row(size, mask, rng):
    """One row's scores may lie hundreds below another's, or below its own that are masked."""
    x = rng.normal(size=(2, 3, 12)) * size
    x[:, 1] /= 100
    x, attend = Tensor(x, requires_grad=True), KERNELS["attend"]
    g = rng.normal(size=(2, 3, 4))
    for a, b in zip(*([y, *grad(y, [x], g)] for y in both(attend, x, heads=2, mask=mask))):
        # Differences of numbers as large as the inputs are rounded as coarsely as these.
        np.testing.assert_allclose(a.data, b.data, 1e-11, 1e-12 * size)


def both(kernel, *args, **options):
    return kernel(*args, **options), kernel.composed(*args, **options)


@pytest.mark.parametrize("case", [ITSELF[9], MEMORY[1], TURNS[0], GATES[1]], ids=str)
def test_the_inputs_are_left_as_they_were(case):
    arrays = case.arrays()
    before = [None if a is None else a.copy() for a in arrays]
    agree(KERNELS[case.name], tensors(arrays), **case.options)
    for a, b in zip(arrays, before):
        np.testing.assert_array_equal(a, b, "a kernel wrote to its input")


@pytest.mark.parametrize(
    ("name", "shapes", "options", "said"),
    [
        ("attend", [(2, 3, 10)], {"heads": 2}, "10"),
        ("attend", [(2, 3, 12)], {"heads": 3, "kv_heads": 2}, "3 heads .* 2"),
        ("attend", [(2, 3, 12)], {"heads": 0}, "0 heads"),
        ("attend", [(2, 3, 8), (2, 5, 8)], {"heads": 2}, r"\(2, 3, 8\).*\(2, 5, 8\)"),
        ("attend", [(2, 3, 8), (2, 5, 15)], {"heads": 2}, r"\(2, 5, 15\)"),
        ("rotate", [(2, 3, 9)], {"size": 3, "count": 1}, "even, not 3"),
        ("swiglu", [(2, 5)], {}, r"even, not \(2, 5\)"),
        ("swiglu", [()], {}, r"\(\)"),
    ],
)
def test_sizes_that_do_not_fit_are_named(name, shapes, options, said):
    with pytest.raises(ValueError, match=said):
        KERNELS[name](*(np.zeros(shape) for shape in shapes), **options)
