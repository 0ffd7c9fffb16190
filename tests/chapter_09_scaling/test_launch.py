"""Starting ranks on this machine: what goes in, what comes back, and what is refused."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rank_start
import rank_work

from chapter_09_scaling import RankError, SingleProcess, launch, run
from chapter_09_scaling.launch import place_of
from utils.blas import _openblas

PACKAGE = rank_start.ROOT / "chapter_09_scaling"


def test_results_come_in_order_and_arguments_arrive():
    given = ["naïve 東京 \U0001f40d\n\0\"'", {"a": [1, 2.5, None, True]}, []]
    assert launch(rank_work.told, 3, *given) == [[rank, 3, *given] for rank in range(3)]


def test_a_result_of_a_million_letters():
    first, second = launch(rank_work.long_text, 2, 10**6)
    assert first[:2] == "0é" and second[:2] == "1é" and len(first) == len(second) == 10**6 + 2


def test_an_argument_of_a_million_letters():
    """More than one argument of a command may have (128 KiB on Linux)."""
    text = "é" * 10**6
    assert launch(rank_work.told, 1, text) == [[0, 1, text]]


def test_one_rank_is_a_process_too():
    assert launch(rank_work.told, 1) == [[0, 1]]


@pytest.mark.parametrize("ranks", [0, -1, 1.5, "2", None, True, float("nan")])
def test_ranks_are_counted_from_one(ranks):
    with pytest.raises(ValueError, match=f"ranks are counted from 1 up, not {ranks!r}"):
        launch(rank_work.told, ranks)


def test_functions_that_others_cannot_find_are_refused():
    def local(comm):
        return comm.rank

    for work in (local, lambda comm: comm.rank):
        with pytest.raises(ValueError, match="a function that they find in a module"):
            launch(work, 2)


@pytest.mark.parametrize(
    "work", [functools.partial(rank_work.told), SingleProcess(), "told", rank_start.Outcome.lines],
    ids=["partial", "an object", "a name", "a method"],
)  # fmt: skip
def test_what_is_no_function_of_a_module_is_refused(work):
    with pytest.raises(ValueError):
        launch(work, 2)


def test_functions_are_named_by_their_module():
    folder = Path(rank_work.__file__).resolve().parent
    assert place_of(rank_work.told) == ("rank_work:told", folder)


@pytest.mark.parametrize("argument", [np.float32(1), {1, 2}, object()], ids=repr)
def test_arguments_that_json_cannot_say_are_refused_before_anything_starts(argument):
    before = rank_start.descriptors()
    with pytest.raises(TypeError, match="JSON"):
        launch(rank_work.told, 2, argument)
    assert rank_start.descriptors() == before


def test_results_that_json_cannot_say_are_an_error():
    with pytest.raises(RankError, match="rank [01] has failed: TypeError: .*set is not JSON"):
        launch(rank_work.not_json, 2)


@pytest.mark.parametrize("how", ["1", pytest.param("2", marks=pytest.mark.slow), "with"])
def test_work_may_leave_the_group_when_it_is_done(how):
    assert launch(rank_work.closes, 2, how) == [2, 2]


def test_one_process_may_leave_as_often_as_it_likes():
    for how in ("0", "1", "2", "with"):
        assert rank_work.closes(SingleProcess(), how) == 1


def test_each_rank_has_one_blas_thread():
    for blas, tasks in launch(rank_work.threads, 2):
        assert blas in (1, None) and (blas is None) == (_openblas() is None)
        assert tasks in (2, None), "the rank, and the thread that listens to the watcher"


SCRIPT = """
import sys
import numpy as np
import beside
from chapter_09_scaling import launch

def work(comm, factor):
    return int(comm.all_reduce(np.array([beside.THREE]))[0]) * factor

if __name__ == "__main__":
    print(launch(work, 2, 10))
