"""Attention block by block beside chapter 7's: answers, gradients, and the memory it takes."""

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
    kept,
    tensors,
)
from torch_twins import NO_TORCH, compare

from chapter_07_attention import GPT, GPTConfig, attend, causal_mask
from chapter_09_scaling.blockwise_attention import BlockGrid, blockwise_attend
from chapter_09_scaling.long_gpt import LongGPT
from utils import Tensor, check_gradients, grad

NAME = "blockwise_attend"
BLIND = np.array([[True, False, True], [False, False, False], [True, True, True]])
BIAS = np.random.default_rng(6).normal(size=(2, 1, 5, 5))
SOME = np.random.default_rng(7).random((2, 4, 3, 5)) < 0.6

CASES = [  # blocks of 2 do not divide 3 or 5 places; 64 hold them all
    case(NAME, (2, 3, 12), heads=2, block=2),
    case(NAME, (2, 3, 12), heads=2),
    case(NAME, (2, 5, 12), heads=2, block=2, causal=True),
    case(NAME, (1, 3, 16), heads=4, kv_heads=2, block=2, causal=True),
    case(NAME, (1, 3, 12), heads=4, kv_heads=1, block=1, causal=True),
    case(NAME, (2, 3, 12), heads=2, block=2, mask=BLIND),
    case(NAME, (2, 3, 12), heads=2, block=2, mask=np.array([True, True, False])),
    case(NAME, (2, 5, 12), heads=2, block=3, mask=BIAS),
    case(NAME, (2, 5, 12), heads=2, block=3, mask=BIAS, causal=True),
    case(NAME, (2, 3, 12), heads=2, block=2, mask=BLIND[None, None], causal=True),
    case(NAME, (2, 3, 12), None, kept(2, 2, 3, 3), heads=2, kept_scale=1.5, block=2, causal=True),
    case(NAME, (2, 3, 8), (2, 5, 16), heads=4, block=2),
    case(NAME, (2, 3, 8), (2, 5, 16), heads=4, block=2, causal=True),
    case(NAME, (2, 3, 8), (2, 5, 8), heads=4, kv_heads=2, mask=SOME, block=2),
    case(NAME, (2, 1, 6), (2, 4, 12), heads=3, block=3, causal=True),
    case(NAME, (2, 3, 8), (2, 5, 8), kept(2, 4, 3, 5), heads=4, kv_heads=2, kept_scale=1.25,
         block=2),
]  # fmt: skip
EMPTY = [
    case(NAME, (0, 3, 12), heads=2, causal=True),
    case(NAME, (2, 0, 12), heads=2, causal=True),
    case(NAME, (2, 0, 8), (2, 5, 16), heads=4),
    case(NAME, (2, 3, 8), (2, 0, 16), heads=4),
]


@pytest.mark.parametrize("case", [*CASES, *EMPTY], ids=str)
def test_blocks_equal_the_composed_form(case):
    agree(blockwise_attend, tensors(case.arrays()), **case.options)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_the_layout_in_memory(layout):
    for each in CASES[2:4]:
        agree_in_layout(blockwise_attend, each, layout)


@pytest.mark.parametrize("case", [CASES[3], CASES[12]], ids=str)
def test_only_some_gradients_are_wanted(case):
    agree_when_some_are_wanted(blockwise_attend, case)


@pytest.mark.parametrize("case", [CASES[4], CASES[6]], ids=str)
def test_second_derivatives(case):
    agree_twice_derived(blockwise_attend, case)


def test_gradients_by_central_differences(rng):
    x = rng.normal(size=(1, 5, 12))
    check_gradients(functools.partial(blockwise_attend, heads=2, causal=True, block=2), [x])


def test_two_places_by_hand():
    """One head of size 1: the second query scores 0 and log 3, so its shares are 1/4 and 3/4."""
    x = np.array([[[5.0, 0.0, 10.0], [1.0, np.log(3), 20.0]]])
    for block in (1, 2):
        y = blockwise_attend(x, heads=1, causal=True, block=block)
        np.testing.assert_allclose(
            y[0, :, 0], [10, 17.5], err_msg="rescale what was summed before a larger score came"
        )


def reference(q, k, v):
    """softmax(q k^T / sqrt(D)) v over the past, row by row."""
    rows = []
    for t, query in enumerate(q):
        scores = k[: t + 1] @ query / len(query) ** 0.5
        shares = np.exp(scores - scores.max())
        rows.append(shares @ v[: t + 1] / shares.sum())
    return np.array(rows)


def test_a_plain_reference(rng):
    q, k, v = rng.normal(size=(3, 37, 4))
    y = blockwise_attend(np.concatenate([q, k, v], -1)[None], heads=1, causal=True, block=8)
    np.testing.assert_allclose(y[0], reference(q, k, v), 1e-12)


@pytest.mark.parametrize("block", [1, 3, 7, 16, 50, None])
def test_the_block_does_not_matter(block, rng):
    x = Tensor(rng.normal(size=(2, 33, 24)), requires_grad=True)
    agree(blockwise_attend, [x], heads=4, kv_heads=2, causal=True, block=block)


@pytest.mark.parametrize("size", [30.0, 300.0])
def test_scores_far_apart_lose_no_row(size, rng):
    x = rng.normal(size=(2, 6, 12)) * size
    x[:, 1] /= 100
    x, options = Tensor(x, requires_grad=True), {"heads": 2, "causal": True, "block": 2}
    g = rng.normal(size=(2, 6, 4))
    ours, theirs = blockwise_attend(x, **options), blockwise_attend.composed(x, **options)
    np.testing.assert_allclose(ours.data, theirs.data, 1e-11, 1e-12 * size)
    a, b = grad(ours, [x], g)[0], grad(theirs, [x], g)[0]
    np.testing.assert_allclose(a.data, b.data, 1e-11, 1e-12 * size)


