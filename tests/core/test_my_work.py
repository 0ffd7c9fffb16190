"""`pytest --my-work`: holes fail by name, answers pass one by one, and wrong ones are caught."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import my_work
import pytest

from utils.exercises import chapters, exercises_of

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = list(chapters(ROOT))

# What learners hand in: an exercise, and a place in the book's answer with what they wrote there.
WRONG = {
    "1.2": ("self.tangent * other.value +", "self.tangent * other.tangent +"),
    "1.3": ("left.waiting_for -= 1", "left.waiting_for = 0"),
    "1.7": ("1 - y * y", "1 - y"),
    "2.5": ("given_out * p)", "given_out)"),
    "3.4": ("x * dropout_mask", "dropout_mask"),
    "3.6": ('state["step"] += 1', 'state["step"] = 1'),
    "4.4": ("if not coefficient >= 1:", "if True:"),
    "5.1": ("total(g * y,", "total(g,"),
    "6.6": ("dh[children] += d_said", "dh[children] = d_said"),
    "7.6": ("d_e *= factor", "pass"),
    "8.2": ("(step + 1)", "step"),
    "9.4": ("for i in (1, 2)", "for i in (0, 1)"),
    "10.2": ("(share <= np.array(", "(share < np.array("),
}


@pytest.fixture
def judged(work, capfd):
    """What `pytest --my-work` says of a chapter, by some tests."""

    def run(chapter: int, tests) -> str:
        my_work.judge(chapter, work, [str(ROOT / test) for test in tests], [])
        return capfd.readouterr().out

    return run


@pytest.fixture
def ctrl_c():
    """Where these tests run in the background, processes are begun so that Ctrl-C does nothing."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def row(said: str, exercise) -> str:
    """What the table says of an exercise."""
    lines = [line.split(maxsplit=2) for line in said.splitlines()]
    return next(line[2] for line in lines if line[:2] == [exercise.number, exercise.symbol])


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_own_tests_fail_by_name_then_pass_one_by_one(chapter, work, judged):
    """With all holes each fails by its number; solved, with those before it, it passes."""
    work.start(chapter)
    exercises = exercises_of(chapter)
    said = judged(chapter, sorted({test for exercise in exercises for test in exercise.tests}))
    for exercise in exercises:
        assert row(said, exercise) == "to do", said
        assert f"\n{exercise.task}" in said, "its own tests fail, and name it"
    for exercise in exercises:
        work.solve(exercise)
        said = judged(chapter, exercise.tests)
        assert row(said, exercise) == "solved", said


@pytest.mark.slow
@pytest.mark.parametrize("chapter", sorted({int(number.partition(".")[0]) for number in WRONG}))
def test_wrong_answers_are_caught(chapter, work, judged):
    work.start(chapter)
    exercises = exercises_of(chapter)
    for exercise in exercises:
        work.solve(exercise)
    planted = [exercise for exercise in exercises if exercise.number in WRONG]
    for exercise in planted:
        path, (right, wrong) = work.file_of(exercise), WRONG[exercise.number]
        answer, source = work.own_answer(exercise), path.read_text(encoding="utf-8")
        assert answer.count(right) == 1, f"{exercise.number} has changed: plant another mistake"
        path.write_text(source.replace(answer, answer.replace(right, wrong)), encoding="utf-8")
    said = judged(chapter, sorted({test for exercise in planted for test in exercise.tests}))
    for exercise in planted:
        assert row(said, exercise).startswith("wrong: "), f"{exercise.number} passes: {said}"


def test_what_needs_the_whole_book_is_not_asked_of_a_copy():
    """Chapter 1's copy has the engine, and with it these tools, but no other chapter."""
    for path in (ROOT / "tests/core").glob("test_*.py"):
        needs = re.search(r"^from utils(\.exercises)? import .*(journey|chapters)",
                          path.read_text(encoding="utf-8"), re.MULTILINE)  # fmt: skip
        assert (path.stem in my_work.OF_THE_BOOK) == bool(needs), path.name


def test_an_exercise_whose_tests_are_skipped_is_not_solved():
    exercise = exercises_of(4)[0]
    skipped = dict.fromkeys(exercise.tests, ("skipped", None, ""))
    assert my_work.state(exercise, skipped).startswith("not tried")


def test_a_copy_that_is_no_python_is_told_so(work, judged):
    work.start(4)
    path = work.file_of(exercises_of(4)[0])
    path.write_text(path.read_text(encoding="utf-8") + "\ndef broken(:\n", encoding="utf-8")
    said = judged(4, ["tests/chapter_04_training_dynamics/test_clipping.py"])
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert f"{path}, line {lines}: " in said and "wait until that is mended" in said
    assert "Traceback" not in said


def test_a_copy_that_cannot_be_imported_is_told_so(work, judged):
    work.start(4)
    exercise = exercises_of(4)[2]
    path = work.file_of(exercise)
    path.write_text(path.read_text(encoding="utf-8") + "\nnonsense\n", encoding="utf-8")
    said = judged(4, exercise.tests)
    line = len(path.read_text(encoding="utf-8").splitlines())
    assert f"{path}, line {line}: NameError: name 'nonsense' is not defined" in said
    path.write_text("raise SystemExit(0)\n", encoding="utf-8")
    said = judged(4, exercise.tests)
    assert "chapter_04_training_dynamics ends Python when it is imported" in said


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as Unix does")
def test_an_endless_answer_is_stopped_and_the_others_are_judged(work, ctrl_c):
    work.start(4)
    first, *_, endless = exercises_of(4)
    work.solve(first)
    hole = f'raise NotImplementedError("{endless.task}")'
    path = work.file_of(endless)
    source = path.read_text(encoding="utf-8")
    assert source.count(hole) == 1
    loop = 'print("endless", flush=True)'
    path.write_text(source.replace(hole, f"while True: {loop}"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--my-work", "-s", *first.tests, *endless.tests]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, start_new_session=True) as tests:  # fmt: skip
        for line in tests.stdout:
            if line.strip().endswith("endless"):
                break
        os.killpg(tests.pid, signal.SIGINT)
        said = tests.stdout.read()
    assert tests.returncode == 130
    assert "Traceback" not in said and path.name in said
    assert row(said, first) == "solved"


def test_the_command(work):
    """As a reader gives it: nothing is started, then one chapter is, then it is judged."""
    exercise = exercises_of(4)[2]
    command = [sys.executable, "-m", "pytest", "--my-work", *exercise.tests]

    def run() -> subprocess.CompletedProcess:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    nothing = run()
    assert nothing.returncode == 1 and "Nothing is started" in nothing.stdout
    work.start(4)
    work.start(3)  # of which nothing is asked
    said = run()
    assert "chapter_03" not in said.stdout
    assert said.returncode == 1 and row(said.stdout, exercise) == "to do", said.stdout
    work.solve(exercise)
    assert row(run().stdout, exercise) == "solved"
