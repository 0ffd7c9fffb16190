"""Filters by hand, draws by statistics, and beam search against every text there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from chapter_02_text_generation.sampling import (
    beam_search,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_token,
    sample,
)
from utils import manual_seed

NAN, INF = math.nan, math.inf


def logs(*probabilities):
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities, np.float64))


def kept(filtered):
    return np.flatnonzero(filtered > -INF).tolist()


def log_probabilities(logits):
    logits = np.asarray(logits, np.float64)
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


def draws(n, logits, seed=0, **how):
    """How often each token comes in n draws."""
    rng = np.random.default_rng(seed)
    return np.bincount(
        [next_token(logits, rng=rng, **how) for _ in range(n)], minlength=len(logits)
    )


def assert_frequencies(counts, probabilities):
    """Every count within five standard deviations of what the probabilities say."""
    n, p = counts.sum(), np.asarray(probabilities)
    deviation = np.sqrt(n * p * (1 - p))
    assert (
        np.abs(counts - n * p) <= 5 * deviation + 1e-9
    ).all(), f"{n} draws came out as {counts.tolist()}, expected about {np.round(n * p).tolist()}"


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [2]), (2, [1, 2]), (3, [1, 2, 3]), (4, [0, 1, 2, 3])]
)
def test_top_k_by_hand(k, expected):
    logits = np.array([-3.0, 1.0, 2.0, 0.5])
    filtered = keep_top_k(logits, k)
    assert kept(filtered) == expected
    np.testing.assert_array_equal(filtered[expected], logits[expected], "kept logits do not change")


@pytest.mark.parametrize(("k", "largest"), [(1, 1), (2, 2), (3, 3)])
def test_top_k_keeps_k_among_ties(k, largest):
    filtered = keep_top_k(np.array([0.0, 7.0, 7.0, 7.0]), k)
    assert len(kept(filtered)) == k, "k tokens are kept, however many are as likely as the last"
    assert 0 not in kept(filtered)


def test_top_k_of_masked_logits_allows_nothing_new():
    assert kept(keep_top_k(np.array([-INF, 1.0, -INF]), 2)) == [1]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.01, [1]),
        (0.45, [1]),
        (0.55, [1, 3]),
        (0.75, [1, 3]),
        (0.85, [0, 1, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_by_hand(p, expected):
    logits = logs(0.15, 0.5, 0.05, 0.3) + 4
    given = logits.copy()
    filtered = keep_top_p(given, p)
    assert kept(filtered) == expected, f"the fewest, likeliest first, that reach {p}"
    np.testing.assert_array_equal(filtered[expected], logits[expected])
    np.testing.assert_array_equal(given, logits, "the caller's logits have been changed")


def test_top_p_takes_as_many_ties_as_it_needs():
    assert len(kept(keep_top_p(np.zeros(4), 0.5))) == 2
    assert len(kept(keep_top_p(np.zeros(4), 0.51))) == 3


@pytest.mark.parametrize("seed", range(20))
def test_top_p_of_one_keeps_everything(seed):
    # So far apart that the last ones change no digit of the sum.
    logits = np.random.default_rng(seed).normal(0, 20, 100)
    np.testing.assert_array_equal(
        keep_top_p(logits, 1.0), logits, "rounding must not lose the last"
    )


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, [0, 1, 2, 3]), (0.05, [0, 1, 2, 3]), (0.2, [0, 1, 3]), (0.5, [1, 3]), (1.0, [1])],
)
def test_min_p_by_hand(p, expected):
    # Shares of the likeliest: 0.3, 1, 0.1, 0.6.
    assert kept(keep_min_p(logs(0.15, 0.5, 0.05, 0.3), p)) == expected


def test_min_p_of_one_keeps_all_of_the_likeliest():
    assert kept(keep_min_p(np.array([3.0, 1.0, 3.0]), 1.0)) == [0, 2]


@pytest.mark.parametrize(("keep", "limit"), [(keep_top_k, 2), (keep_top_p, 0.6), (keep_min_p, 0.5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filters_leave_what_they_are_given_alone(keep, limit, dtype):
    logits = np.array([0.0, 2.0, 1.0, -1.0], dtype)
    before = logits.copy()
    filtered = keep(logits, limit)
    np.testing.assert_array_equal(logits, before, "the caller's logits have been changed")
    assert filtered.dtype == dtype and 1 in kept(filtered), "the likeliest always stays"


@pytest.mark.parametrize(
    ("keep", "limit"),
    [(keep_top_k, k) for k in (0, -1, 4, 100_000, NAN)]
    + [(keep_top_p, p) for p in (0, -0.1, 1.1, NAN, INF)]
    + [(keep_min_p, p) for p in (-0.1, 1.1, NAN, INF)],
)
def test_limits_out_of_range_are_named(keep, limit):
    with pytest.raises(ValueError, match=f"{keep.__name__[5:].replace('_', '-')}.*not {limit}"):
        keep(np.zeros(3), limit)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_divides_the_logits(temperature):
    logits = np.array([1.0, 0.0, -1.0, 0.5])
    counts = draws(4000, logits, temperature=temperature)
    assert_frequencies(counts, np.exp(log_probabilities(logits / temperature)))


def test_temperature_at_its_ends():
    logits = np.array([0.5, 1.0, -2.0, 0.9999])
    assert {next_token(logits, 0) for _ in range(20)} == {1}, "temperature 0 is greedy"
    assert draws(50, logits, temperature=1e-6)[1] == 50
    assert_frequencies(draws(2000, logits, temperature=1e9), [0.25] * 4)


@pytest.mark.parametrize("temperature", [1e-300, 1e-310, 5e-324])
def test_the_coldest_temperatures_are_greedy(temperature):
    assert next_token(np.array([0.0, 1e3, -1e3]), temperature) == 1, "overflow is not an answer"


def test_only_what_the_filters_keep_is_drawn():
    logits = logs(0.4, 0.3, 0.2, 0.1)
    assert_frequencies(draws(2000, logits, top_k=2), [4 / 7, 3 / 7, 0, 0])
    assert_frequencies(draws(2000, logits, top_p=0.8), [4 / 9, 3 / 9, 2 / 9, 0])
    assert_frequencies(draws(2000, logits, min_p=0.5), [4 / 9, 3 / 9, 2 / 9, 0])
    assert_frequencies(draws(2000, logits, top_k=3, top_p=0.7, min_p=0), [4 / 7, 3 / 7, 0, 0])


def test_the_temperature_comes_before_the_filters():
    # At temperature 1/2 the shares are 36 : 9 : 1, so the first alone reaches 0.7.
    assert draws(100, logs(0.6, 0.3, 0.1), temperature=0.5, top_p=0.7).tolist() == [100, 0, 0]


def test_k_and_p_of_one():
    logits = np.array([0.1, 0.3, 0.2])
    assert draws(50, logits, top_k=1).tolist() == [0, 50, 0]
    assert draws(50, logits, top_p=1e-9).tolist() == [0, 50, 0]
    assert_frequencies(draws(2000, logits, top_p=1.0, top_k=3), np.exp(log_probabilities(logits)))


def test_masked_tokens_are_never_drawn():
    assert_frequencies(draws(1000, np.array([-INF, 0.0, -INF, 0.0])), [0, 0.5, 0, 0.5])


def test_draws_depend_on_the_generator_alone():
    logits = np.zeros(50)
    np.testing.assert_array_equal(draws(30, logits, seed=7), draws(30, logits, seed=7))
    manual_seed(7)
    first = [next_token(logits) for _ in range(30)]
    manual_seed(7)
    assert first == [next_token(logits) for _ in range(30)], "manual_seed must fix the draws"
    assert len(set(first)) > 5


@pytest.mark.parametrize(
    "how",
    [{"temperature": t} for t in (-0.1, NAN, INF, -INF)]
    + [{"top_k": k} for k in (0, 4, 100_000, NAN)]
    + [{"top_p": p} for p in (0, 1.5, NAN)]
    + [{"min_p": p} for p in (-0.5, 1.5, NAN)],
    ids=str,
)
def test_settings_out_of_range_are_refused(how):
    with pytest.raises(ValueError):
        next_token(np.zeros(3), **how)


@pytest.mark.parametrize("how", [{"top_k": 100_000}, {"top_p": NAN}, {"min_p": 1.5}], ids=str)
def test_greedy_refuses_them_too(how):
    with pytest.raises(ValueError):
        next_token(np.zeros(3), temperature=0, **how)


@pytest.mark.parametrize(
    "logits",
    [[NAN, 0.0], [0.0, NAN], [NAN, NAN], [-INF, -INF], [INF, 0.0], [INF, INF], []],
    ids=str,
)
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_nothing_can_be_drawn_from_are_refused(logits, temperature):
    with pytest.raises(ValueError):
        next_token(np.array(logits), temperature)


def counting(ids):
    """A model that is certain: 1, 2, 3, then the boundary."""
    logits = np.full(5, -INF)
    logits[(len(ids) + 1) % 4] = 0.0
    return logits


def test_sample_stops_at_the_boundary_and_leaves_it_out():
    assert sample(counting) == [1, 2, 3]
    assert sample(counting, prefix=[4]) == [4, 2, 3]
    assert sample(counting, boundary=3) == [1, 2]


@pytest.mark.parametrize("most", [0, 1, 2])
def test_sample_adds_at_most_so_many(most):
    prefix = [4]
    assert sample(counting, prefix=prefix, max_tokens=most) == [4, 2, 3][: 1 + most]
    assert prefix == [4], "the caller's prefix has grown"


def test_sample_passes_its_settings_on():
    logits = lambda ids: np.array([-INF if len(ids) < 20 else 0.0, 0.3, 0.1, 0.2])
    assert sample(logits, max_tokens=20, temperature=0) == [1] * 20
    assert set(sample(logits, max_tokens=20, top_k=2, rng=np.random.default_rng(0))) == {1, 3}
    first, second = (sample(logits, max_tokens=20, rng=np.random.default_rng(3)) for _ in range(2))
    assert first == second
    with pytest.raises(ValueError):
        sample(logits, top_k=5)


def some_model(seed, vocab_size=4):
    """Logits that depend on all ids so far, the same each time."""

    def next_logits(ids):
        rng = np.random.default_rng([seed, len(ids), *ids])
        return rng.normal(0, 1.5, vocab_size)

    return next_logits


def score(next_logits, ids, start=0, ended=True):
    """The log-probability of what follows the first `start` ids, step by step."""
    steps = [*ids[start:], 0] if ended else ids[start:]
    return sum(log_probabilities(next_logits(ids[: start + i]))[t] for i, t in enumerate(steps))


def all_texts(next_logits, prefix, most, vocab_size=4):
    """Every text, with its score: those that end within `most` steps, and those still open then."""
    texts = {}
    for length in range(most + 1):
        for more in itertools.product(range(1, vocab_size), repeat=length):
            ids = [*prefix, *more]
            texts[tuple(ids)] = score(next_logits, ids, len(prefix), ended=length < most)
    return texts


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("prefix", [[], [2, 1]])
def test_a_wide_beam_finds_every_text_in_order(seed, prefix):
    model = some_model(seed)
    texts = all_texts(model, prefix, most=4)
    assert sum(map(math.exp, texts.values())) == pytest.approx(1), "the test's own enumeration"
    found = beam_search(model, prefix, width=len(texts), max_tokens=4)
    assert {tuple(ids) for ids, _ in found} == set(texts)
    scores = [s for _, s in found]
    assert scores == sorted(scores, reverse=True), "best first"
    for ids, s in found:
        assert s == pytest.approx(texts[tuple(ids)]), f"the score of {ids} is its log-probability"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [1, 2, 5])
def test_scores_are_sums_of_log_probabilities(seed, width):
    model = some_model(seed)
    found = beam_search(model, [3], width=width, max_tokens=6)
    assert 1 <= len(found) <= width
    assert len({tuple(ids) for ids, _ in found}) == len(found), "a text is listed twice"
    for ids, s in found:
        assert ids[0] == 3 and 0 not in ids, "the prefix stays, the boundary goes"
        assert s == pytest.approx(score(model, ids, 1, ended=len(ids) < 1 + 6))


def test_a_beam_of_one_is_greedy():
    for seed in range(10):
        ids, _ = beam_search(some_model(seed), width=1, max_tokens=8)[0]
        assert ids == sample(some_model(seed), max_tokens=8, temperature=0)


def test_a_wider_beam_finds_what_greedy_loses():
    # 1 looks best, but all its continuations are poor; 2 is certain afterwards.
    first, after_one = logs(0.0, 0.6, 0.4), logs(0.4, 0.3, 0.3)
    model = lambda ids: [first, after_one if ids[:1] == [1] else logs(1.0, 1e-9, 1e-9)][
        len(ids) > 0
    ]
    assert beam_search(model, width=1)[0][0] == [1]
    ids, s = beam_search(model, width=2)[0]
    assert ids == [2] and s == pytest.approx(math.log(0.4))


def test_an_ended_text_competes_with_longer_ones():
    model = lambda ids: logs(0.7, 0.3)
    found = beam_search(model, width=3, max_tokens=3)
    expected = [([], math.log(0.7)), ([1], math.log(0.21)), ([1, 1], math.log(0.063))]
    assert [ids for ids, _ in found] == [ids for ids, _ in expected]
    for (_, s), (_, wanted) in zip(found, expected):
        assert s == pytest.approx(wanted), "an ended text keeps its score while others go on"
    found = beam_search(model, width=2, max_tokens=1)
    assert [ids for ids, _ in found] == [[], [1]], "best first, whether ended or not"


def test_a_beam_goes_on_from_its_prefix_to_the_boundary():
    assert beam_search(counting, [4], width=1, boundary=3) == [([4, 2], 0.0)]


def test_most_bounds_texts_that_never_end():
    found = beam_search(lambda ids: logs(0.0, 0.6, 0.4), width=2, max_tokens=3)
    assert [ids for ids, _ in found][0] == [1, 1, 1]
    prefix = [1]
    assert beam_search(counting, prefix, max_tokens=0) == [([1], 0.0)]
    assert prefix == [1]


def test_impossible_texts_are_no_answer():
    possible = {(): 0.25, (2,): 0.75}
    model = lambda ids: logs(1.0, 0.0, 0.0) if ids else logs(0.25, 0.0, 0.75)
    found = beam_search(model, width=10, max_tokens=4)
    assert {tuple(ids) for ids, _ in found} == set(
        possible
    ), "a token whose logit is -inf has probability 0: no text with it may be returned"


@pytest.mark.parametrize("width", [0, -1, NAN])
def test_a_beam_needs_a_width(width):
    with pytest.raises((ValueError, TypeError)):
        beam_search(counting, width=width)


@pytest.mark.parametrize(
    "logits", [[NAN, 0.0, 1.0], [NAN] * 3, [-INF] * 3, [INF, 0.0, 0.0]], ids=str
)
def test_beam_search_refuses_logits_that_mean_nothing(logits):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError):
        beam_search(lambda ids: np.array(logits), max_tokens=3)
