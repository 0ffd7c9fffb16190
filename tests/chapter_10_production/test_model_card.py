"""A card says what it was told, what follows from it, and what it was not told; its code runs."""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import pytest
from exported_models import (
    NO_ONNX,
    NO_TRANSFORMERS,
    TEXT,
    byte_pairs,
    characters,
    lively_model,
    quiet,
)
from torch_twins import NO_TORCH

from chapter_03_neural_nets import count_parameters, predict
from chapter_07_attention import LlamaConfig
from chapter_10_production.card_facts import Data, HeldOut, judged_on_names, judged_on_text
from chapter_10_production.hugging_face_export import export_pretrained
from chapter_10_production.model_card import model_card, parameter_count
from chapter_10_production.onnx_export import save_onnx

DATA = Data.of("a text", TEXT)
HELD_OUT = HeldOut(2.0, 300, 400)


def code_of(card: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)


def test_all_that_is_known_is_in_it():
    config = LlamaConfig(300, 64, n_layer=3, n_head=4, n_embd=32, n_kv_head=2, window=16)
    command = "python train.py --steps 9"
    card = model_card(config, "tiny", byte_pairs("<|end|>"), DATA, HELD_OUT, command, "mit",
                      "../m.onnx")  # fmt: skip
    for fact in [
        "# tiny\n", f"{parameter_count(config):,} parameters", "| layers | 3 |",
        "4 of 8 numbers, which share 2", "64 tokens, each layer looking back 16", "rotary",
        "RMS norm, swiglu", "byte pairs", hashlib.sha256(TEXT.encode()).hexdigest(),
        f"{len(TEXT):,} characters", command, 'license: "mit"', "../m.onnx",
        "2.0000", f"{math.e**2:.2f}", f"{2 / math.log(2) * 300 / 400:.4f}", "serve.py",
    ]:  # fmt: skip
        assert fact in card, f"{fact!r} was given, and is not in the card"
    assert "was not told" not in card


def test_what_is_not_known_is_named_and_not_invented():
    card = model_card(lively_model().config, "tiny")
    for what in ("learnt from", "guesses", "trained", "license", "tokens stand for"):
        assert what in card.partition("was not told: ")[2], f"nobody has said {what}"
    for section in ("What it learnt", "How well"):
        assert f"## {section}" not in card
    for word in ("license:", "SHA-256", "perplexity", "model-index", "model.onnx", "AutoTokenizer",
                 "serve.py", "None"):  # fmt: skip
        assert word not in card, f"{word!r} is about something that was not given"


@pytest.mark.parametrize("missing", range(5))
def test_each_fact_is_missed_by_itself(missing):
    facts = [byte_pairs(), DATA, HELD_OUT, "python train.py", "mit"]
    facts[missing] = None
    card = model_card(lively_model().config, "tiny", *facts)
    what = ["tokens stand for", "learnt from", "guesses", "how it was trained", "license"][missing]
    line = card.partition("was not told: ")[2].strip()
    assert what in line and ";" not in line


@pytest.mark.parametrize(
    "options",
    [{}, {"tied": False}, {"bias": False}, {"llama": True, "n_head": 4, "n_kv_head": 1},
     {"positions": "alibi", "activation": "swiglu"}],
    ids=str,
)  # fmt: skip
def test_parameters_are_counted_without_a_model(options):
    model = lively_model(**options)
    assert parameter_count(model.config) == count_parameters(model)


def test_the_head_is_yaml():
    yaml = pytest.importorskip("yaml", reason=NO_TRANSFORMERS)
    names = 'a "quoted": name\n# with - all: kinds | of {things}', "text: 1"
    card = model_card(lively_model().config, names[0], data=Data.of(names[1], TEXT),
                      held_out=HELD_OUT, license="cc-by-4.0")  # fmt: skip
    head = yaml.safe_load(card.split("---\n")[1])
    (entry,) = head["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == " ".join(names[0].split()) and head["license"] == "cc-by-4.0"
    assert result["dataset"]["name"] == names[1]
    assert result["metrics"] == [{"type": "perplexity", "value": round(math.e**2, 4)}]
    assert head["pipeline_tag"] == "text-generation" and head["library_name"] == "transformers"


def test_a_model_that_transformers_lacks_does_not_promise_it():
    card = model_card(lively_model(positions="alibi").config, "tiny", byte_pairs())
    assert "library_name" not in card and "AutoModel" not in card
    assert "transformers has no such architecture" in card


def test_text_of_others_stays_in_its_place():
    command = "echo '```' '````'"
    card = model_card(lively_model().config, "tiny", characters("|", "`"), command=command)
    assert f"`````sh\n{command}\n`````" in card
    row = next(line for line in card.splitlines() if line.startswith("| tokens"))
    assert row.count("|") - row.count("\\|") == 3, "a | among the tokens ends the table's cell"
    assert "refuses all others" in card


def test_losses_by_hand():
    """Of a model that thinks all tokens equally likely, on all but the first of the text."""
    tokenizer = characters("|")
    model = lively_model(vocab_size=tokenizer.vocab_size)
    for p in model.parameters():
        p.data[...] = 0
    found = judged_on_text(model, tokenizer, TEXT[:100])
    assert found.tokens == 99 and found.characters == 100
    assert found.loss == pytest.approx(math.log(tokenizer.vocab_size))
    assert found.perplexity == pytest.approx(tokenizer.vocab_size)
    assert found.bits_per_character == pytest.approx(math.log2(tokenizer.vocab_size) * 0.99)
    named = judged_on_names(model, tokenizer, ["cat", "mat", "hat"])
    assert named.tokens == named.characters == 12, "a name's end is guessed too"
    with pytest.raises(ValueError, match="special token"):
        judged_on_names(model, characters(), ["cat"])


def test_losses_go_on_from_block_to_block():
    tokenizer = characters()
    model = lively_model(vocab_size=tokenizer.vocab_size)
    ids = tokenizer.encode(TEXT[:30])
    expected = []
    for start in range(0, 29, 12):
        block = ids[start : start + 12]
        logits = predict(model, [block])[0].astype(float)
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        targets = ids[start + 1 : start + 13]
        expected += [-log_probs[i, target] for i, target in enumerate(targets)]
    found = judged_on_text(model, tokenizer, TEXT[:30])
    assert found.loss == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize(
    "tokenizer", [byte_pairs("<|end|>"), characters("\n"), None], ids=["pairs", "letters", "none"]
)
def test_the_snippets_run(tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason=NO_ONNX)
    pytest.importorskip("torch", reason=NO_TORCH)
    with quiet():
        pytest.importorskip("transformers", reason=NO_TRANSFORMERS)
    known = 11 if tokenizer is None else tokenizer.vocab_size
    model = lively_model(vocab_size=known)
    card = model_card(model.config, "tiny", tokenizer, onnx_file="../model.onnx")
    folder = export_pretrained(model, tmp_path / "folder", card, tokenizer)
    save_onnx(model, tmp_path / "model.onnx")
    monkeypatch.chdir(folder)
    in_transformers, in_onnxruntime = code_of(card, "python")
    names: dict = {}
    with quiet():
        exec(in_transformers, names)
    if tokenizer is None:
        assert names["logits"].shape == (1, 1, known)
    else:
        begin = names["tokenizer"].decode(names["ids"]["input_ids"][0])
        assert names["text"].startswith(begin) and len(names["written"][0]) > 1
    exec(in_onnxruntime, names)
    np.testing.assert_allclose(names["logits"], model([[0]]).data, atol=1e-5)
