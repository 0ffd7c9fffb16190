"""The folder that is exported, in transformers and in the book's code; what it may replace."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from exported_models import NO_TRANSFORMERS, TEXT, byte_pairs, characters, lively_model, quiet
from torch_twins import NO_TORCH

from chapter_02_text_generation import BPETokenizer, Tokenizer
from chapter_07_attention import from_pretrained, load_tokenizer
from chapter_10_production import hugging_face_export
from chapter_10_production.hugging_face_export import (
    TAG,
    export_pretrained,
    known_to_transformers,
    save_tokenizer,
    transformers_model,
    transformers_tokenizer,
)

CARD = f"---\ntags:\n- {TAG}\n---\n"
HARD = [
    "", " ", "  a", "isn't IT'S \n\n  x", "\u65e5\u672c\u8a9e \u00e9migr\u00e9", "a" * 50,
    "\u00a0\u2003x\x1c\x1d\x85y\u180e", "\U0001f600\U0001f469\u200d\U0001f469", "\x00\x01\x7f",
    "\u00bd \u00b2 \u2167 \u0663", "e\u0301", "\r\n\t x ", "\ufeffx", "\u0130", "'LL 'll 're",
    "<|end|>", "the<|end|>cat<|pad|>", "<|end", "#version: 0.2", "def f(x):\n    return x**2\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch", reason=NO_TORCH)
    with quiet():
        yield pytest.importorskip("transformers", reason=NO_TRANSFORMERS)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("options", [{}, {"llama": True, "n_head": 4, "n_kv_head": 2}], ids=str)
def test_the_model_opens_in_transformers(options, transformers, tmp_path):
    tokenizer = byte_pairs("<|end|>")
    model = lively_model(vocab_size=tokenizer.vocab_size, **options)
    folder = export_pretrained(model, tmp_path / "model", CARD, tokenizer)
    ids = np.random.default_rng(0).integers(tokenizer.vocab_size, size=(2, 12))
    apart = np.abs(transformers_model(folder)(ids) - model(ids).data).max()
    assert apart < 1e-4, f"the logits of transformers are {apart:.1e} from ours"


@pytest.mark.parametrize("name", ["hf_tiny_gpt2", "hf_tiny_llama"])
def test_stored_checkpoints_come_back(name, transformers, reference_data, tmp_path):
    model = from_pretrained(reference_data / name)
    folder = export_pretrained(model, tmp_path / name, CARD)
    logits = transformers_model(folder)(np.array([[1, 5, 7, 2, 64, 3]]))
    assert np.abs(logits - np.load(reference_data / name / "logits.npy")).max() < 1e-4


@pytest.mark.parametrize("llama", [False, True])
@pytest.mark.parametrize("special", [[], ["<|end|>"], ["<|end|>", "<|pad|>"]], ids=str)
def test_transformers_makes_the_same_byte_pairs(special, llama, transformers, tmp_path):
    ours = byte_pairs(*special)
    model = lively_model(llama, vocab_size=ours.vocab_size)
    theirs = transformers_tokenizer(export_pretrained(model, tmp_path / "model", CARD, ours))
    assert len(theirs) == ours.vocab_size, "transformers has added tokens that the model lacks"
    for text in [*HARD, TEXT]:
        ids = ours.encode(text, allow_special=True)
        assert theirs.encode(text) == ids, f"other tokens of {text!r}"
        assert theirs.decode(ids) == text, f"{text!r} comes back otherwise"
    end = special[0] if special else None
    assert theirs.eos_token == theirs.bos_token == end
    assert theirs.model_max_length == 12


def test_gpt2s_own_tokenizer_comes_back(transformers, reference_data, tmp_path):
    ours = BPETokenizer.from_gpt2(reference_data / "gpt2")
    save_tokenizer(ours, tmp_path, 1024)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = transformers_tokenizer(tmp_path)
    assert len(theirs) == 50257 and theirs.eos_token_id == 50256
    for text in [*HARD, TEXT, "<|endoftext|>", "The quick brown fox, 1234567 times"]:
        assert theirs.encode(text) == ours.encode(text, allow_special=True), f"tokens of {text!r}"


@pytest.mark.parametrize("special", [[], ["\n"], ["|", "."]], ids=str)
def test_transformers_makes_the_same_characters(special, transformers, tmp_path):
    ours = characters(*special)
    model = lively_model(vocab_size=ours.vocab_size)
    theirs = transformers_tokenizer(export_pretrained(model, tmp_path / "model", CARD, ours))
    assert len(theirs) == ours.vocab_size
    for text in ["", " ", "  the  ", "e\u0301 \t", "it ?, ' .", "'s isn't", "\n\n a\n", TEXT]:
        ids = ours.encode(text)
        assert theirs.encode(text) == ids, f"other tokens of {text!r}"
        assert theirs.decode(ids) == text, f"{text!r} comes back otherwise"
    with pytest.raises(Exception, match="UNK"):
        theirs.encode("XYZ")


def test_a_text_ends_where_the_tokenizer_says(transformers, tmp_path):
    """A Llama's folder that is silent would end texts at token 2."""
    ours = byte_pairs("<|end|>")
    for number, tokenizer in enumerate([None, byte_pairs(), ours]):
        model = lively_model(llama=True, vocab_size=ours.vocab_size)
        folder = export_pretrained(model, tmp_path / str(number), CARD, tokenizer)
        settings = transformers.GenerationConfig.from_pretrained(str(folder))
        end = ours.special_tokens["<|end|>"] if tokenizer is ours else None
        assert settings.eos_token_id == settings.bos_token_id == end
        loaded = transformers.AutoModelForCausalLM.from_pretrained(str(folder))
        assert loaded.generation_config.eos_token_id == end


