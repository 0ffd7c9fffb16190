"""fit and written_by: it learns, judges as often as asked, and the same seed is the same run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, evaluate
from chapter_07_attention import GPT, GPTConfig, fit, names_corpus, text_corpus, written_by
from utils import manual_seed

TEXT = "abcabcabc abcabc. " * 40
NAMES = [a + b + c for a in "abc" for b in "de" for c in ["", "fg", "h"]] * 2


@pytest.fixture(scope="module")
def corpora():
    return {"text": text_corpus(TEXT, 8), "names": names_corpus(NAMES)}


def model_for(corpus, **options):
    return GPT(GPTConfig(corpus.tokenizer.vocab_size, corpus.block_size, 1, 2, 8, **options))


def learn(corpus, steps=20, seed=3, **options):
    manual_seed(seed)
    model = model_for(corpus, dropout=options.pop("dropout", 0.0))
    return model, fit(model, corpus, steps, **options)


@pytest.mark.parametrize("kind", ["text", "names"])
def test_it_learns(kind, corpora):
    corpus = corpora[kind]
    model, history = learn(corpus, 60, lr=1e-2)
    losses = [e["loss"] for e in history.evaluations]
    assert losses[-1] < losses[0] < math.log(corpus.tokenizer.vocab_size) + 0.1
    found = evaluate(model, *corpus.validation)["loss"]
    assert found == pytest.approx(losses[-1], rel=1e-5), "the last judgement is of the end"


@pytest.mark.parametrize("kind", ["text", "names"])
def test_the_same_seed_is_the_same_run(kind, corpora):
    corpus, runs = corpora[kind], []
    for seed in (3, 3, 4):
        model, history = learn(corpus, 8, seed, dropout=0.1)
        runs.append([history.losses, model.embedding.weight.data.tolist(),
                     written_by(model, corpus, 50)])  # fmt: skip
    assert runs[0] == runs[1] and runs[0][0] != runs[2][0]


@pytest.mark.parametrize(("steps", "judged"), [(10, 5), (10, 1), (3, 5), (7, 2)])
def test_it_is_judged_so_often_and_at_the_end(steps, judged, corpora):
    _, history = learn(corpora["text"], steps, judged=judged)
    at = [e["step"] for e in history.evaluations]
    assert at[-1] == steps and len(at) in (min(judged, steps), min(judged, steps) + 1)


def test_it_shows_losses_and_something_written(corpora):
    said = []
    learn(corpora["names"], 4, judged=2, show=said.append)
    assert len(said) == 2
    assert all("validation" in text and "writes" in text for text in said)


def test_showing_changes_nothing_but_what_is_shown(corpora):
    """Otherwise whoever looks on gets another model than who does not."""
    quiet, seen = (learn(corpora["names"], 6, judged=3, show=s)[0] for s in (None, lambda s: None))
    np.testing.assert_array_equal(quiet.embedding.weight.data, seen.embedding.weight.data)


def test_another_optimiser(corpora):
    manual_seed(0)
    model = model_for(corpora["text"])
    before = model.head.weight.data.copy()
    fit(model, corpora["text"], 2, optimizer=SGD(model.parameters(), lr=0.0))
    np.testing.assert_array_equal(model.head.weight.data, before, "its learning rate is 0")


def test_a_run_goes_on_from_its_checkpoint(corpora, tmp_path):
    whole, _ = learn(corpora["names"], 12)
    folder = tmp_path / "run"
    first, history = learn(corpora["names"], 12, checkpoint=folder)
    again, resumed = learn(corpora["names"], 12, seed=99, checkpoint=folder)
    np.testing.assert_array_equal(whole.head.weight.data, first.head.weight.data)
    np.testing.assert_array_equal(again.head.weight.data, first.head.weight.data)


def test_written_text_and_names(corpora):
    text = written_by(model_for(corpora["text"]), corpora["text"], 30)
    assert text.startswith(TEXT[0]) and len(text) == 31
    names = written_by(model_for(corpora["names"]), corpora["names"]).split(", ")
    assert len(names) == 10
    assert all(set(n) <= set("".join(NAMES)) for n in names), "no boundary is part of a name"
    write = lambda seed: written_by(
        model_for(corpora["text"]), corpora["text"], 20, rng=np.random.default_rng(seed)
    )
    manual_seed(0)
    first = write(1)
    manual_seed(0)
    assert write(1) == first
