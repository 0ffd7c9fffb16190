"""Every row draws what chapter 2's next_token draws with the same random number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_02_text_generation import next_token
from chapter_10_production import SamplingParameters, draw
from chapter_10_production.batch_sampling import NO_TOKEN, log_probabilities

INF, NAN = math.inf, math.nan


def plain(row, how, seed):
    filters = {name: getattr(how, name) for name in ("temperature", "top_p", "min_p")}
    top_k = None if how.top_k is None else min(how.top_k, len(row))  # more is an error there
    return next_token(row, rng=np.random.default_rng(seed), top_k=top_k, **filters)


def check(logits, ways, seeds=None):
    seeds = range(len(logits)) if seeds is None else seeds
    uniforms = [np.random.default_rng(seed).random() for seed in seeds]
    kept = logits.copy()
    found = draw(logits, ways, uniforms)
    np.testing.assert_array_equal(logits, kept, "the logits are not to be changed")
    for i, seed in enumerate(seeds):
        wanted = plain(logits[i], ways[i], seed)
        assert found[i] == wanted, (
            f"row {i} with {ways[i]}: token {found[i]}, next_token draws {wanted} "
            f"with u = {uniforms[i]:.6f}"
        )


def random_way(rng):
    """Some filters, of ordinary and of extreme sizes."""

    def perhaps(*values):
        return values[rng.integers(len(values))] if rng.random() < 0.5 else None

    return SamplingParameters(
        temperature=float(rng.choice([0, 1e-6, 0.3, 0.9, 1.0, 1.7, 100.0])),
        top_k=perhaps(1, 2, 7, 30, 31, 1000),
        top_p=perhaps(1e-9, 0.1, 0.5, 0.95, 1.0),
        min_p=perhaps(0.0, 1e-6, 0.05, 0.5, 1.0),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("vocab", [1, 2, 31])
def test_thousands_of_random_rows_with_all_filters(vocab, dtype):
    rng = np.random.default_rng(vocab)
    for count in (1, 7, 1500):
        logits = (rng.normal(size=(count, vocab)) * rng.choice([0.1, 1, 10])).astype(dtype)
        check(logits, [random_way(rng) for _ in range(count)])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"temperature": 0},
        {"temperature": 1e-6},
        {"temperature": 1e-300},
        {"temperature": 5e-324},
        {"temperature": 100.0},
        {"temperature": 1e300},
        {"top_k": 1},
        {"top_k": 5},
        {"top_k": 40},
        {"top_k": 10**30},
        {"top_p": 1e-9},
        {"top_p": 0.5},
        {"top_p": 1.0},
        {"min_p": 0.0},
        {"min_p": 0.1},
        {"min_p": 1.0},
    ],
    ids=str,
)
def test_each_filter_alone_and_the_same_for_all_rows(how):
    logits = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32) * 3
    check(logits, [SamplingParameters(**how)] * 300)


def test_rows_with_equal_logits_keep_the_same_ones_of_them():
    rng = np.random.default_rng(5)
    logits = rng.integers(0, 3, (800, 12)).astype(np.float32)
    check(logits, [random_way(rng) for _ in logits])


def test_tokens_that_are_ruled_out_are_not_drawn():
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(600, 20)).astype(np.float32)
    logits[rng.random(logits.shape) < 0.8] = -INF
    logits[:, 3] = 0
    check(logits, [random_way(rng) for _ in logits])


def test_large_logits_do_not_overflow():
    rng = np.random.default_rng(7)
    logits = (rng.normal(size=(200, 9)) * 1e30).astype(np.float32)
    check(logits, [random_way(rng) for _ in logits])
    check(logits.astype(np.float64) * 1e270, [random_way(rng) for _ in logits])


def test_the_ends_of_the_random_numbers():
    logits = np.array([[-INF, 1.0, 1.0, -INF]] * 2)
    last = np.nextafter(1.0, 0.0)
    ways = [SamplingParameters()] * 2
    assert draw(logits, ways, [0.0, last]).tolist() == [1, 2], "a token of probability 0 is drawn"
    flat = np.zeros((2, 1000), np.float32)
    assert draw(flat, ways, [0.0, last]).tolist() == [0, 999]


def test_rows_that_are_no_numbers_spoil_only_themselves():
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(60, 15)).astype(np.float32)
    ways = [random_way(rng) for _ in logits]
    uniforms = rng.random(60).tolist()
    wanted = draw(logits, ways, uniforms)
    spoilt = logits.copy()
    spoilt[::5, 4], spoilt[1::5, 2], spoilt[2::5] = NAN, INF, -INF
    found = draw(spoilt, ways, uniforms)
    assert (found[::5] == NO_TOKEN).all(), "NaN"
    assert (found[1::5] == NO_TOKEN).all(), "infinity"
    assert (found[2::5] == NO_TOKEN).all(), "nothing is allowed"
    for rest in (3, 4):
        np.testing.assert_array_equal(found[rest::5], wanted[rest::5], "rows know of each other")


def test_rows_do_not_depend_on_their_neighbours():
    rng = np.random.default_rng(9)
    logits = rng.normal(size=(40, 25)).astype(np.float32) * 4
    ways, uniforms = [random_way(rng) for _ in logits], rng.random(40).tolist()
    together = draw(logits, ways, uniforms)
    for i in range(40):
        (alone,) = draw(logits[i : i + 1], ways[i : i + 1], uniforms[i : i + 1])
        assert alone == together[i], f"row {i} with {ways[i]} draws another token alone"


def test_no_rows_are_no_tokens():
    assert draw(np.zeros((0, 5), np.float32), [], []).shape == (0,)


@pytest.mark.parametrize(
    "how", [{}, {"top_k": 5}, {"top_p": 0.8, "temperature": 1.3}, {"min_p": 0.15}], ids=str
)
def test_frequencies_are_the_probabilities(how):
    """Chi-square: the sum of squared deviations, in units of what chance makes of them."""
    rng, count = np.random.default_rng(10), 20_000
    row = rng.normal(size=12)
    found = draw(np.tile(row, (count, 1)), [SamplingParameters(**how)] * count, rng.random(count))
    p = np.exp((row - row.max()) / how.get("temperature", 1.0))
    order = np.argsort(-p)
    if "top_k" in how:
        p[order[how["top_k"] :]] = 0
    if "top_p" in how:
        before = np.cumsum(p[order]) / p.sum() - p[order] / p.sum()
        p[order[before >= how["top_p"]]] = 0
    if "min_p" in how:
        p[p < how["min_p"] * p.max()] = 0
    p /= p.sum()
    counts = np.bincount(found, minlength=12)
    assert counts[p == 0].sum() == 0, "a token was drawn that a filter rules out"
    kept = p > 0
    chi = ((counts - count * p)[kept] ** 2 / (count * p[kept])).sum()
    freedom = kept.sum() - 1
    assert chi < freedom + 5 * math.sqrt(2 * freedom), f"chi-square {chi:.1f} of {freedom}"


def test_log_probabilities_by_hand():
    row = np.log(np.array([0.1, 0.6, 0.3], np.float32)) + 5
    found = log_probabilities(row, 2, 2)
    assert found.token == 2 and found.logprob == pytest.approx(math.log(0.3), abs=1e-6)
    assert [token for token, _ in found.top] == [1, 2], "the likeliest come first"
    assert [math.exp(x) for _, x in found.top] == pytest.approx([0.6, 0.3], abs=1e-6)
    assert isinstance(found.token, int) and isinstance(found.logprob, float)
    assert log_probabilities(row, 0, 0).top == []
    assert len(log_probabilities(row, 0, 20).top) == 3, "no more than there are tokens"


def test_log_probabilities_of_tokens_ruled_out_and_of_large_logits():
    found = log_probabilities(np.array([-INF, 1e30, 0.0], np.float32), 1, 3)
    assert found.logprob == 0 and found.top[0] == (1, 0.0)
    assert all(not math.isnan(x) for _, x in found.top)