@pytest.mark.parametrize("ours", [byte_pairs("<|end|>"), characters("|")], ids=type)
def test_the_books_code_opens_the_folder_too(ours, tmp_path):
    model = lively_model(vocab_size=ours.vocab_size, positions="alibi")
    folder = export_pretrained(model, tmp_path / "new" / "model", CARD, ours)
    again, tokenizer = from_pretrained(folder), load_tokenizer(folder)
    np.testing.assert_array_equal(again([[1, 2]]).data, model([[1, 2]]).data)
    assert tokenizer.encode(TEXT) == ours.encode(TEXT)
    assert tokenizer.special_tokens == ours.special_tokens
    assert (folder / "README.md").read_text() == CARD
    assert not known_to_transformers(model.config) and known_to_transformers(lively_model().config)


def test_the_files_are_gpt2s(tmp_path):
    """Read back by chapter 2, which takes them for GPT-2's."""
    ours = byte_pairs("<|endoftext|>")
    save_tokenizer(ours, tmp_path, 12)
    again = BPETokenizer.from_gpt2(tmp_path)
    assert again.merges == ours.merges and again.special_tokens == ours.special_tokens
    ids = json.loads((tmp_path / "vocab.json").read_text())
    assert ids["a"] == ord("a") and ids["\u0120"] == ord(" ") and ids["<|endoftext|>"] == 289
    lines = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(ours.merges) and lines[0].startswith("#version")


def test_what_the_files_cannot_say(tmp_path):
    twice = BPETokenizer([(97, 98), (98, 99), (256, 99), (97, 257)])  # abc in two ways
    for tokenizer in (twice, BPETokenizer([(97, 98)], special_tokens=["ab"])):
        with pytest.raises(ValueError, match="'abc?' would have two"):
            save_tokenizer(tokenizer, tmp_path, 12)
    with pytest.raises(ValueError, match="nothing like a Tokenizer"):
        save_tokenizer(Tokenizer(), tmp_path, 12)


def test_an_earlier_export_is_replaced_whole(tmp_path):
    folder = tmp_path / "model"
    export_pretrained(lively_model(), folder, CARD, byte_pairs())
    assert (folder / "merges.txt").exists()
    export_pretrained(lively_model(llama=True), folder, CARD, characters())
    assert not (folder / "merges.txt").exists(), "the tokenizer of the model before is still there"
    assert (folder / "tokenizer.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "nothing is left behind"


@pytest.mark.parametrize("made", ["nothing", "export", "other"])
def test_what_goes_wrong_half_way_costs_nothing(made, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    if made == "export":
        export_pretrained(lively_model(), folder, CARD, byte_pairs())
    elif made == "other":
        folder.mkdir()
        (folder / "README.md").write_text("my own notes")
    before = contents(tmp_path)

    def full_disk(path, value):
        raise OSError("no space left on device")

    monkeypatch.setattr(hugging_face_export, "write_json", full_disk)
    with pytest.raises((OSError, ValueError), match="no space|no export wrote"):
        export_pretrained(lively_model(), folder, CARD, characters())
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == (made != "nothing"), "nothing is left behind"


def test_what_is_no_export_stays(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="not a folder"):
        export_pretrained(lively_model(), tmp_path / "file", CARD)
    (tmp_path / "model").mkdir()
    export_pretrained(lively_model(), tmp_path / "model", CARD)  # which was empty
    with pytest.raises(ValueError, match="tag"):
        export_pretrained(lively_model(), tmp_path / "model", "a card without a head")


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_the_library_it_is_said_what_to_install(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="pip install torch transformers"):
        transformers_model("nowhere")
