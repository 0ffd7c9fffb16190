"""Whatever a draft guesses, the text is the model's; how right it is says how fast it goes."""

from __future__ import annotations

import functools
import string

import numpy as np
import pytest
from written_texts import CONTEXT, FAMILIES, VOCAB, decided, draft_of, plainly

from chapter_02_text_generation import CharacterTokenizer
from chapter_07_attention import GPT, GPTConfig
from chapter_10_production import Decoder, Engine, Matrix, PagedCache, SamplingParameters
from chapter_10_production.paged_attention import PagedBatch, Piece


class Stumbling(Matrix):
    """The model's last matrix, which points at the wrong token with some probability."""

    def __init__(self, array, right, seed=0):
        super().__init__(array)
        self.right, self.rng = right, np.random.default_rng(seed)

    def apply(self, x):
        y = np.array(super().apply(x))
        wrong = self.rng.random(len(y)) >= self.right
        y[wrong] = np.roll(y[wrong], 1, axis=1)
        return y


class NoNumbers(Matrix):
    def apply(self, x):
        return np.full((len(x), self.shape[0]), np.nan, np.float32)


@functools.lru_cache(maxsize=None)
def model_of(family="gpt2"):
    return decided(FAMILIES[family])


def draft_with(right, model=None):
    """A draft that knows what the model will say, and says something else now and then."""
    draft = Decoder.from_model(model or model_of())
    draft.head = Stumbling(draft.head.dense(), right)
    return draft


def draft_without_numbers():
    draft = Decoder.from_model(model_of())
    draft.head = NoNumbers(draft.head.dense())
    return draft


DRAFTS = {
    "always right": lambda: draft_with(1.0),
    "mostly right": lambda: draft_with(0.8),
    "half right": lambda: draft_with(0.5),
    "never right": lambda: draft_with(0.0),
    "another model": lambda: draft_of(model_of().config),
    "no numbers": draft_without_numbers,
}
PROMPTS = [[1, 2, 3], [9] * 40, [4], [*range(58)], [6] * 63]


@functools.lru_cache(maxsize=None)
def wanted(i, how):
    return plainly(model_of(), PROMPTS[i], how)


def read_to_their_ends(*hows):
    """An engine, and a text for each way of writing, of which it is to write the next tokens."""
    engine = Engine(Decoder.from_model(model_of()))
    texts = [engine.add([1, 2], how) for how in hows]
    for text in texts:
        text.computed = len(text.ids)
    return engine, texts


def test_guesses_stand_up_to_the_first_that_differs():
    engine, texts = read_to_their_ends(*[SamplingParameters(9, 0, logprobs=1)] * 4)
    guesses = [[5, 6, 7], [5, 6, 7], [5, 6, 7]]  # and none at the last text
    own = [[5, 6, 7, 8], [5, 9, 7, 8], [9, 6, 7, 8], [8]]
    logits = 9 * np.eye(VOCAB, dtype=np.float32)[sum(own, [])]
    news = engine.write(texts, logits, dict(zip(texts, guesses)))
    assert [progress.request for progress in news] == texts
    assert [progress.tokens for progress in news] == [
        [5, 6, 7, 8], [5, 9], [9], [8]
    ], "the right guesses, and behind them the model's own token"  # fmt: skip
    assert (engine.proposed, engine.accepted) == (9, 3 + 1 + 0), "guesses, and right ones"
    for text, progress in zip(texts, news):
        assert text.ids == [1, 2, *progress.tokens] and text.computed == len(text.ids) - 1
        likeliest = [told.top[0][0] for told in progress.logprobs]
        assert likeliest == progress.tokens, "the logits are of another place or another text"


