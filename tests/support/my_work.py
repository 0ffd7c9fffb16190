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

ROOT = Path(__file__).resolve().parents[2]
REPORT = "DLFP_MY_WORK_REPORT"  # where a chapter's process writes what became of its tests
TASK = re.compile(r"exercise (\d+\.\d+): write [^\s'\"]+ in \w+\.py")
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


# The reader's process: one more for each started chapter, and a table.


def run(config: pytest.Config) -> int:
    """Test all started chapters; the exit status."""
    from utils.exercises.workspace import Workspace

    work = Workspace()
    if not work.started:
        print("Nothing is started: python -m utils.exercises start chapter_01")
        return 1
    given = [arg for arg in config.invocation_params.args if arg != "--my-work"]
    status = 0
    for chapter in work.started:
        status = max(status, test_chapter(chapter, work, given))
        if status == STOPPED:
            break
    return status


def test_chapter(chapter: int, work, given: list[str]) -> int:
    from utils.exercises import exercises_of

    folder, exercises = work.chapter_folder(chapter), exercises_of(chapter)
    name = work.packages(chapter)[0]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    broken = not_python(folder) or not_importable(name, folder, environment)
    if broken:
        print(f"\n{broken}\n\nThe tests of {name} wait until that is mended.")
        return 1
    places = [f"tests/{name}", *(["tests/core"] if chapter == 1 else [])]
    chosen = [arg for arg in given if any(place in arg for place in places)]
    paths = [] if chosen else [str(ROOT / place) for place in places]
    if "-m" not in given:
        paths += ["-m", "not slow"]
    flags = ["-q", "-rN", "--tb=short", "--no-header", "-p", "no:cacheprovider", "--rootdir"]
    flags += [str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    flags += ["-o", "addopts=--import-mode=importlib"]
    flags += [f"--ignore={ROOT / 'tests/core' / name}.py" for name in OF_THE_BOOK]
    print(f"\n{name}, as it is in {folder}\n", flush=True)
    given = [str(Path(arg).resolve()) if arg in chosen else arg for arg in given]
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.json"
        command = [sys.executable, "-m", "pytest", *flags, *paths, *given]
        environment[REPORT] = str(report)
        with subprocess.Popen(command, cwd=folder, env=environment) as tests:
            try:
                status = tests.wait()
            except KeyboardInterrupt:  # it goes to the tests too, which tell what they found
                tests.wait()
                status = STOPPED
        if not report.exists():
            print(f"\nPython ended, with status {status}, before the tests of {name} did.")
            return status or 1
        found = json.loads(report.read_text())
    judged = summary(exercises, found)
    return STOPPED if status == STOPPED else judged


def not_python(folder: Path) -> str:
    """The files that cannot be read as Python, a line for each."""
    said = []
    for path in sorted(folder.rglob("*.py")):
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
    return f"waiting on {waiting[0]}" if waiting else "solved"


def bare(test: str) -> str:
    """A test's name without its parameters."""
    return test.partition("[")[0]


# The process of a chapter: says of each failure which exercise it is about.


class Judge:
    """Reads failures: `found` has (outcome, exercise, what was said) for each test."""

    def __init__(self, config: pytest.Config) -> None:
        from utils.exercises import all_exercises

        self.config = config
        self.found: dict[str, tuple[str, str | None, str]] = {}
        self.owner: dict[str, list] = {}
        for exercise in all_exercises(ROOT):
            for test in exercise.tests:
                self.owner.setdefault(test, []).append(exercise)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        test = item.nodeid
        own = self.owner.get(bare(test), [])
        number = missing(call.excinfo, report) if report.failed else None
        if number in [exercise.number for exercise in own]:
            report.longrepr = said_of(own, number)
        elif number is not None:
            wait(report, number)
        elif report.failed:
            for exercise in own:
                report.sections.append((f"exercise {exercise.number}", exercise.about))
        if report.failed or report.when == "call" or report.skipped:
            outcome = "waiting" if report.skipped and number else report.outcome
            said = "" if not report.failed else first_line(call.excinfo)
            self.found[test] = outcome, number, said

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self, collector):
        report = (yield).get_result()
        number = missing(None, report) if report.failed else None
        if number is not None:
            self.found[collector.nodeid] = "waiting", number, ""
            wait(report, number)
        elif report.failed:
            last = report.longreprtext.strip().splitlines()[-1]
            self.found[collector.nodeid] = "failed", None, last.lstrip("E ")[:100]

    def pytest_sessionfinish(self, session) -> None:
        Path(os.environ[REPORT]).write_text(json.dumps(self.found))


def said_of(own: list, number: str) -> str:
    exercise = next(exercise for exercise in own if exercise.number == number)
    return f"{exercise.task}: {exercise.about}"


def missing(caught: pytest.ExceptionInfo | None, report) -> str | None:
    """The number of the exercise that a failure comes from; None where it is no hole."""
    error = None if caught is None else caught.value
    said = []
    while error is not None:
        said.append(str(error))
        error = error.__cause__ or error.__context__
    found = TASK.search("\n".join([*said, *captured(report), *said_by_processes(caught)]))
    return found and found[1]


def said_by_processes(caught: pytest.ExceptionInfo | None) -> list[str]:
    """What processes wrote whose results a test has at hand: assertions shorten it."""
    entries = [] if caught is None else caught.traceback
    done = [value for entry in entries for value in entry.frame.f_locals.values()
            if isinstance(value, subprocess.CompletedProcess)]  # fmt: skip
    said = [text for process in done for text in (process.stdout, process.stderr) if text]
    return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in said]


def captured(report) -> list[str]:
    """What was printed meanwhile, also by processes and threads of the test."""
    return [report.longreprtext, *(text for _, text in report.sections)]


def wait(report, number: str) -> None:
    report.outcome = "skipped"
    report.longrepr = ("my_work", None, f"Skipped: waiting on exercise {number}")


def first_line(caught: pytest.ExceptionInfo | None) -> str:
    lines = [] if caught is None else str(caught.value).strip().splitlines()
    return lines[0][:100] if lines else ""
