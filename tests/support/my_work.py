"""`pytest --my-work`: the book's own tests against the reader's copies of its chapters.

Each started chapter has a process of its own, in which the copy comes first on the import path. A
test that calls what is still to be written says which exercise that is: the exercise's own tests
fail with it, all others wait.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from exercise_judge import REPORT, TASK, bare

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
STOPPED = 130  # by Ctrl-C, as shells have it
OF_THE_BOOK = ("test_exercises", "test_journey", "test_my_work")  # utils' tools, not the engine
IMPORT = """try:
    import {0}
except SystemExit:
    raise ImportError("{0} ends Python when it is imported") from None
"""


def add_option(parser: pytest.Parser) -> None:
    about = "test the chapters in my_work/ (see python -m utils.exercises)"
    parser.addoption("--my-work", action="store_true", help=about)


def run(config: pytest.Config) -> int:
    """Test the started chapters, or of them what was asked for; the exit status."""
    from utils.exercises.workspace import Workspace

    work = Workspace()
    if not work.started:
        print("Nothing is started: python -m utils.exercises start chapter_01")
        return 1
    given = [arg for arg in config.invocation_params.args if arg != "--my-work"]
    named = {arg: test_path(arg) for arg in given}
    flags = [arg for arg in given if named[arg] is None]
    asked = [test for test in named.values() if test is not None]
    statuses = []
    for chapter in work.started:
        tests = [test for test in asked if chapter in tested_by(test, work)]
        if tests or not asked:
            statuses.append(judge(chapter, work, tests, flags))
        if STOPPED in statuses:
            break
    if not statuses:
        print("What you name tests no chapter that you have started.")
    return max(statuses, default=1)


def test_path(arg: str) -> str | None:
    """The tests that an argument names, with the whole path of their file; None for flags."""
    name, *part = arg.split("::")
    path = Path(name).resolve()
    return "::".join([str(path), *part]) if TESTS in path.parents and path.exists() else None


def places(chapter: int, work) -> list[Path]:
    """The folders of a chapter's tests."""
    return [TESTS / work.packages(chapter)[0], *([TESTS / "core"] if chapter == 1 else [])]


def tested_by(test: str, work) -> list[int]:
    path = Path(test.partition("::")[0])
    return [chapter for chapter in work.started
            if any(place in (path, *path.parents) for place in places(chapter, work))]  # fmt: skip


def judge(chapter: int, work, tests: list[str], flags: list[str]) -> int:
    """Run some tests of a chapter, all where none are named, and say what became of them."""
    from utils.exercises import exercises_of

    folder, exercises = work.chapter_folder(chapter), exercises_of(chapter)
    name = work.packages(chapter)[0]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    broken = not_python([folder / package for package in work.packages(chapter)])
    broken = broken or not_importable(name, folder, environment)
    if broken:
        print(f"\n{broken}\n\nThe tests of {name} wait until that is mended.")
        return 1
    command = [sys.executable, "-m", "pytest", "-q", "-rN", "--tb=short", "--no-header"]
    command += ["-p", "no:cacheprovider", "-p", "no:nbmake", "-c", str(ROOT / "pyproject.toml")]
    command += ["--rootdir", str(ROOT), "-o", "addopts=--import-mode=importlib"]
    # A test that fails may leave a socket open, of which a later one would be told.
    command += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    command += [f"--ignore={TESTS / 'core' / tool}.py" for tool in OF_THE_BOOK]
    command += [] if "-m" in flags else ["-m", "not slow"]
    command += [*flags, *(tests or map(str, places(chapter, work)))]
    print(f"\n{name}, as it is in {folder}\n", flush=True)
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.json"
        environment[REPORT] = str(report)
        with subprocess.Popen(command, cwd=folder, env=environment) as running:
            try:
                status = running.wait()
            except KeyboardInterrupt:  # it goes to the tests too, which tell what they found
                running.wait()
                status = STOPPED
        if not report.exists():
            print(f"\nPython ended, with status {status}, before the tests of {name} did.")
            return status or 1
        found = json.loads(report.read_text())
    judged = summary(exercises, found)
    return STOPPED if status == STOPPED else judged


def not_python(packages: list[Path]) -> str:
    """The files that cannot be read as Python, a line for each."""
    said = []
    for path in sorted(path for package in packages for path in package.rglob("*.py")):
        try:
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except SyntaxError as error:
            said.append(f"{path}, line {error.lineno or 1}: {error.msg}")
        except ValueError as error:
            said.append(f"{path}: {error}")
    return "\n".join(said)


def not_importable(name: str, folder: Path, environment: dict[str, str]) -> str:
    """Why a copy cannot be imported, in a line; nothing where it can be, or where a hole is why."""
    command = [sys.executable, "-c", IMPORT.format(name)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode == 0 or TASK.search(done.stderr):
        return ""
    places = re.findall(r'File "(.+)", line (\d+)', done.stderr)
    where = "{}, line {}: ".format(*places[-1]) if places else ""
    said = done.stderr.strip().splitlines() or [f"Python ends with status {done.returncode}"]
    return f"{where}{said[-1]}"


def summary(exercises: list, found: dict[str, list]) -> int:
    """Print what became of each exercise and what to try next; 0 if every test passed."""
    states = {exercise.number: state(exercise, found) for exercise in exercises}
    solved = sum(said == "solved" for said in states.values())
    print(f"\n{solved} of {len(exercises)} exercises are solved.\n")
    for exercise in exercises:
        print(f"  {exercise.number:5} {exercise.symbol:32} {states[exercise.number]}")
    own = {test for exercise in exercises for test in exercise.tests}
    others = Counter(outcome for test, (outcome, *_) in found.items() if bare(test) not in own)
    print("\n  other tests: " + (", ".join(f"{count} {outcome}" for outcome, count in
                                           sorted(others.items())) or "none"))  # fmt: skip
    for wanted in ("wrong", "to do", "not tried"):
        ready = [number for number, said in states.items() if said.startswith(wanted)]
        if ready:
            print(f"\nNext: {ready[0]}. See python -m utils.exercises show {ready[0]} --hint")
            break
    bad = solved < len(exercises) or others["failed"] or others["waiting"]
    return int(bool(bad))


def state(exercise, found: dict[str, list]) -> str:
    """Solved, to do, wrong, or waiting on another exercise, by the exercise's own tests."""
    own = [(test, *result) for test, result in found.items() if bare(test) in exercise.tests]
    if not own:
        files = {test.partition("::")[0] for test in exercise.tests}
        said = [result[2] for test, result in found.items() if test in files and result[2]]
        return f"not tried: {said[0]}" if said else "not tried"
    if any(number == exercise.number for _, _, number, _ in own):
        return "to do"
    for test, outcome, _, said in own:
        if outcome == "failed":
            return f"wrong: {test.rpartition('::')[2]}: {said}"
    waiting = [number for _, outcome, number, _ in own if outcome == "waiting"]
    if waiting:
        return f"waiting on {waiting[0]}"
    passed = any(outcome == "passed" for _, outcome, *_ in own)
    return "solved" if passed else "not tried: its tests are skipped here"
