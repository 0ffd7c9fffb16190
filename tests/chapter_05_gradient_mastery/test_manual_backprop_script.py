"""manual_backprop.py: what it measures and writes, and how it refuses bad input."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from chapter_05_gradient_mastery import manual_backprop

SMALL = ["--quick", "--steps", "40", "--hidden", "8", "--context", "2", "--embedding", "4"]
PARAMETERS = ["embedding.weight", *(f"mlp.{i}.{p}" for i in (1, 2, 4) for p in ("weight", "bias"))]
EARLIER = ("metrics.json", "differences.png", "trainings.png", "notes.txt")


@pytest.fixture
def names_file(tmp_path):
    draw = random.Random(0)
    names = ["".join(draw.choices(["ka", "lo", "mi", "ren"], k=3)) for _ in range(60)]
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names) + "\n")
    return path


def run(out, *arguments) -> dict:
    manual_backprop.main([*SMALL, "--out", str(out), *map(str, arguments)])
    return json.loads((out / "metrics.json").read_text())


def files_in(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_gradient_is_autodiffs_and_both_trainings_end_alike(names_file, tmp_path, capsys):
    metrics = run(tmp_path / "out", "--data", names_file)
    assert 0 <= metrics["max_abs_difference"] <= 1e-12
    by_line, compact = metrics["differences_line_by_line"], metrics["differences_compact"]
    assert set(PARAMETERS) <= set(by_line) and sorted(compact) == sorted(PARAMETERS)
    assert len(by_line) > 25, "every line of the forward pass has its gradient compared"
    assert max([*by_line.values(), *compact.values()]) == metrics["max_abs_difference"]
    assert metrics["steps"] == 40
    for kind in ("last_loss", "val_nll"):
        hand, engine = metrics[f"{kind}_by_hand"], metrics[f"{kind}_autodiff"]
        assert math.isfinite(hand) and abs(hand - engine) < 1e-9, kind
    report = capsys.readouterr().out
    assert f"{metrics['max_abs_difference']:.1e}" in report
    assert f"{metrics['val_nll_by_hand']:.10f}" in report
    for name in ("differences.png", "trainings.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_the_shapes_are_compared_as_well():
    with pytest.raises(ValueError, match="shape"):
        manual_backprop.difference(np.zeros((1, 3)), np.zeros(3))


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take most of a small run's time."""
    monkeypatch.setattr(manual_backprop, "save_figure", lambda figure, path: path)


def test_on_built_in_data_another_seed_is_another_run(undrawn, tmp_path, capsys):
    first, again, other = (
        run(tmp_path / str(i), "--seed", seed) for i, seed in enumerate((1, 1, 2))
    )
    assert first == again and first["last_loss_by_hand"] != other["last_loss_by_hand"]
    assert other["max_abs_difference"] <= 1e-12


def test_reference_names(undrawn, reference_data, tmp_path, capsys):
    metrics = run(tmp_path, "--data", reference_data / "names.txt")
    assert metrics["max_abs_difference"] <= 1e-12
    assert metrics["val_nll_by_hand"] < math.log(27), "better than guessing after 40 steps"


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Run the script on bad input: one line of error, status 2, and every file as it was."""
    monkeypatch.chdir(tmp_path)

    def refused(*arguments):
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        for name in EARLIER:
            (out / name).write_bytes(b"from an earlier run")
        before = files_in(tmp_path)
        given = [str(a) for a in arguments]
        with pytest.raises(SystemExit) as stop:
            manual_backprop.main(["--quick", "--out", str(out), *given])
        assert stop.value.code == 2, f"{given} must end with exit status 2"
        output = capsys.readouterr()
        *usage, message = output.err.splitlines()
        assert ": error: " in message, f"the last line must say what is wrong, yours: {message!r}"
        for line in usage:
            assert line.startswith(("usage:", " ")), f"a line more than the error: {line!r}"
        assert files_in(tmp_path) == before, "bad input must cost the user nothing"
        return message, output.out

    return refused


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--steps", "-1"], "-1"),
        (["--steps", "0"], "0"),
        (["--lr", "nan"], "nan"),
        (["--lr", "-0.1"], "-0.1"),
        (["--batch", "1"], "1"),
        (["--hidden", "0"], "0"),
        (["--context", "0"], "0"),
        (["--embedding", "x"], "x"),
        (["--data", "no-such-file.txt"], "no-such-file.txt"),
        (["--nothing"], "--nothing"),
    ],
    ids=" ".join,
)
def test_bad_arguments(refused, arguments, said):
    message, out = refused(*arguments)
    assert said in message and out == "", "look at the input before the work begins"


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"anna\n", b"\xff\xfe\x00\x01binary", b"\x00" * 64],
    ids=["empty", "blank lines", "one name", "not UTF-8", "zeros"],
)
def test_bad_files(refused, tmp_path, content):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    refused("--data", path)


def test_a_training_that_diverges_is_one_line_as_well(refused, names_file):
    message, _ = refused("--data", names_file, "--lr", "1e300", "--steps", "20")
    assert "learning rate" in message or "finite" in message


@pytest.mark.parametrize("count", [3, 4, 5, 12])
def test_few_names_train_or_are_refused_in_a_line(tmp_path, names_file, count, capsys):
    path = tmp_path / "few.txt"
    path.write_text("\n".join(names_file.read_text().split()[:count]) + "\n")
    try:
        metrics = run(tmp_path / "out", "--data", path)
    except SystemExit as stop:
        assert stop.code == 2 and ": error: " in capsys.readouterr().err
    else:
        assert metrics["max_abs_difference"] <= 1e-12
        assert metrics["val_nll_by_hand"] is not None
