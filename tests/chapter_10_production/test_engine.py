"""Whatever the engine does to be fast, it writes what the plain model of chapter 7 writes."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from small_servers import byte_engine
from written_texts import FAMILIES, decided, draft_of, plainly, prompts, ways

from chapter_07_attention import GPTConfig
from chapter_10_production import Decoder, Engine, SamplingParameters
from utils import manual_seed

TOKENS = 20
GREEDY = SamplingParameters(max_tokens=TOKENS, temperature=0)
ENGINES = {
    "cached, batched": {},
    "chunked prompts": {"most_tokens": 8, "most_running": 3},
    "small pages, shared": {"page_size": 4},
    "nothing shared": {"page_size": 4, "share_prefixes": False},
    "too few pages": {"cached_tokens": 68, "page_size": 4},
    "bad draft": {"draft": "bad", "ahead": 3},
    "perfect draft, too few pages": {"draft": "same", "cached_tokens": 80, "page_size": 4},
}


@functools.lru_cache(maxsize=None)
def model_of(family):
    return decided(FAMILIES[family])


@functools.lru_cache(maxsize=None)
def expected(family, temperature):
    model, texts = model_of(family), prompts()
    return [plainly(model, p, how) for p, how in zip(texts, ways(TOKENS, temperature, len(texts)))]


def engine_of(model, draft=None, **options):
    decoder = Decoder.from_model(model)
    drafts = {None: None, "same": decoder, "bad": draft_of(model.config)}
    return Engine(decoder, draft=drafts[draft], **options)


@pytest.mark.parametrize("temperature", [0.0, 0.9], ids=["greedy", "drawn"])
@pytest.mark.parametrize("options", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_plain_model(family, options, temperature):
    texts = prompts()
    engine = engine_of(model_of(family), **options)
    found = engine.generate(texts, *ways(TOKENS, temperature, len(texts)))
    for i, (ours, theirs) in enumerate(zip(found, expected(family, temperature))):
        assert ours.tokens == theirs, (
            f"text {i} of {len(texts[i])} tokens goes another way than without the engine, from "
            f"token {first_difference(ours.tokens, theirs)} on"
        )
    assert engine.pool.held == 0, "pages of finished texts are still held"


def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_whole_texts_are_the_models(family):
    ids = np.random.default_rng(3).integers(0, 65, (2, 37))
    model = model_of(family)
    np.testing.assert_allclose(Decoder.from_model(model).logits(ids), model(ids).data, atol=1e-4)


def test_texts_may_come_and_go_between_steps():
    model, texts = model_of("gpt2"), prompts()
    how = ways(TOKENS, 0.9, len(texts))
    engine, added = engine_of(model, most_running=4), []
    for text, parameters in zip(texts, how):
        added.append(engine.add(text, parameters))
        engine.step()
        engine.step()
    engine.cancel(added[2])
    while engine.busy:
        engine.step()
    for i, text in enumerate(added):
        own = text.ids[text.prompt_length :]
        want = expected("gpt2", 0.9)[i]
        assert own == want[: len(own)]
        assert i == 2 or own == want
    assert added[2].finish_reason == "cancelled" and engine.pool.held == 0


def test_too_few_pages_make_the_youngest_wait_and_none_starve():
    engine = engine_of(model_of("gpt2"), cached_tokens=68, page_size=4)
    found = engine.generate(prompts(), GREEDY)
    assert engine.scheduler.preemptions > 0, "the test is to run out of pages"
    assert all(completion.finish_reason == "length" for completion in found)


def test_a_shared_beginning_is_read_once():
    beginning = list(range(48))
    engine = engine_of(model_of("gpt2"))
    engine.generate([[*beginning, 1]], GREEDY)
    before = engine.read
    engine.generate([[*beginning, 2]], GREEDY)
    read = engine.read - before
    assert read == 1 + 14, f"48 tokens lie in shared pages, yet {read} tokens were read"


def test_a_perfect_draft_is_always_right_and_saves_steps():
    model = model_of("gpt2")
    engine, steps = engine_of(model, draft="same", ahead=4), 0
    text = engine.add([1, 2, 3], GREEDY)
    while engine.busy:
        engine.step()
        steps += 1
    assert engine.accepted == engine.proposed > 0
    assert text.written == TOKENS and steps == 1 + 4, f"20 tokens took {steps} steps, not 5"


def test_a_text_ends_where_the_context_ends():
    engine = engine_of(model_of("gpt2"))
    (found,) = engine.generate([[1] * 60], SamplingParameters(temperature=0))
    assert len(found.tokens) == 4 and found.finish_reason == "length"


def test_the_end_token_ends_a_text_and_is_not_part_of_it():
    model = model_of("gpt2")
    own = plainly(model, [5, 6], GREEDY)
    engine = engine_of(model, end=own[6])
    (found,) = engine.generate([[5, 6]], GREEDY)
    assert found.tokens == own[: own.index(own[6])] and found.finish_reason == "stop"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [([], "1 to 63 tokens"), ([1] * 64, "1 to 63"), ([65], "token 65"), ([-1], "token -1")],
)
def test_prompts_that_cannot_be_continued_are_refused(prompt, said):
    with pytest.raises(ValueError, match=said):
        engine_of(model_of("gpt2")).add(prompt, GREEDY)


def test_a_text_that_can_never_fit_is_refused():
    engine = engine_of(model_of("gpt2"), cached_tokens=16)
    with pytest.raises(ValueError, match="2 pages of the cache, which has 1"):
        engine.add([1, 2], GREEDY)


def test_drafts_must_know_the_same_tokens():
    model = Decoder.from_model(model_of("gpt2"))
    other = Decoder.from_model(decided(GPTConfig(64, 64, 1, 2, 16)))
    with pytest.raises(ValueError, match="64 tokens and the model 65"):
        Engine(model, draft=other)


def test_a_text_whose_logits_are_no_numbers_ends_alone_and_leaves_nothing():
    model, whole = decided(FAMILIES["gpt2"]), model_of("gpt2")
    how = SamplingParameters(max_tokens=8, temperature=0)
    good = plainly(whole, [1, 2], how)
    spoilt = next(token for token in range(65) if token not in good)
    model.embedding.weight.data[spoilt] = np.nan
    engine = engine_of(model, cached_tokens=7 * 16)
    engine.model.head = Decoder.from_model(whole).head  # its rows would spoil everybody's logits
    *bad, fine = engine.generate([[spoilt] * 30, [spoilt] * 31, [spoilt] * 32, [1, 2]], how)
    assert all(text.finish_reason == "error" and text.tokens == [] for text in bad)
    assert fine.tokens == good
    # On the pages that held what is no number. Beside a longer text, whole pages are looked at.
    texts = [[3] * length for length in (2, 18, 34)]
    for text, later in zip(texts, engine.generate(texts, how)):
        assert later.tokens == plainly(whole, text, how), "the pages were not cleared"


def test_a_prompt_that_spoils_its_first_chunk_ends_with_it():
    model = decided(FAMILIES["gpt2"])
    model.embedding.weight.data[9] = np.nan
    engine = engine_of(model, most_tokens=8, most_running=1, cached_tokens=4 * 16)
    text = engine.add([9] * 40, SamplingParameters(max_tokens=2, temperature=0))
    (progress,) = engine.step()
    assert progress.request is text and progress.finish_reason == "error"
    assert not engine.busy and engine.pool.held == 0
    for layer in engine.cache.layers:
        assert np.isfinite(layer).all(), "what is no number was left in a page"


def test_a_prompt_that_is_read_in_the_last_step_of_a_text_is_shared_too():
    engine = engine_of(model_of("gpt2"))
    one = SamplingParameters(max_tokens=1, temperature=0)
    engine.generate([[*range(48), 1]], one)
    engine.generate([[*range(48), 2]], one)
    assert engine.read == 49 + 1, "three full pages were there already"


def test_a_refused_prompt_leaves_nothing_of_the_others_behind():
    engine = engine_of(model_of("gpt2"))
    with pytest.raises(ValueError, match="token 99"):
        engine.generate([[1, 2], [99]], GREEDY)
    (found,) = engine.generate([[5, 6]], GREEDY)
    assert found.tokens == plainly(model_of("gpt2"), [5, 6], GREEDY)
    assert not engine.busy and engine.read < 2 + TOKENS, "the text of the refused call was written"


def test_generate_beside_a_text_that_was_there_before():
    engine = engine_of(model_of("gpt2"))
    before = engine.add([1, 2], SamplingParameters(max_tokens=30, temperature=0))
    (found,) = engine.generate([[5, 6]], GREEDY)
    assert found.tokens == plainly(model_of("gpt2"), [5, 6], GREEDY)
    assert before.finish_reason is None and before.written >= TOKENS and engine.busy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"most_running": 0}, "most_running"),
        ({"page_size": 0}, "page_size"),
        ({"cached_tokens": float("nan")}, "cached_tokens"),
        ({"most_tokens": True}, "most_tokens"),
        ({"draft": "same", "ahead": 0}, "ahead"),
    ],
)
def test_sizes_that_are_none_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        engine_of(model_of("gpt2"), **options)


@pytest.mark.parametrize("prompt", [[1.5], ["3"], [None]])
def test_tokens_are_whole_numbers(prompt):
    with pytest.raises(ValueError, match="whole numbers"):
        engine_of(model_of("gpt2")).add(prompt, GREEDY)


def test_a_prompt_may_be_an_array():
    (found,) = engine_of(model_of("gpt2")).generate([np.array([5, 6])], GREEDY)
    assert found.tokens == plainly(model_of("gpt2"), [5, 6], GREEDY)


@pytest.mark.parametrize("page_size", [1, 63, 64, 1000])
def test_pages_of_any_size_hold_as_many_whole_texts_as_run(page_size):
    engine = engine_of(model_of("gpt2"), page_size=page_size, most_running=3)
    found = engine.generate([[i] * 3 for i in range(3)], SamplingParameters(temperature=0))
    assert engine.scheduler.preemptions == 0
    assert [len(completion.tokens) for completion in found] == [61] * 3


def test_a_text_without_a_seed_is_the_default_generators():
    how, engine, found = SamplingParameters(max_tokens=9), engine_of(model_of("gpt2")), []
    for seed in (1, 1, 2):
        manual_seed(seed)
        found.append([c.tokens for c in engine.generate([[1], [1]], how)])
    assert found[0] == found[1] != found[2]
    assert found[0][0] != found[0][1], "two texts without a seed are two draws"


def test_seeds_may_be_large():
    for seed in (2**64, 2**200):
        how = SamplingParameters(max_tokens=9, seed=seed)
        (found,) = engine_of(model_of("gpt2")).generate([[1]], how)
        assert found.tokens == plainly(model_of("gpt2"), [1], how)


def test_log_probabilities_of_greedy_texts_are_those_of_the_model():
    how = SamplingParameters(max_tokens=5, temperature=0, logprobs=2)
    (found,) = engine_of(model_of("gpt2")).generate([[5, 6]], how)
    whole = model_of("gpt2")(np.array([[5, 6, *found.tokens]])).data[0, 1:-1].astype(np.float64)
    whole -= np.log(np.exp(whole).sum(axis=-1, keepdims=True))
    for row, token, told in zip(whole, found.tokens, found.logprobs):
        assert told.token == told.top[0][0] == token == row.argmax()
        assert told.logprob == told.top[0][1] == pytest.approx(row[token], abs=1e-3)
        assert told.top[1][1] == pytest.approx(np.sort(row)[-2], abs=1e-3)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (np.zeros((1, 65), int), "1 to 64 tokens"),
        ([1, 2, 3], r"\(B, T\)"),
        (np.zeros((2, 0), int), "1 to 64 tokens"),
        ([[65]], "0 to 64"),
        ([[-1]], "0 to 64"),
        ([[1.5]], "whole numbers"),
    ],
)
def test_logits_of_what_is_no_text_are_refused(ids, said):
    with pytest.raises(ValueError, match=said):
        Decoder.from_model(model_of("gpt2")).logits(ids)


class HalfACharacterThenNothing(Engine):
    """The first byte of a character, and then logits that are no numbers."""

    def write(self, texts, logits, proposed):
        for row, text in enumerate(texts):
            logits[row] = np.nan if text.written else np.eye(logits.shape[1])[0xC3]
        return super().write(texts, logits, proposed)


def test_a_failed_text_does_not_count_as_stopped():
    """What is left of its last character is the stop string by chance."""
    engine = byte_engine(64, HalfACharacterThenNothing)
    found = engine.generate([[1, 2]], SamplingParameters(5, temperature=0, stop=("\ufffd",)))[0]
    assert found.finish_reason == "error" and engine.pool.held == 0
