"""Linear attention: sums by blocks beside sums over all pairs, and one place after the other."""

from __future__ import annotations

import functools
import tracemalloc

import numpy as np
import pytest
from kernel_cases import (
    LAYOUTS,
    agree,
    agree_in_layout,
    agree_twice_derived,
    agree_when_some_are_wanted,
    case,
    tensors,
)

from chapter_07_attention import GPTConfig
from chapter_09_scaling.linear_attention import (
    features,
    linear_attend,
    linear_attend_step,
    pair_sums,
)
from chapter_09_scaling.long_gpt import LongGPT
from utils import Tensor, check_gradients, grad

NAME = "linear_attend"
CASES = [
    case(NAME, (2, 3, 12), heads=2),
    case(NAME, (1, 3, 16), heads=4, kv_heads=2),
    case(NAME, (2, 5, 12), heads=2, causal=True, block=2),
    case(NAME, (2, 4, 12), heads=2, causal=True, block=2),
    case(NAME, (2, 5, 12), heads=2, causal=True),
    case(NAME, (1, 3, 16), heads=4, kv_heads=2, causal=True, block=1),
    case(NAME, (1, 3, 12), heads=4, kv_heads=1, causal=True, block=2),
    case(NAME, (2, 3, 8), (2, 5, 16), heads=4),
    case(NAME, (2, 3, 8), (2, 5, 8), heads=4, kv_heads=2),
    case(NAME, (2, 3, 8), (2, 3, 8), heads=4, kv_heads=2, causal=True, block=2),
]
EMPTY = [
    case(NAME, (0, 3, 12), heads=2, causal=True),
    case(NAME, (2, 0, 12), heads=2, causal=True),
    case(NAME, (2, 0, 8), (2, 5, 16), heads=4),
    case(NAME, (2, 3, 8), (2, 0, 16), heads=4),
]


@pytest.mark.parametrize("case", [*CASES, *EMPTY], ids=str)
def test_blocks_equal_the_composed_form(case):
    agree(linear_attend, tensors(case.arrays()), **case.options)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_the_layout_in_memory(layout):
    for each in CASES[1:3]:
        agree_in_layout(linear_attend, each, layout)


@pytest.mark.parametrize("case", [CASES[2], CASES[8]], ids=str)
def test_only_some_gradients_are_wanted(case):
    agree_when_some_are_wanted(linear_attend, case)


def test_second_derivatives():
    agree_twice_derived(linear_attend, CASES[6])


def test_gradients_by_central_differences(rng):
    x = rng.normal(size=(1, 5, 12))
    check_gradients(functools.partial(linear_attend, heads=2, causal=True, block=2), [x])


def test_two_places_by_hand():
    """f(0) = 1, f(1) = 2, f(2) = 3: the second query compares as 3 x 1 and 3 x 2, 1/3 and 2/3."""
    x = np.array([[[0.0, 0.0, 10.0], [2.0, 1.0, 40.0]]])
    y = linear_attend(x, heads=1, causal=True)
    np.testing.assert_allclose(y[0, :, 0], [10, 30])


@pytest.mark.parametrize("order", ["all", "past", "future"])
def test_sums_over_pairs_are_what_they_say(order, rng):
    a, b = rng.normal(size=(2, 7, 3))
    c = rng.normal(size=(7, 2))
    allowed = {"all": np.ones((7, 7)), "past": np.tri(7), "future": np.tri(7).T}[order]
    expected = (a @ b.T * allowed) @ c
    for block in (1, 2, 3, 7, 20):
        np.testing.assert_allclose(
            pair_sums(a, b, c, order, block), expected, 1e-12, 1e-12, err_msg=f"blocks of {block}"
        )


def test_the_feature_map_is_positive_and_smooth_at_0():
    np.testing.assert_allclose(features(np.array([-1.0, 0.0, 2.0])), [np.exp(-1), 1, 3])
    assert (features(np.linspace(-80, 80, 99)) > 0).all()


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (4, 1)])
def test_step_by_step_is_the_same(heads, kv_heads, rng):
    """A table a head in place of the whole past, as a recurrent net."""
    size, time = 3, 11
    q = rng.normal(size=(2, time, heads * size))
    kv = rng.normal(size=(2, time, 2 * kv_heads * size))
    expected = linear_attend(q, kv, heads=heads, kv_heads=kv_heads, causal=True, block=4)
    state = None
    for t in range(time):
        queries = q[:, t].reshape(2, heads, size)
        keys, values = kv[:, t].reshape(2, 2, kv_heads, size).swapaxes(0, 1)
        y, state = linear_attend_step(state, queries, keys, values)
        np.testing.assert_allclose(y.reshape(2, -1), expected[:, t], 1e-12, err_msg=f"place {t}")
    assert state.shape == (2, kv_heads, size, size + 1), "what it remembers does not grow"


def test_single_precision_is_near_double(rng):
    x = rng.normal(size=(1, 3000, 12))
    options = {"heads": 2, "causal": True}
    y = linear_attend(x.astype(np.float32), **options)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, linear_attend(x, **options), rtol=0, atol=1e-5)


def test_memory_grows_with_the_length_not_with_its_square(rng):
    def peak(time):
        x = Tensor(rng.normal(size=(1, time, 24)).astype(np.float32), requires_grad=True)
        tracemalloc.start()
        try:
            y = linear_attend(x, heads=2, causal=True)
            grad(y, [x], np.ones_like(y.data))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(4096) < 2.3 * peak(2048), "something of T x T numbers is made"


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        ([(2, 3, 12)], {"mask": np.ones((3, 3), bool)}, "no mask.*causal=True"),
        ([(2, 3, 12), None], {"kept": np.ones((2, 2, 3, 3), bool)}, "no dropout"),
        ([(2, 3, 12)], {"block": 0}, "block"),
        ([(2, 3, 8), (2, 5, 16)], {"causal": True}, "3 queries meet 5 keys"),
        ([(2, 3, 13)], {}, "13"),
    ],
)
def test_what_it_cannot_do_is_named(args, options, said):
    arrays = [None if shape is None else np.zeros(shape) for shape in args]
    if "kept" in options:
        arrays.append(options.pop("kept"))
    with pytest.raises(ValueError, match=said):
        linear_attend(*arrays, heads=2, **options)


def test_a_gpt_of_it_never_looks_ahead_and_learns(rng):
    config = GPTConfig(vocab_size=11, block_size=20, n_layer=2, n_head=2, n_embd=8)
    model = LongGPT(config, linear_attend)
    ids = rng.integers(11, size=(1, 20))
    changed = ids.copy()
    changed[0, 12:] = (ids[0, 12:] + 1) % 11
    a, b = model(ids).data, model(changed).data
    np.testing.assert_allclose(a[0, :12], b[0, :12], atol=1e-6, err_msg="the future was seen")
    model(ids).sum().backward()
    assert all(np.abs(p.grad).max() > 0 for p in model.parameters() if p.ndim == 2)
