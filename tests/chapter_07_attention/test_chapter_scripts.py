"""The chapter's scripts: what they write and print, and what becomes of what was there before."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from refusals import refused

from chapter_02_text_generation import CharacterTokenizer
from chapter_07_attention import (
    compare_positions,
    from_pretrained,
    generate,
    load_tokenizer,
    save_pretrained,
    train_dates,
    train_gpt,
)


@pytest.fixture
def text_file(tmp_path):
    rng = np.random.default_rng(0)
    words = rng.choice(["to", "be", "or", "not", "that", "is\n", "the", "question."], 1200)
    path = tmp_path / "text.txt"
    path.write_text(" ".join(words))
    return path


@pytest.fixture
def names_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(a + b + c for a in "kmnrs" for b in "aeiou" for c in ["", "la"]))
    return path


def run(script, out, *arguments):
    script.main(["--quick", "--out", str(out), *map(str, arguments)])
    return json.loads((out / "metrics.json").read_text())


def pictures(out):
    for path in out.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    return sorted(path.name for path in out.glob("*.png"))


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing every head takes most of a short run's time."""
    monkeypatch.setattr(train_gpt, "draw_attention", lambda *args: None)


def test_a_text_is_learnt_from_and_gone_on_with(text_file, tmp_path, capsys):
    out = tmp_path / "out"
    metrics = run(train_gpt, out, "--data", text_file, "--heads", 1)
    said = capsys.readouterr()
    assert said.err == "" and f"{metrics['val_nll']:.4f} nats" in said.out
    assert f"{metrics['val_bits_per_character']:.4f} bits" in said.out
    assert 0 < metrics["val_bits_per_character"] < 8 and "test_nll" not in metrics
    assert pictures(out) == ["attention_first.png", "attention_last.png", "loss.png"]
    model = from_pretrained(out / "model")
    assert sum(p.size for p in model.parameters()) == metrics["parameters"]
    assert load_tokenizer(out / "model").vocab_size == metrics["vocab_size"]

    written = tmp_path / "written"
    arguments = [out / "model", "--prompt", "to be", "--samples", 2, "--seed", 3]
    first = run(generate, written, *arguments)
    assert len(first["texts"]) == 2 and all(t.startswith("to be") for t in first["texts"])
    printed = capsys.readouterr().out
    assert all(text in printed for text in first["texts"]), "what is kept is what was shown"
    assert run(generate, written, *arguments) == first, "the same seed writes the same"
    arguments[-1] = 4
    assert run(generate, written, *arguments) != first


def test_a_llama_is_written_as_one(no_pictures, text_file, tmp_path, capsys):
    run(train_gpt, tmp_path, "--data", text_file, "--family", "llama", "--positions", "rotary")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "llama"
    metrics = run(generate, tmp_path / "written", tmp_path / "model")
    assert len(metrics["texts"][0]) > 3


def test_a_list_of_names_is_known_by_its_looks(no_pictures, names_file, tmp_path, capsys):
    metrics = run(train_gpt, tmp_path / "out", "--data", names_file)
    assert "40 names to learn from" in capsys.readouterr().out
    assert metrics["test_nll"] > 0 and metrics["sample"].count(", ") == 9
    metrics = run(train_gpt, tmp_path / "text", "--data", names_file, "--kind", "text",
                  "--context", 8)  # fmt: skip
    assert "test_nll" not in metrics and "windows to learn from" in capsys.readouterr().out


def test_byte_pairs_with_signs_that_figures_take_for_mathematics(tmp_path, capsys):
    path = tmp_path / "prices.txt"
    path.write_text("it is $$5, or $$6; $x$ is \\frac. " * 60)
    # Whatever a picture does not like, the trained model must not be lost with it.
    metrics = run(train_gpt, tmp_path / "out", "--data", path, "--vocab-size", 300,
                  "--heads", 1)  # fmt: skip
    assert 257 < metrics["vocab_size"] <= 300


def test_a_run_goes_on_from_its_checkpoint(no_pictures, names_file, tmp_path, capsys):
    arguments = ["--data", names_file, "--checkpoint", tmp_path / "run"]
    first = run(train_gpt, tmp_path / "a", *arguments)
    assert run(train_gpt, tmp_path / "b", *arguments)["val_nll"] == first["val_nll"]
    for other, said in [
        (["--lr", 0.1], "lr was 0.002, not 0.1"),
        (["--seed", 1], "seed was 0, not 1"),
        (["--data", other_names(names_file)], "place in other data"),
    ]:
        flags = map(str, ["--quick", "--out", tmp_path / "c", *arguments, *other])
        message, _ = refused(train_gpt.main, list(flags), capsys)
        assert "run holds another run" in message and said in message


def other_names(names_file):
    """As many, of the same letters and lengths, but two are others."""
    path = names_file.with_name("others.txt")
    path.write_text(names_file.read_text().replace("ma", "na", 2))
    return path


