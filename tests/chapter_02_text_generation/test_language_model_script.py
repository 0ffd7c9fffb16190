"""language_model.py: what it writes, that a seed fixes it, and how it refuses bad input."""

from __future__ import annotations

import json
import math
import random
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from chapter_02_text_generation import language_model
from utils.data import SOURCES

SCRIPT = Path(language_model.__file__)
REQUIRED = ("bigram_nll", "bigram_network_nll", "mlp_val_nll", "mlp_test_nll")
SMALL = ["--quick", "--steps", "30", "--hidden", "8", "--context", "2", "--embedding", "4"]
EARLIER = ("metrics.json", "losses.png", "bigrams.png", "embedding.png", "notes.txt")


def files_in(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def metrics_of(folder):
    def refuse(constant):
        raise AssertionError(f"metrics.json holds {constant}, which is not JSON: write null")

    return json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def names():
    draw = random.Random(0)
    syllables = ["ka", "lo", "mi", "ren", "tus", "wa", "zzi"]
    return ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(80)]


@pytest.fixture
def names_file(tmp_path, names):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names) + "\n")
    return str(path)


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Run the script on bad input: one line of error, status 2, and every file as it was."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    for name in EARLIER:
        (out / name).write_bytes(b"from an earlier run")

    def refused(*arguments):
        arguments = [str(argument) for argument in arguments]
        if "--out" not in arguments:
            arguments += ["--out", str(out)]
        before = files_in(tmp_path)
        with pytest.raises(SystemExit) as stop:
            language_model.main(arguments)
        assert stop.value.code == 2, f"{arguments} must end with exit status 2"
        output = capsys.readouterr()
        *usage, message = output.err.splitlines()
        assert ": error: " in message, f"the last line must say what is wrong, yours: {message!r}"
        for line in usage:
            assert line.startswith(("usage:", " ")), f"a line more than the error: {line!r}"
        assert files_in(tmp_path) == before, "bad input must cost the user nothing"
        assert output.out == "", "look at the input before the work begins, not after it"
        return message

    return refused


def bigram_nll_by_hand(names):
    pairs = Counter(pair for name in names for pair in zip("\n" + name, name + "\n"))
    before = Counter()
    for (first, _), n in pairs.items():
        before[first] += n
    total = sum(n * -math.log(n / before[first]) for (first, _), n in pairs.items())
    return total / sum(pairs.values())


def test_writes_figures_and_metrics(names_file, names, tmp_path, capsys):
    out = tmp_path / "out"
    language_model.main([*SMALL, "--data", names_file, "--out", str(out)])
    output = capsys.readouterr()
    assert output.err == "", "no progress bar and no warning where there is no terminal"
    metrics = metrics_of(out)
    for key in REQUIRED:
        assert 0 < metrics[key] < 10, f"{key} is {metrics[key]}"
    assert metrics["bigram_nll"] == pytest.approx(bigram_nll_by_hand(names), rel=1e-9)
    assert metrics["bigram_network_nll"] > metrics["bigram_nll"] - 1e-6
    assert metrics["bigram_network_nll"] == pytest.approx(metrics["bigram_nll"], abs=0.1)
    figures = {name: b for name, b in files_in(out).items() if name.endswith(".png")}
    assert len(figures) >= 2, "a loss curve and a bigram heat map"
    assert all(content.startswith(b"\x89PNG\r\n") for content in figures.values())
    assert [name for name in files_in(out) if name.endswith(".tmp")] == []


def test_the_same_seed_gives_the_same_files(names_file, tmp_path, capsys):
    arguments = [*SMALL, "--data", names_file, "--out", str(tmp_path / "out")]
    runs = []
    for _ in range(2):
        language_model.main(arguments)
        runs.append((capsys.readouterr().out, files_in(tmp_path / "out")))
    assert runs[0] == runs[1], "same seed, same machine: the same result, bit for bit"
    language_model.main([*arguments, "--seed", "1"])
    assert metrics_of(tmp_path / "out") != json.loads(runs[0][1]["metrics.json"])


def test_built_in_names_go_under_runs_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    language_model.main(SMALL)
    written = files_in(tmp_path)
    assert str(Path("runs", "language_model", "metrics.json")) in written
    assert all(name.startswith(str(Path("runs", "language_model"))) for name in written)


def test_reference_names(reference_data, tmp_path):
    data = str(reference_data / "names.txt")
    language_model.main([*SMALL, "--data", data, "--out", str(tmp_path)])
    assert metrics_of(tmp_path)["bigram_nll"] == pytest.approx(2.4540, abs=0.0005)


def test_more_training_lowers_the_loss(names_file, tmp_path):
    found = []
    for steps in ("1", "200"):
        arguments = [*SMALL, "--data", names_file, "--steps", steps, "--out", str(tmp_path)]
        language_model.main(arguments)
        found.append(metrics_of(tmp_path)["mlp_val_nll"])
    assert found[1] < found[0] - 0.5, f"from {found[0]:.3f} to {found[1]:.3f} in 200 steps"


