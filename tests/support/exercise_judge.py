"""In the process of a chapter: says of each failure which exercise it is about."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORT = "DLFP_MY_WORK_REPORT"  # where it writes what became of its tests
TASK = re.compile(r"exercise (\d+\.\d+): write [^\s'\"]+ in \w+\.py")


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


def bare(test: str) -> str:
    """A test's name without its parameters."""
    return test.partition("[")[0]


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
