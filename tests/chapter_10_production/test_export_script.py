"""export.py: what it writes and says, what it refuses, and that it finds a wrong export."""

from __future__ import annotations

import hashlib
import json
import math
import sys

import numpy as np
import pytest
from exported_models import NO_ONNX, NO_TRANSFORMERS, byte_pairs, characters, lively_model, quiet
from refusals import refused
from torch_twins import NO_TORCH

from chapter_02_text_generation import CharacterTokenizer
from chapter_07_attention import from_pretrained, load_tokenizer, save_pretrained
from chapter_10_production import export
from chapter_10_production.hugging_face_export import TAG

TEXT = "the cat sat on the mat, and the rat sat on that. " * 40
NAMES = "\n".join(a + b + c for a in "kmnrs" for b in "aeiou" for c in ["", "la"]) + "\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with models and texts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "names.txt").write_text(NAMES)
    (tmp_path / "greek.txt").write_text("\u03b1\u03b2\u03b3 " * 100)
    np.savez(tmp_path / "images.npz", images=np.zeros((9, 28, 28), np.uint8), labels=np.arange(9))
    letters = CharacterTokenizer.train(TEXT + NAMES, ["\n"])
    model = lively_model(vocab_size=letters.vocab_size)
    save_pretrained(model, tmp_path / "model", letters)
    save_pretrained(model, tmp_path / "bare")
    save_pretrained(lively_model(positions="alibi"), tmp_path / "own")
    save_pretrained(lively_model(), tmp_path / "few", byte_pairs())
    save_pretrained(model, tmp_path / "cut", letters)
    cut = tmp_path / "cut" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-5])
    (tmp_path / "taken" / "huggingface").mkdir(parents=True)
    (tmp_path / "taken" / "huggingface" / "README.md").write_text("my own model")
    return tmp_path


def run(*arguments, out="out"):
    export.main([*map(str, arguments), "--out", out])
    with open(f"{out}/metrics.json", encoding="utf-8") as file:
        return json.load(file)