def test_invented_names_begin_with_the_prefix(names_file, tmp_path, capsys):
    arguments = [*SMALL, "--data", names_file, "--out", str(tmp_path)]
    language_model.main([*arguments, "--prefix", "zzzzi", "--samples", "7"])
    assert capsys.readouterr().out.count("zzzzi") >= 7


@pytest.mark.parametrize(
    "more",
    [
        "--samples 0 --temperature 0",
        "--temperature 1e-310",
        "--temperature 1e9 --top-p 1 --min-p 0",
        "--top-k 1 --min-p 1",
        "--top-k 3 --top-p 0.5 --min-p 0.1 --temperature 2",
        "--context 1 --hidden 1 --embedding 1 --batch 1 --steps 1",
    ],
)
def test_limits_that_are_allowed(names_file, tmp_path, more):
    language_model.main([*SMALL, "--data", names_file, "--out", str(tmp_path), *more.split()])
    metrics_of(tmp_path)


@pytest.mark.parametrize("lr", ["1e6", "1e30"])
def test_a_training_that_blows_up_ends_without_a_traceback(names_file, tmp_path, capsys, lr):
    arguments = [*SMALL, "--data", names_file, "--out", str(tmp_path / "out"), "--lr", lr]
    with np.errstate(all="ignore"):
        try:
            language_model.main(arguments)
        except SystemExit as stop:
            assert stop.code == 2
            assert len(capsys.readouterr().err.splitlines()) == 1
        else:
            metrics_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \n\t\n", "white space"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)), "not a text file"),
        (b"ren\xe9e\nzo\xeb\n" * 20, "UTF-8"),
        (b"only one line\n", "one line"),
        (b"\n\n  alone  \n\n", "one line"),
        (b"too\nfew\nnames\n", "3 names"),
    ],
    ids=["empty", "blank", "binary", "latin-1", "one line", "one name", "too few to split"],
)
def test_bad_files_are_refused_in_one_line(refused, tmp_path, content, said):
    path = tmp_path / "data.txt"
    path.write_bytes(content)
    message = refused("--data", path)
    assert said in message, f"say what is wrong with the file, yours says {message!r}"


def test_what_is_no_file_is_refused(refused, tmp_path):
    for data in (tmp_path / "missing.txt", tmp_path, "no-such-data-set", ""):
        message = refused("--data", data)
        assert str(data) in message


def test_a_name_that_cannot_be_downloaded_is_refused(refused, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DLFP_DATA", str(tmp_path / "cache"))
    source = SOURCES["names"]
    unreachable = [f._replace(urls=(f"http://127.0.0.1:{port}/names.txt",)) for f in source.files]
    monkeypatch.setitem(SOURCES, "names", source._replace(files=tuple(unreachable)))
    message = refused("--data", "names")
    for part in ("names.txt", str(tmp_path / "cache"), "built-in"):
        assert (
            part in message
        ), "name the file, the folder to put it into, and what needs no network"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--steps -1", "--steps"),
        ("--steps 0", "--steps"),
        ("--steps 1e3", "--steps"),
        ("--temperature nan", "--temperature"),
        ("--temperature inf", "--temperature"),
        ("--temperature -0.5", "--temperature"),
        ("--top-k 100000", "top-k"),
        ("--top-k 0", "--top-k"),
        ("--top-k 100000 --temperature 0", "top-k"),
        ("--top-p 0", "--top-p"),
        ("--top-p nan", "--top-p"),
        ("--top-p 1.01", "--top-p"),
        ("--min-p -0.1", "--min-p"),
        ("--min-p nan", "--min-p"),
        ("--lr nan", "--lr"),
        ("--lr 0", "--lr"),
        ("--batch 0", "--batch"),
        ("--context 0", "--context"),
        ("--hidden -3", "--hidden"),
        ("--embedding 0", "--embedding"),
        ("--samples -1", "--samples"),
        ("--seed -1", "--seed"),
        ("--prefix Ж", "'Ж'"),
        ("--prefix re9n", "'9'"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(refused, names_file, arguments, said):
    message = refused("--data", names_file, *SMALL, *arguments.split())
    assert said in message, f"name what is wrong, yours says {message!r}"


def test_a_prefix_that_ends_the_name_is_refused(refused, names_file):
    refused("--data", names_file, *SMALL, "--prefix", "ka\nlo")


def test_an_output_folder_that_is_a_file_is_refused(refused, names_file, tmp_path):
    for out in (tmp_path / "out" / "notes.txt", tmp_path / "out" / "notes.txt" / "below"):
        assert "notes.txt" in refused("--data", names_file, "--out", out)


def in_a_process(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize("way", ["file", "module"])
def test_runs_from_any_folder(way, tmp_path, names_file):
    what = [str(SCRIPT)] if way == "file" else ["-m", f"{SCRIPT.parent.name}.{SCRIPT.stem}"]
    done = in_a_process(tmp_path, *what, *SMALL, "--data", "names.txt", "--out", "there")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "there" / "metrics.json").is_file()


def test_a_process_ends_with_status_2_and_no_traceback(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    done = in_a_process(tmp_path, str(SCRIPT), "--data", "empty.txt")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and b"empty.txt" in done.stderr
    assert list(files_in(tmp_path)) == ["empty.txt"]