"""


def script(folder: Path, text: str, *flags: str, cwd: Path | None = None):
    path = folder / "script.py"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, *flags, str(path)], cwd=cwd or folder, env=rank_start.environment(),
        text=True, timeout=90, capture_output=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_work_of_a_script_is_found(tmp_path):
    text = SCRIPT.replace("import beside\n", "").replace("beside.THREE", "3")
    done = script(tmp_path, text)
    assert done.stdout == "[60, 60]\n", done.stderr


def test_what_lies_beside_a_script_is_found_from_any_folder(tmp_path):
    """Python puts a script's folder on its path; so must the ranks, which run the script too."""
    (tmp_path / "beside.py").write_text("THREE = 3\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = script(tmp_path, SCRIPT, cwd=elsewhere)
    assert done.stdout == "[60, 60]\n", done.stderr


def test_modules_of_the_same_names_in_the_current_folder_are_left_alone(tmp_path):
    """Somebody's own `utils` must not take the place of the book's."""
    (tmp_path / "beside.py").write_text("THREE = 3\n")
    elsewhere = tmp_path / "elsewhere"
    for name in ("utils", "numpy", "chapter_09_scaling"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("raise ImportError('another one')\n")
    done = script(tmp_path, SCRIPT, cwd=elsewhere)
    assert done.stdout == "[60, 60]\n", done.stderr


def test_where_there_is_no_script_the_message_says_so():
    """In a notebook, or with python -c, other processes cannot find a function."""
    code = "from chapter_09_scaling import launch\ndef work(comm): pass\nlaunch(work, 2)"
    done = subprocess.run([sys.executable, "-c", code], env=rank_start.environment(), text=True,
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("ValueError: "), done.stderr


def test_an_error_comes_with_its_traceback_from_the_rank_that_failed(capfd):
    with pytest.raises(RankError, match="rank 1 has failed: ValueError: a planted error"):
        launch(rank_work.fails_in, 2, 1)
    said = capfd.readouterr().err
    assert re.search(r"rank 1: Traceback .*in fails_in.*ValueError: a planted\n error", said, re.S)
    assert said.count("Traceback") == 1, "the others did nothing wrong"
    assert "rank 0: rank 1 has failed: ValueError: a planted error" in said


def test_run_gives_the_same_for_one_rank_as_for_more():
    """What JSON makes of arguments and results does not depend on how many ranks there are."""
    assert run(rank_work.told, "local", 1, (1, 2)) == [[0, 1, [1, 2]]]
    assert run(rank_work.pair, "local", 1) == run(rank_work.pair, "local", 2)[:1]


def test_other_backends_are_refused():
    with pytest.raises(ValueError, match="backend is one of local, mpi, not 'smoke signals'"):
        run(rank_work.told, "smoke signals", 2)


CORE = ["backends", "collectives", "communicator", "grid", "launch", "link", "local", "mpi",
        "worker"]  # fmt: skip


# What reads bytes as numbers and JSON, and nothing that would run them.
USED = {"__future__", "argparse", "collections", "contextlib", "importlib", "inspect", "json",
        "math", "mmap", "mpi4py", "numpy", "os", "pathlib", "select", "signal", "socket", "struct",
        "subprocess", "sys", "tempfile", "threading", "time", "traceback", "typing", "utils",
        "chapter_09_scaling"}  # fmt: skip


@pytest.mark.parametrize("name", CORE)
def test_nothing_that_another_process_sends_is_ever_run(name):
    """No import beyond these, no eval or exec, no sockets of the network."""
    text = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert {module.partition(".")[0] for module in names} <= USED, f"{name}.py: {names}"
        assert not (isinstance(node, ast.Name) and node.id in ("eval", "exec")), f"{name}.py"
    assert "AF_INET" not in text, name
    # mpi4py's methods in small letters turn objects into programs that the other end runs.
    small = r"self\.comm\.(i?send|i?recv|sendrecv|bcast|gather|scatter|all[a-z]+|reduce)\("
    assert not re.search(small, text), name


def test_json_is_what_the_script_of_the_tests_prints():
    done = rank_start.started("local", 1, "told", "é")
    assert json.loads(done.stdout) == {"results": [[0, 1, "é"]]}, done.stderr