def files_in(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_both_exports_agree_with_the_model(folder, capsys):
    pytest.importorskip("onnxruntime", reason=NO_ONNX)
    pytest.importorskip("torch", reason=NO_TORCH)
    with quiet():
        pytest.importorskip("transformers", reason=NO_TRANSFORMERS)
        metrics = run("model", "--data", "text.txt", "--license", "mit", "--trained-by", "me")
    said = capsys.readouterr().out
    for name in ("onnx", "huggingface"):
        assert metrics[name]["largest_difference"] < 1e-5
        assert f"{metrics[name]['bytes']:,} bytes" in said
    assert "same tokens" in said
    source, made = folder / "model", folder / "out" / "huggingface"
    assert (made / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    card = (made / "README.md").read_text()
    assert "# model\n" in card and 'license: "mit"' in card and "```sh\nme\n```" in card
    assert hashlib.sha256(TEXT.encode()).hexdigest() in card
    assert f"{metrics['held_out']['perplexity']:.2f}" in card
    assert metrics["held_out"]["characters"] == math.ceil(len(TEXT) / 10)
    before = files_in(folder / "out")
    with quiet():
        run("model", "--data", "text.txt", "--license", "mit", "--trained-by", "me")
    assert files_in(folder / "out") == before, "the same export gives the same files"


def test_a_model_of_names_is_judged_on_names(folder):
    metrics = run("model", "--data", "names.txt", "--quick")
    assert metrics["held_out"]["characters"] == pytest.approx(5 * 4, abs=6)
    assert "names.txt, but for" in (folder / "out" / "huggingface" / "README.md").read_text()


def test_without_a_folder_a_small_model_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    metrics = run("--quick", "--steps", 1, "--name", "my model", "--seed", 3)
    model = from_pretrained(tmp_path / "out" / "huggingface")
    tokenizer = load_tokenizer(tmp_path / "out" / "huggingface")
    assert tokenizer.vocab_size == model.config.vocab_size
    assert 5 < metrics["held_out"]["loss"] < 8
    card = (tmp_path / "out" / "huggingface" / "README.md").read_text()
    assert "export.py --steps 1 --seed 3 --quick" in card and "# my model" in card
    assert str(tmp_path) not in card, "a card is read elsewhere"
    assert "learns from Python's language reference" in capsys.readouterr().out


def test_models_that_only_the_book_knows(folder, capsys):
    metrics = run("own")
    assert "transformers has no such architecture" in capsys.readouterr().out
    assert metrics["huggingface"]["largest_difference"] is None
    model = from_pretrained(folder / "out" / "huggingface")
    assert model.config.positions == "alibi"


def test_without_the_runtimes_files_are_written_and_it_is_said_what_to_install(
    folder, monkeypatch, capsys
):
    pytest.importorskip("onnx", reason=NO_ONNX)
    for name in ("onnxruntime", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    metrics = run("model")
    said = capsys.readouterr().out
    assert "pip install onnx onnxruntime" in said and "pip install torch transformers" in said
    assert metrics["onnx"]["largest_difference"] is None
    assert (folder / "out" / "model.onnx").exists()


def test_without_onnx_there_is_no_file_and_the_card_knows(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    metrics = run("model", "--quick")
    assert "No ONNX file is written" in capsys.readouterr().out
    assert "onnx" not in metrics and not (folder / "out" / "model.onnx").exists()
    assert "onnxruntime" not in (folder / "out" / "huggingface" / "README.md").read_text()


@pytest.mark.parametrize("amount", [1e-3, np.nan])
def test_a_wrong_export_is_found(amount, folder, monkeypatch, capsys):
    monkeypatch.setattr(export, "load_onnx", lambda: None)
    monkeypatch.setattr(export, "save_onnx", lambda model, path, facts: folder / "text.txt")
    model = from_pretrained(folder / "model")
    monkeypatch.setattr(
        export, "onnxruntime_model", lambda path: lambda ids: model(ids).data + amount
    )
    message, _ = refused(export.main, ["model", "--out", "out", "--quick"], capsys)
    assert "from ours" in message


def test_wrong_tokens_are_found():
    export.check_tokens(characters("|"), characters("|"))
    ours, others = byte_pairs(), byte_pairs(vocab_size=280)
    export.check_tokens(ours, ours)
    with pytest.raises(ValueError, match="other tokens"):
        export.check_tokens(ours, others)


REFUSED = [
    ("nowhere", "no such folder"),
    ("text.txt", "text.txt"),
    ("cut", "model.safetensors"),
    ("few", "the model knows 11 of the tokenizer's 290"),
    ("model --data nowhere.txt", "nowhere.txt"),
    ("model --data images.npz", "pictures"),
    ("model --data greek.txt", "not among"),
    ("bare --data text.txt", "no tokenizer"),
    ("--data text.txt", "FOLDER"),
    ("--steps 0", "at least 1"),
    ("model --seed x", "whole number"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[line for line, _ in REFUSED])
def test_bad_input_is_one_line_and_costs_nothing(arguments, said, folder, capsys):
    run("model", "--quick", out="out")
    capsys.readouterr()
    before = files_in(folder)
    message, _ = refused(export.main, [*arguments.split(), "--out", "out"], capsys)
    assert said in message, f"{said!r} should be in {message!r}"
    assert files_in(folder) == before


@pytest.mark.parametrize(
    ("source", "out"),
    [("model", "model"), ("a/huggingface", "a"), ("a/huggingface", "a/huggingface"),
     ("a/huggingface/b", "a"), ("model", "taken"), ("model", "link")],
)  # fmt: skip
def test_no_model_is_written_over(source, out, folder, capsys):
    export.export_pretrained(lively_model(), folder / "a" / "huggingface", f"tag {TAG}")
    save_pretrained(lively_model(), folder / "a" / "huggingface" / "b")
    (folder / "link").symlink_to(folder / "model")
    before = files_in(folder)
    message, _ = refused(export.main, [source, "--out", out, "--quick"], capsys)
    assert "would be written over" in message or "no export wrote" in message
    assert files_in(folder) == before
