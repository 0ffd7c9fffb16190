"""Chapter 1's scripts: what they write, that a seed fixes it, and how they refuse bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chapter_01_autodiff import MLP, Scalar, gradient_engine, make_moons, train_moons

FOLDER = Path(gradient_engine.__file__).parent
MAINS = {"gradient_engine": gradient_engine.main, "train_moons": train_moons.main}
each_script = pytest.mark.parametrize("script", MAINS)


def files_in(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def numbers_in(value):
    """Every number in parsed JSON, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value] if isinstance(value, (int, float)) else []


def metrics_of(folder):
    def refuse(constant):
        raise AssertionError(f"metrics.json holds {constant}, which is not JSON: write null")

    return json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Run a script on bad input: one line of error, status 2, and every file as it was."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("metrics.json", "decision_boundary.png", "computation_graph.png", "notes.txt"):
        (out / name).write_bytes(b"from an earlier run")

    def refused(main, arguments):
        arguments = [str(argument) for argument in arguments]
        if "--out" not in arguments:
            arguments += ["--out", str(out)]
        before = files_in(tmp_path)
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2, f"{arguments} must end with exit status 2"
        *usage, message = capsys.readouterr().err.splitlines()
        assert ": error: " in message, f"the last line must say what is wrong, yours: {message!r}"
        for line in usage:
            assert line.startswith(("usage:", " ")), f"a line more than the error: {line!r}"
        assert files_in(tmp_path) == before, "bad input must cost the user nothing"
        return message

    return refused


def test_gradient_engine_writes_the_worked_example(tmp_path, capsys):
    gradient_engine.main(["--quick", "--out", str(tmp_path)])
    output = capsys.readouterr()
    assert output.err == ""
    numbers = numbers_in(metrics_of(tmp_path))
    for expected in (-112, 88, -16, -40, -56):
        assert any(
            n == pytest.approx(expected, rel=1e-12) for n in numbers
        ), f"{expected} is missing"
        assert str(expected) in output.out
    written = files_in(tmp_path)
    assert sum(name.endswith(".png") for name in written) >= 2, "the graph and the error curve"
    assert sum(name.endswith(".dot") for name in written) == 1
    assert all(b.startswith(b"\x89PNG\r\n") for name, b in written.items() if name.endswith(".png"))


def test_gradient_engine_at_another_point(tmp_path):
    gradient_engine.main(["--quick", "--at", "1", "2", "-3", "--out", str(tmp_path)])
    numbers = numbers_in(metrics_of(tmp_path))
    # (1*2 - 3) * (1 + 2*-3) = -1 * -5; df/dc = (a + bc) + (ab + c) b = -5 - 2.
    assert 5 in numbers and -7 in numbers


@pytest.mark.parametrize(
    "at", [["0", "0", "0"], ["1e-300", "1", "1"], ["1e10", "-10000000000", "3"]]
)
def test_gradient_engine_at_odd_points(tmp_path, at):
    gradient_engine.main(["--quick", "--out", str(tmp_path), "--at", *at])
    metrics_of(tmp_path)


def test_hinge_loss_by_hand():
    # The "network" scores a point by its first coordinate.
    model = lambda x: [Scalar(x[0])]
    points = np.array([[2.0, 0], [0.25, 0], [-0.5, 0], [3.0, 0]])
    loss, accuracy = train_moons.hinge_loss(model, points, np.array([1.0, 1.0, -1.0, -1.0]))
    assert loss.data == (0 + 0.75 + 0.5 + 4) / 4, "the mean of max(0, 1 - label * score)"
    assert accuracy == 0.75


def test_training_lowers_the_loss():
    points, labels = make_moons(30, rng=np.random.default_rng(0))
    model = MLP([2, 8, 1], rng=np.random.default_rng(0))
    first, _ = train_moons.hinge_loss(model, points, labels)
    train_moons.train(model, points, labels, steps=25, lr=0.5)
    last, accuracy = train_moons.hinge_loss(model, points, labels)
    assert last.data < 0.6 * first.data, f"the loss went from {first.data:.3f} to {last.data:.3f}"
    assert accuracy > 0.8


def test_train_moons_writes_a_figure_and_its_numbers(tmp_path, capsys):
    train_moons.main(["--quick", "--steps", "3", "--out", str(tmp_path)])
    assert capsys.readouterr().err == ""
    assert numbers_in(metrics_of(tmp_path))
    figures = [b for name, b in files_in(tmp_path).items() if name.endswith(".png")]
    assert figures and all(b.startswith(b"\x89PNG\r\n") for b in figures)


def test_a_training_that_blows_up_says_so_and_keeps_earlier_figures(refused):
    message = refused(train_moons.main, ["--quick", "--steps", "8", "--lr", "1e200"])
    assert "1e+200" in message or "lr" in message, f"say what to change: {message!r}"


@each_script
def test_the_same_seed_gives_the_same_files(script, tmp_path, capsys):
    arguments = ["--quick", "--out", str(tmp_path)]
    if script == "train_moons":
        arguments += ["--steps", "4"]
    runs = []
    for _ in range(2):
        MAINS[script](arguments)
        runs.append((capsys.readouterr().out, files_in(tmp_path)))
    assert runs[0] == runs[1], "same seed, same machine: the same result, bit for bit"
    MAINS[script]([*arguments, "--seed", "1"])
    different = files_in(tmp_path) != runs[0][1]
    assert different == (script == "train_moons"), "the seed decides about what is random, alone"


@each_script
def test_results_go_under_runs_in_the_current_folder(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MAINS[script](["--quick"])
    written = files_in(tmp_path)
    assert str(Path("runs", script, "metrics.json")) in written
    assert all(name.startswith(str(Path("runs", script))) for name in written)


@each_script
@pytest.mark.parametrize("way", ["file", "module"])
def test_runs_from_any_folder(script, way, tmp_path):
    what = [str(FOLDER / f"{script}.py")] if way == "file" else ["-m", f"{FOLDER.name}.{script}"]
    done = subprocess.run(
        [sys.executable, *what, "--quick", "--out", "there"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "there" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("gradient_engine", "--at 1 2"),
        ("gradient_engine", "--at 1 2 x"),
        ("gradient_engine", "--at nan 2 3"),
        ("gradient_engine", "--at 1 inf 3"),
        ("gradient_engine", "--seed -1"),
        ("gradient_engine", "--nonsense"),
        ("train_moons", "--steps -1"),
        ("train_moons", "--steps 0"),
        ("train_moons", "--steps 2.5"),
        ("train_moons", "--samples 1"),
        ("train_moons", "--noise nan"),
        ("train_moons", "--noise -0.1"),
        ("train_moons", "--lr nan"),
        ("train_moons", "--lr 0"),
        ("train_moons", "--lr 1e999"),
        ("train_moons", "--hidden 0"),
        ("train_moons", "--hidden 8 -8"),
        ("train_moons", "--seed x"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(refused, script, arguments):
    arguments = arguments.split()
    message = refused(MAINS[script], arguments)
    assert arguments[0] in message, f"name the argument that is wrong: {message!r}"


@each_script
def test_an_output_folder_that_is_a_file_is_refused(refused, script, tmp_path):
    for out in ("out/notes.txt", "out/notes.txt/below"):
        assert "notes.txt" in refused(MAINS[script], ["--quick", "--out", tmp_path / out])


def test_a_process_ends_with_status_2_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, str(FOLDER / "train_moons.py"), "--steps", "-1"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert files_in(tmp_path) == {}
