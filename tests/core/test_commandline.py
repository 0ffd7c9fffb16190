"""What scripts share: flags, ranges that no NaN slips through, errors in one line, metrics.json."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from utils.commandline import (
    beginning,
    number,
    parse,
    parser,
    script,
    settings_of,
    whole_number,
    write_metrics,
)
from utils.data import Images
from utils.seeding import generator


def outcome(main, argv=None):
    """The exit status of a script that ends early."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    return stop.value.code


def failing(error):
    @script
    def main(argv=None):
        raise error

    return main


def test_shared_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = parse(parser("tour", "A tour."), [])
    assert (args.seed, args.quick, args.out) == (0, False, Path("runs", "tour"))
    args = parse(parser("tour", "A tour."), ["--seed", "7", "--quick", "--out", "a/b"])
    assert (args.seed, args.quick, args.out) == (7, True, Path("a", "b"))
    assert (tmp_path / "runs" / "tour").is_dir() and (tmp_path / "a" / "b").is_dir()


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        parse(parser("some_script", "It does something."), ["--out", str(tmp_path / "taken")])
    assert stopped.value.code == 2
    assert f"--out {tmp_path / 'taken'}: no folder can be made there" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_output_folder_may_exist_already(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    parse(parser("tour", ""), ["--out", str(tmp_path)])
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"], "trying left something"


class FullDisk:
    """A file that can be made and not written to."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def write(self, content):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(
    existed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: FullDisk())
    folder = tmp_path if existed else tmp_path / "new" / "folder"
    assert outcome(lambda argv: parse(parser("tour", ""), argv), ["--out", str(folder)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(f"--out {folder}: nothing can be written there (No space left on device)")
    assert list(tmp_path.iterdir()) == [], "folders made for nothing must go again"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_a_folder_of_the_system_is_refused_to_root_as_well(capsys):
    assert outcome(lambda argv: parse(parser("tour", ""), argv), ["--out", "/proc"]) == 2
    assert "--out /proc: nothing can be written there" in capsys.readouterr().err


def test_a_quick_run_looks_at_the_beginning_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = Images(np.zeros((2000, 28, 28), np.float32), np.arange(2000))
    names, text = ["anna"] * 3000, "to be " * 10_000
    quick, whole = (parse(parser("tour", ""), flags) for flags in (["--quick"], []))
    for data in (images, names, text):
        assert beginning(whole, data) is data
    few = beginning(quick, images)
    assert isinstance(few, Images) and len(few.images) == len(few.labels) < 2000
    assert few.labels.tolist() == list(range(len(few.labels)))
    for data in (names, text):
        part = beginning(quick, data)
        assert 0 < len(part) < len(data) and part == data[: len(part)]
        assert beginning(quick, data[:7]) == data[:7]


def test_the_settings_of_a_run_are_what_decides_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = parser("tour", "")
    flags.add_argument("--data")
    flags.add_argument("--lr", type=number(above=0), default=0.1)
    found = settings_of(parse(flags, ["--data", "names.txt", "--seed", "3"]))
    assert found == {"seed": 3, "quick": False, "lr": 0.1}


def test_the_seed_seeds_the_default_generator(tmp_path):
    draws = []
    for seed in ("3", "3", "4"):
        parse(parser("tour", ""), ["--seed", seed, "--out", str(tmp_path)])
        draws.append(generator().random())
    assert draws[0] == draws[1] != draws[2]


def test_help_says_what_the_script_does(capsys):
    made = parser("tour", "A tour of derivatives.")
    made.add_argument("--steps", type=whole_number(1), default=80, help="gradient steps")
    assert outcome(made.parse_args, ["--help"]) == 0
    shown = capsys.readouterr().out
    for part in ("A tour of derivatives.", "tour.py", "--seed", "--quick", "--out", "80"):
        assert part in shown


@pytest.mark.parametrize("argv", [["--seed", "-1"], ["--seed", "x"], ["--quik", "1"]])
def test_bad_flags_leave_no_folder(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert outcome(lambda argv: parse(parser("tour", ""), argv), argv) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("top-k must be from 1 to 27, not 99"),
        FileNotFoundError("'names.text' is neither a file nor a known name"),
        ConnectionError("cannot download names.txt"),
        ImportError("install torch"),
        ValueError("two\nlines\n  of it"),
        FileNotFoundError(2, "No such file or directory", "names.text"),
        ValueError(),
    ],
    ids=lambda error: repr(error)[:40],
)
def test_what_the_user_can_mend_is_one_line_and_status_2(error, capsys):
    assert outcome(failing(error)) == 2
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert output.out == "" and len(lines) == 1, f"one line on stderr, not {lines}"
    words = " ".join(str(error).split()) or type(error).__name__
    assert "error: " in lines[0] and lines[0].endswith(words)


def test_a_warning_is_one_plain_line(capsys):
    @script
    def main(argv=None):
        warnings.warn("skipped a damaged\ncheckpoint", stacklevel=2)
        print("goes on")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown_by = warnings.showwarning
        main()
        assert warnings.showwarning is shown_by, "what shows warnings elsewhere must come back"
    output = capsys.readouterr()
    assert output.err == "test_commandline.py: warning: skipped a damaged checkpoint\n"
    assert output.out == "goes on\n"


@pytest.mark.parametrize("error", [TypeError("a bug"), KeyError("a bug"), AssertionError("a bug")])
def test_a_bug_of_ours_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        failing(error)()


def test_an_interrupt_ends_quietly(capsys):
    assert outcome(failing(KeyboardInterrupt())) == 130, "128 + SIGINT, as a shell expects"
    assert "Traceback" not in capsys.readouterr().err


def test_a_script_keeps_its_name_and_passes_its_arguments():
    seen = []

    @script
    def main(argv=None):
        """What it does."""
        seen.append(argv)

    main()
    main(["--quick"])
    assert seen == [None, ["--quick"]]
    assert main.__name__ == "main" and main.__doc__ == "What it does."


@pytest.mark.parametrize(
    ("convert", "text", "expected"),
    [
        (whole_number(1), "1", 1),
        (whole_number(0), "12", 12),
        (whole_number(-5), "-5", -5),
        (whole_number(1, 3), "3", 3),
        (number(), "-1e-3", -0.001),
        (number(least=0), "0", 0.0),
        (number(above=0), "5e-324", 5e-324),
        (number(above=0, most=1), "1", 1.0),
    ],
)
def test_values_in_range(convert, text, expected):
    found = convert(text)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("convert", "text", "said"),
    [
        (whole_number(1), "0", "at least 1, not 0"),
        (whole_number(1, 3), "4", "from 1 to 3, not 4"),
        (whole_number(1, 3), "0", "from 1 to 3, not 0"),
        (whole_number(1), "1.0", "whole number"),
        (whole_number(1), "nan", "whole number"),
        (whole_number(1), "", "whole number"),
        (number(), "nan", "nan"),
        (number(), "inf", "inf"),
        (number(), "-1e999", "-1e999"),
        (number(), "one", "'one'"),
        (number(least=0), "nan", "at least 0, not nan"),
        (number(least=0), "inf", "finite and at least 0, not inf"),
        (number(above=0, most=1), "-inf", "finite and above 0 and at most 1, not -inf"),
        (number(least=0), "-0.1", "at least 0, not -0.1"),
        (number(above=0), "0", "above 0, not 0"),
        (number(above=0, most=1), "1.5", "above 0 and at most 1, not 1.5"),
        (number(above=0, most=1), "nan", "above 0 and at most 1, not nan"),
    ],
)
def test_values_out_of_range_are_named_with_the_range(convert, text, said):
    with pytest.raises(argparse.ArgumentTypeError, match="^[^\n]*$") as refused:
        convert(text)
    assert said in str(refused.value)


def strict(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON: write null")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_metrics_come_back_as_they_were(tmp_path):
    metrics = {"loss": 0.1 + 0.2, "steps": 3, "names": ["naïve"], "by order": {"2": 2.454}}
    path = write_metrics(tmp_path, metrics)
    assert path == tmp_path / "metrics.json"
    assert strict(path) == metrics
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_null(tmp_path, value):
    metrics = {"loss": value, "history": [{"loss": value}, [1.0, value]], "by order": {"2": value}}
    expected = {"loss": None, "history": [{"loss": None}, [1.0, None]], "by order": {"2": None}}
    assert strict(write_metrics(tmp_path, metrics)) == expected, "at any depth"


def test_what_numpy_computes_in_float64_is_a_number(tmp_path):
    found = strict(write_metrics(tmp_path, {"loss": np.mean([0.25, 0.75])}))
    assert found == {"loss": 0.5}


def test_metrics_that_cannot_be_written_leave_the_old_ones(tmp_path):
    path = write_metrics(tmp_path, {"loss": 1.0})
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        write_metrics(tmp_path, {"loss": object()})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"], "no temporary file stays"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        write_metrics(tmp_path / "missing", {})