def test_who_may_look_at_nothing_takes_nothing_and_learns_nothing(rng):
    x = Tensor(rng.normal(size=(1, 3, 3)), requires_grad=True)
    y = blockwise_attend(x, heads=1, mask=BLIND, block=2)
    assert (y.data[0, 1] == 0).all()
    (dx,) = grad(y, [x], np.ones(y.shape))
    assert np.isfinite(dx.data).all() and dx.data[0, 1, 0] == 0, "a blind query has no gradient"


def test_half_precision_is_summed_in_single(rng):
    x = rng.normal(size=(1, 40, 24)).astype(np.float16)
    half = Tensor(x, requires_grad=True)
    single = Tensor(x.astype(np.float32), requires_grad=True)
    options = {"heads": 2, "causal": True, "block": 16}
    y, expected = blockwise_attend(half, **options), blockwise_attend(single, **options)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y.data, expected.data.astype(np.float16))
    g = np.ones(y.shape, np.float16)
    found = grad(y, [half], g)[0].data, grad(expected, [single], g)[0].data
    assert found[0].dtype == np.float16
    np.testing.assert_allclose(found[0], found[1], rtol=1e-2, atol=1e-3)


def test_blocks_in_the_future_are_left_out():
    pairs = [(r.start, [c.start for c in cs]) for r, cs in BlockGrid((1, 1, 1, 6, 6), True, 2)]
    assert pairs == [(0, [0]), (2, [0, 2]), (4, [0, 2, 4])], "each looks at its past, no further"
    assert sum(len(columns) for _, columns in BlockGrid((1, 1, 1, 6, 6), False, 2)) == 9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 2, "block": 0}, "block"),
        ({"heads": 2, "block": True}, "block"),
        ({"heads": 2, "mask": np.ones((4, 4), bool)}, "broadcast"),
        ({"heads": 5}, "5 heads"),
    ],
)
def test_what_does_not_fit_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        blockwise_attend(np.zeros((2, 3, 12)), **options)


def test_more_causal_queries_than_keys_are_refused():
    with pytest.raises(ValueError, match="3 causal queries .* 2"):
        blockwise_attend(np.zeros((1, 3, 4)), np.zeros((1, 2, 8)), heads=2, causal=True)


def test_memory_grows_with_the_length_not_with_its_square(rng):
    def peak(attention, time):
        x = Tensor(rng.normal(size=(1, time, 24)).astype(np.float32), requires_grad=True)
        tracemalloc.start()
        try:
            y = attention(x, heads=2)
            grad(y, [x], np.ones_like(y.data))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    ours = functools.partial(blockwise_attend, causal=True, block=64)
    assert peak(ours, 1024) < 3 * peak(ours, 512), "something of T x T numbers is made"
    assert peak(ours, 1024) < peak(attend, 1024) / 10


def test_attention_of_pytorch(rng):
    torch = pytest.importorskip("torch", reason=NO_TORCH)

    def theirs(x):
        q, k, v = (part.unflatten(-1, (3, 4)).transpose(1, 2) for part in x.chunk(3, dim=-1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).flatten(-2)

    for dtype in (np.float32, np.float64):
        x = rng.normal(size=(2, 70, 36)).astype(dtype)
        compare(lambda x: blockwise_attend(x, heads=3, causal=True, block=32), theirs, [x])


CONFIG = {"vocab_size": 11, "block_size": 20, "n_layer": 2, "n_head": 4, "n_embd": 8}


@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_long_gpt_is_gpt_without_the_mask(positions, rng):
    config = GPTConfig(**CONFIG, positions=positions, n_kv_head=2)
    model, long = GPT(config), LongGPT(config)
    long.load_state_dict(model.state_dict())
    ids = rng.integers(11, size=(2, 20))
    losses = [(m(ids) * np.arange(11.0)).sum() for m in (model, long)]
    np.testing.assert_allclose(losses[0].item(), losses[1].item(), rtol=1e-5)
    for a, b in zip(grad(losses[0], [*model.parameters()]), grad(losses[1], [*long.parameters()])):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-3, atol=1e-4)
    assert model.next_logits([1, 2, 3]).argmax() == long.next_logits([1, 2, 3]).argmax()


def test_long_gpt_never_looks_ahead(rng):
    model = LongGPT(GPTConfig(**CONFIG, dropout=0.5)).eval()
    ids = rng.integers(11, size=(1, 20))
    changed = ids.copy()
    changed[0, 12:] = (ids[0, 12:] + 1) % 11
    a, b = model(ids).data, model(changed).data
    np.testing.assert_allclose(a[0, :12], b[0, :12], atol=1e-6, err_msg="the future was seen")
    assert not np.allclose(a[0, 12:], b[0, 12:])


def test_long_gpt_drops_elsewhere_but_no_shares(rng):
    model = LongGPT(GPTConfig(**CONFIG, dropout=0.5)).train()
    assert all(layer.self_attn.dropout == 0 for layer in model.layers)
    ids = rng.integers(11, size=(1, 20))
    assert not np.allclose(model(ids).data, model(ids).data), "the residual paths still drop"


@pytest.mark.parametrize("choice", [{"positions": "alibi"}, {"window": 4}])
def test_long_gpt_refuses_what_needs_all_pairs(choice):
    with pytest.raises(ValueError, match="all pairs"):
        LongGPT(GPTConfig(**CONFIG, **choice))


def test_causal_is_the_causal_mask(rng):
    x = rng.normal(size=(2, 9, 12))
    y = blockwise_attend(x, heads=2, causal=True, block=4)
    np.testing.assert_allclose(y, attend(x, heads=2, mask=causal_mask(9)), 1e-12)