def test_each_place_is_drawn_in_its_texts_way_with_its_own_random_number():
    hows = [SamplingParameters(9, seed=1), SamplingParameters(9, 0), SamplingParameters(9, seed=2)]
    engine, texts = read_to_their_ends(*hows)
    # All tokens are equally likely, so the number u is the token [u VOCAB].
    first, third = (
        [int(VOCAB * u) for u in np.random.default_rng(seed).random(5)] for seed in (1, 2)
    )
    guesses = {texts[0]: first[:3], texts[2]: [third[0], third[1] - 1]}
    news = engine.write(texts, np.zeros((8, VOCAB), np.float32), guesses)
    assert [progress.tokens for progress in news] == [
        first[:4], [0], third[:2]
    ], "row i is drawn with number i and the parameters of its own text"  # fmt: skip
    news = engine.write(texts, np.zeros((3, VOCAB), np.float32), {})
    assert [progress.tokens for progress in news] == [
        [first[4]], [0], [third[2]]
    ], "the numbers of guesses that did not stand are used again"  # fmt: skip


@pytest.mark.parametrize("temperature", [0.0, 0.9], ids=["greedy", "drawn"])
@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS)
def test_texts_are_the_models_with_any_draft_and_any_number_of_guesses(draft, temperature):
    hows = [SamplingParameters(n, temperature, 30, seed=n) for n in (12, 3, 1, 30, 9)]
    decoder = Decoder.from_model(model_of())
    for ahead in (1, 2, 3, 5, 8):
        engine = Engine(decoder, draft=draft(), ahead=ahead, page_size=4, cached_tokens=160)
        found = engine.generate(PROMPTS, *hows)
        for i, completion in enumerate(found):
            assert completion.tokens == wanted(
                i, hows[i]
            ), f"text {i}, {ahead} guesses: the draft has changed it"
            assert completion.finish_reason == "length"
        assert engine.pool.held == 0


@pytest.mark.parametrize("ahead", [1, 4, 8])
def test_near_its_end_a_text_is_guessed_no_further_than_it_goes(ahead):
    for most in range(1, ahead + 4):
        engine = Engine(Decoder.from_model(model_of()), draft=draft_with(1.0), ahead=ahead)
        how = SamplingParameters(most, 0)
        (found,) = engine.generate([[1, 2, 3]], how)
        assert found.tokens == wanted(0, how)
        assert engine.proposed == engine.accepted
        assert engine.read == 3 + most - 1, "the last token is the model's own, and never read"
    for length in range(CONTEXT - ahead - 2, CONTEXT):
        engine = Engine(Decoder.from_model(model_of()), draft=draft_with(1.0), ahead=ahead)
        (found,) = engine.generate([[9] * length], SamplingParameters(None, 0))
        assert len(found.tokens) == CONTEXT - length and found.finish_reason == "length"


