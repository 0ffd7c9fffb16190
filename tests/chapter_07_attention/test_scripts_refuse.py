"""Bad input to the chapter's scripts: one line, exit status 2, and nothing of the user's lost."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chapter_02_text_generation import CharacterTokenizer
from chapter_07_attention import (
    compare_positions,
    generate,
    save_pretrained,
    train_dates,
    train_gpt,
)

TEXT = "to be or not to be, that is the question. " * 40


@pytest.fixture
def folder(tmp_path, small_gpt, monkeypatch):
    """A working folder with good and bad files, and the results of an earlier run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name in ("metrics.json", "loss.png", "attention.png", "notes.txt"):
        (tmp_path / "out" / name).write_text("from an earlier run")
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "short.txt").write_text("to be or")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "few.txt").write_text("anna\nbob\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00text")
    np.savez(tmp_path / "images.npz", images=np.zeros((9, 28, 28), np.uint8), labels=np.arange(9))
    save_pretrained(small_gpt(), tmp_path / "model", CharacterTokenizer("abcdefghij", ["\n"]))
    save_pretrained(small_gpt(), tmp_path / "bare")
    for name in ("cut", "liar", "unknown", "picky"):
        save_pretrained(small_gpt(), tmp_path / name, CharacterTokenizer("abcdefghij", ["\n"]))
    cut = tmp_path / "cut" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-5])
    for name, change in {
        "liar": {"n_embd": 16}, "unknown": {"model_type": "bert"}, "picky": {"n_head": "two"},
    }.items():  # fmt: skip
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return tmp_path


def files_in(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refuse(script, arguments, said, folder, capsys) -> str:
    before = files_in(folder)
    with pytest.raises(SystemExit) as stop:
        script.main([*arguments, "--out", "out"])
    assert stop.value.code == 2
    output = capsys.readouterr()
    *usage, message = output.err.splitlines()
    assert ": error: " in message, f"the last line says what is wrong, not {message!r}"
    assert said in message, f"{said!r} should be in {message!r}"
    assert all(line.startswith(("usage:", " ")) for line in usage), "one line, no traceback"
    assert files_in(folder) == before, "bad input must cost the user nothing"
    return output.out


TRAIN_GPT = [
    ("--data nowhere.txt", "nowhere.txt"),
    ("--data empty.txt", "empty.txt"),
    ("--data bytes.txt", "bytes.txt"),
    ("--data out", "out"),
    ("--data short.txt", "too short"),
    ("--data few.txt", "2 names are too few"),
    ("--data images.npz", "pictures"),
    ("--data mnist", "mnist"),
    ("--data text.txt --context 5000", "5000"),
    ("--data text.txt --heads 3", "n_head=3"),
    ("--data text.txt --positions absolute", "absolute"),
    ("--data text.txt --family llama --heads 4 --width 12", "even"),
    ("--data text.txt --vocab-size 100", "--vocab-size"),
    ("--family bert", "bert"),
    ("--kind sounds", "sounds"),
    ("--context 0", "--context"),
    ("--layers 0", "--layers"),
    ("--width -8", "--width"),
    ("--batch 0", "--batch"),
    ("--steps x", "--steps"),
    ("--lr nan", "--lr"),
    ("--dropout 1", "--dropout"),
    ("--weight-decay -1", "--weight-decay"),
    ("--seed -1", "--seed"),
]


@pytest.mark.parametrize(("arguments", "said"), TRAIN_GPT)
def test_train_gpt(arguments, said, folder, capsys):
    assert "validation" not in refuse(train_gpt, arguments.split(), said, folder, capsys)


GENERATE = [
    ("nowhere", "nowhere holds no model: there is no such folder"),
    ("text.txt", "text.txt holds no model: there is no such folder"),
    ("out", "out holds no model: config.json is missing"),
    ("cut", "model.safetensors"),
    ("liar", "wte"),
    ("unknown", "model_type"),
    ("picky", "n_head"),
    ("bare", "--ids"),
    ("bare --prompt abc", "--ids"),
    ("bare --ids 1 11", "token 11; the model knows 0 to 10"),
    ("bare --ids -1", "--ids"),
    ("bare --ids 1 2 3 4 5 6 7 8 9 10 1 2 3", "1 to 12 tokens"),
    ("model --prompt abcdefghijabc", "1 to 12 tokens"),
    ("model --prompt xyz", "x"),
    ("model --prompt abc --ids 1", "--ids"),
    ("model --tokens 0", "--tokens"),
    ("model --samples 0", "--samples"),
    ("model --temperature -1", "--temperature"),
    ("model --temperature nan", "--temperature"),
    ("model --top-k 0", "--top-k"),
    ("model --top-k 12", "12"),
    ("model --top-p 0", "--top-p"),
    ("model --min-p 2", "--min-p"),
]


@pytest.mark.parametrize(("arguments", "said"), GENERATE)
def test_generate(arguments, said, folder, capsys):
    refuse(generate, arguments.split(), said, folder, capsys)


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_said(folder, capsys):
    arguments = ["model", "--prompt", "abcdefghijabc"]
    assert refuse(generate, arguments, "1 to 12 tokens", folder, capsys) == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--examples 5", "--examples"),
        ("--heads 3", "3"),
        ("--width 0", "--width"),
        ("--dropout 1", "--dropout"),
        ("--lr inf", "--lr"),
        ("--steps 0", "--steps"),
        ("--layers 0", "--layers"),
    ],
)
def test_train_dates(arguments, said, folder, capsys):
    assert refuse(train_dates, arguments.split(), said, folder, capsys) == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--data nowhere.txt", "nowhere.txt"),
        ("--data short.txt", "too short"),
        ("--data text.txt --context 50", "200"),
        ("--positions absolute", "absolute"),
        ("--context 1", "--context"),
        ("--data text.txt --context 8 --steps 1 --width 10", "10"),
        ("--data text.txt --context 8 --steps 1 --width 12", "even"),
    ],
)
def test_compare_positions(arguments, said, folder, capsys):
    printed = refuse(compare_positions, arguments.split(), said, folder, capsys)
    assert "learned " not in printed, "look at every scheme before the first is trained"