def test_ids_for_a_folder_without_a_tokenizer(reference_data, tmp_path, capsys):
    metrics = run(generate, tmp_path / "out", reference_data / "hf_tiny_llama", "--ids", 1, 5,
                  "--temperature", 0, "--tokens", 4)  # fmt: skip
    numbers = metrics["texts"][0].split()
    assert numbers[:2] == ["1", "5"] and len(numbers) == 6
    model = from_pretrained(reference_data / "hf_tiny_llama").eval()
    assert int(numbers[2]) == model(np.array([[1, 5]])).data[0, -1].argmax()
    assert metrics["texts"][0] in capsys.readouterr().out


def test_ids_are_shown_as_the_text_that_they_are(small_gpt, tmp_path, capsys):
    save_pretrained(small_gpt(), tmp_path / "model", CharacterTokenizer("abcdefghij", ["\n"]))
    arguments = [tmp_path / "model", "--tokens", 3, "--seed", 1]
    by_ids = run(generate, tmp_path / "out", *arguments, "--ids", 1, 2, 3)["texts"]
    assert by_ids[0].startswith("abc"), "what is continued must be shown, however it was given"
    assert run(generate, tmp_path / "out", *arguments, "--prompt", "abc")["texts"] == by_ids


def test_a_damaged_checkpoint_is_passed_over_in_one_line(no_pictures, names_file, tmp_path, capsys):
    arguments = ["--data", names_file, "--checkpoint", tmp_path / "run"]
    first = run(train_gpt, tmp_path / "a", *arguments)
    (saved,) = (tmp_path / "run").glob("step-*")
    saved.write_bytes(saved.read_bytes()[:-9])
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run(train_gpt, tmp_path / "b", *arguments)["val_nll"] == first["val_nll"]
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line.startswith("train_gpt.py: warning: skipped a damaged checkpoint")
        and str(saved) in line
    )


@pytest.fixture
def trainings(monkeypatch):
    """How many steps generate.py asked for; it takes three for many, and one for few."""
    asked, small_model = [], generate.small_model

    def few_steps(steps):
        asked.append(steps)
        return small_model(steps=3 if steps > 100 else 1, characters=20_000)

    monkeypatch.setattr(generate, "small_model", few_steps)
    return asked


def test_a_model_is_trained_once(trainings, tmp_path, capsys):
    for _ in range(2):
        generate.main(["--out", str(tmp_path), "--tokens", "3"])
    assert len(trainings) == 1 and trainings[0] > 100


def test_a_quick_look_does_not_replace_a_model_that_was_trained(trainings, tmp_path, capsys):
    """Half a minute's training is the reader's."""
    usual = ["--out", str(tmp_path), "--tokens", "3"]
    generate.main(usual)
    trained = (tmp_path / "model" / "model.safetensors").read_bytes()
    generate.main(["--quick", *usual])
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == trained


def test_the_model_of_a_quick_look_is_not_taken_for_a_trained_one(trainings, tmp_path, capsys):
    usual = ["--out", str(tmp_path), "--tokens", "3"]
    generate.main(["--quick", *usual])
    generate.main(usual)
    assert trainings[-1] > 100, "after --quick the script writes with four steps' training for ever"


def test_dates_are_translated(tmp_path, capsys):
    metrics = run(train_dates, tmp_path / "out", "--steps", 3)
    assert 0 <= metrics["accuracy"] <= 1 and metrics["steps"] == 3
    printed = capsys.readouterr().out
    assert f"{metrics['accuracy']:.2%}" in printed
    assert metrics["wrong"] == round(20 * (1 - metrics["accuracy"])) > 0
    assert f"{metrics['wrong']} wrong" in printed and "should be" in printed
    assert pictures(tmp_path / "out") == ["attention.png", "wrong.png"]


def test_where_no_date_is_wrong_none_is_shown(monkeypatch, tmp_path, capsys):
    real = train_dates.random_dates
    known = {}

    def noted(count, rng):
        texts, dates = real(count, rng)
        known["dates"] = dates
        return texts, dates

    monkeypatch.setattr(train_dates, "random_dates", noted)
    right = lambda model, sources, tokens: known["dates"][: len(sources)]
    monkeypatch.setattr(train_dates, "translated", right)
    metrics = run(train_dates, tmp_path / "out", "--steps", 3)
    printed = capsys.readouterr().out
    assert metrics["wrong"] == 0 and "100.00% of 20 right" in printed
    assert "0 wrong" in printed and "should be" not in printed


def test_positions_are_compared(text_file, tmp_path, capsys):
    schemes = ["rotary", "none"]
    metrics = run(compare_positions, tmp_path / "out", "--data", text_file, "--positions", *schemes)
    printed = capsys.readouterr().out
    for name in schemes:
        for key in (f"loss_{name}", f"loss_{name}_beyond"):
            assert metrics[key] > 0 and f"{metrics[key]:.4f}" in printed
    assert not any("alibi" in key for key in metrics)
    assert pictures(tmp_path / "out") == ["positions.png"]


def test_the_shortest_context_has_its_figure_too(text_file, tmp_path, capsys):
    arguments = ["--data", text_file, "--positions", "none", "--steps", 1, "--width", 8]
    compare_positions.main([*map(str, arguments), "--context", "2", "--out", str(tmp_path / "out")])
    assert pictures(tmp_path / "out") == ["positions.png"]