def fresh(decoder, ids, page_size):
    """Keys and values of a text, read alone and at once: for each layer (T, ...)."""
    pages = -(-len(ids) // page_size)
    cache = PagedCache(decoder.config, pages + 1, page_size)
    piece = Piece(ids, np.arange(1, pages + 1), 0, len(ids))
    batch = PagedBatch(decoder.config, cache, [piece])
    decoder(batch.ids, batch.places, batch)
    return [cache.read(i, piece.table[None])[0, : len(ids)] for i in range(len(cache.layers))]


def check_caches(engine, text):
    assert text.drafted <= text.computed == len(text.ids) - 1
    for decoder, cache, read in (
        (engine.model, engine.cache, text.computed),
        (engine.speculator.draft, engine.speculator.cache, text.drafted),
    ):
        own = fresh(decoder, text.ids[:read], cache.page_size)
        for layer, values in enumerate(own):
            found = cache.read(layer, text.table[None])[0, :read]
            np.testing.assert_allclose(found, values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
def test_both_caches_hold_what_was_written_and_no_wrong_guesses(right):
    draft = draft_of(model_of().config)
    if right:
        draft = draft_with(right)
    engine = Engine(Decoder.from_model(model_of()), draft=draft, ahead=3, page_size=4)
    texts = [engine.add(prompt, SamplingParameters(16, 0.7, seed=5)) for prompt in PROMPTS[:3]]
    while engine.busy:
        engine.step()
        for text in texts:
            if text.finish_reason is None:
                check_caches(engine, text)


@pytest.mark.parametrize(("right", "ahead"), [(0.0, 4), (0.5, 2), (0.7, 4), (0.9, 6), (1.0, 3)])
def test_tokens_a_step_are_what_the_formula_says(right, ahead):
    model = GPT(GPTConfig(17, 256, 1, 1, 8), rng=np.random.default_rng(0)).eval()
    engine = Engine(Decoder.from_model(model), draft=draft_with(right, model), ahead=ahead)
    texts = [engine.add([i], SamplingParameters(210, 0.0)) for i in range(8)]
    engine.step()  # reads the prompts
    begun, steps = sum(text.written for text in texts), 0
    while all(text.written < 200 for text in texts):
        engine.step()
        steps += 1
    tokens = (sum(text.written for text in texts) - begun) / (8 * steps)
    chances = [right**n for n in range(ahead + 1)]
    mean = sum(chances)
    variance = sum((2 * n + 1) * p for n, p in enumerate(chances)) - mean**2
    assert (
        abs(tokens - mean) <= 4 * (variance / (8 * steps)) ** 0.5 + 1e-9
    ), f"{tokens:.3f} tokens a step; guesses that are right so often give {mean:.3f}"


def tokenizer():
    letters = CharacterTokenizer.train(string.printable[:VOCAB])
    assert letters.vocab_size == VOCAB
    return letters


def both(prompt, how, **options):
    """With a perfect draft, and without."""
    decoder = Decoder.from_model(model_of())
    return [
        Engine(decoder, tokenizer(), **more, **options).generate([prompt], how)[0]
        for more in ({"draft": draft_with(1.0), "ahead": 7}, {})
    ]


@pytest.mark.parametrize("place", range(1, 10))
def test_a_stop_string_or_end_token_inside_right_guesses(place):
    own = plainly(model_of(), [1, 2, 3], SamplingParameters(14, 0.8, seed=3))
    stop = tokenizer().decode(own[place : place + 2])
    ends = [{"how": {"stop": (stop,)}}, {"how": {}, "end": own[place]}]
    for how, options in ((end.pop("how"), end) for end in ends):
        guessed, plain = both([1, 2, 3], SamplingParameters(14, 0.8, seed=3, **how), **options)
        assert guessed == plain, "a text ends elsewhere if it is guessed"
        assert plain.finish_reason == "stop"
        assert stop not in plain.text


def test_log_probabilities_are_the_models_and_not_the_drafts():
    how = SamplingParameters(14, 0.8, seed=3, logprobs=4)
    guessed, plain = both([1, 2, 3], how)
    assert guessed.tokens == plain.tokens and len(guessed.logprobs) == len(plain.logprobs) == 14
    for a, b, token in zip(guessed.logprobs, plain.logprobs, plain.tokens):
        assert a.token == b.token == token
        assert a.logprob == pytest.approx(b.logprob, abs=1e-3)
        assert [t for t, _ in a.top] == [t for t, _ in b.top]
        assert a.logprob <= a.top[0][1]


def test_pages_are_shared_only_when_the_draft_has_read_them_too():
    for tokens in range(5, 12):
        engine = Engine(Decoder.from_model(model_of()), draft=draft_with(1.0), page_size=1)
        (first,) = engine.generate([[1, 2, 3]], SamplingParameters(tokens, 0.0))
        known = engine.read
        text = engine.add([1, 2, 3, *first.tokens], SamplingParameters(9, 0.0))
        engine.step()
        assert engine.read - known <= 5, "the rest and four guesses: the beginning is shared"
        check_caches(engine, text)


def test_a_draft_that_knows_the_model_is_right_when_tokens_are_drawn_too():
    engine = Engine(Decoder.from_model(model_of()), draft=draft_with(1.0), ahead=4)
    hows = [SamplingParameters(25, 1.5, seed=seed) for seed in range(4)]
    engine.generate([[i] for i in range(4)], *hows)
    assert engine.accepted == engine.proposed > 0, "both are to draw with the same random number"
