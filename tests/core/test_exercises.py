"""Exercises: holes are cut where they should be, and tests tell whose holes they fell into."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.exercises import all_exercises, blanked, chapters, definition, exercises_of, replaced
from utils.exercises.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = all_exercises(ROOT)
STARTABLE = [chapter for chapter in chapters(ROOT) if exercises_of(chapter, ROOT)]
SOURCE = '''"""A module."""

import numpy as np


class Circle:
    @property
    def area(self) -> float:
        """In square metres."""
        # Half of tau.
        return np.pi * self.radius**2

    def doubled(self): return 2 * self.radius


table = {
    np.tanh: (lambda g, y: g * (1 - y * y),),
    np.add: (lambda g: g, lambda g: g),
}
'''


def test_a_function_keeps_all_but_its_body():
    hole = blanked(SOURCE, "Circle.area", "exercise 1.1: write it")
    assert (
        definition(hole, "Circle.area")
        == '''@property
    def area(self) -> float:
        """In square metres."""
        raise NotImplementedError("exercise 1.1: write it")'''
    )
    assert replaced(hole, "Circle.area", SOURCE) == SOURCE
    with pytest.raises(NotImplementedError, match="exercise 1.2"):
        names = {}
        exec(blanked(SOURCE, "Circle.doubled", "exercise 1.2"), names)
        names["Circle"]().doubled()


def test_a_rule_keeps_its_parameters():
    hole = blanked(SOURCE, "table[np.add]", "exercise 1.3")
    task = 'unwritten("exercise 1.3")'
    assert definition(hole, "table[np.add]") == f"(lambda g: {task}, lambda g: {task})"
    names = {}
    exec(hole, names)
    with pytest.raises(NotImplementedError, match="exercise 1.3"):
        names["table"][names["np"].add][0](1.0)


@pytest.mark.parametrize("symbol", ["Circle.perimeter", "Square", "table[np.exp]", "none[np.exp]"])
def test_what_is_not_there_is_named(symbol):
    with pytest.raises(ValueError, match="there is no"):
        definition(SOURCE, symbol)


def test_what_is_no_python_is_said_with_its_line():
    with pytest.raises(ValueError, match="line 2 is not Python"):
        definition("a = 1\nb = = 2\n", "b")


def test_numbers_are_those_of_the_chapter_and_come_once():
    assert len({exercise.number for exercise in EXERCISES}) == len(EXERCISES) > 0
    for chapter in STARTABLE:
        numbers = [exercise.number for exercise in exercises_of(chapter, ROOT)]
        assert numbers == [f"{chapter}.{i + 1}" for i in range(len(numbers))]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.number)
def test_each_exercise_has_all_that_a_reader_needs(exercise):
    source = (ROOT / exercise.file).read_text(encoding="utf-8")
    hole = blanked(source, exercise.symbol, exercise.task)
    assert exercise.task in definition(hole, exercise.symbol)
    assert replaced(hole, exercise.symbol, source) == source, "solving it restores the book's"
    assert exercise.hint, f"exercise {exercise.number} has no hint"
    assert exercise.tests, f"no test judges exercise {exercise.number}"
    for test in exercise.tests:
        file, _, name = test.partition("::")
        assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"there is no {test}"


def test_work_is_taken_back_and_forth_and_never_lost(work):
    chapter = STARTABLE[0]
    work.start(chapter)
    exercise = exercises_of(chapter, ROOT)[0]
    path, book = work.file_of(exercise), (ROOT / exercise.file).read_text(encoding="utf-8")
    assert work.is_open(exercise) and exercise.task in path.read_text(encoding="utf-8")
    assert work.solve(exercise) is None, "a hole is not worth keeping"
    assert not work.is_open(exercise) and work.diff(exercise) == ""
    indent = " " * 4 * (exercise.symbol.count(".") + 1)
    mine = f"{work.own_answer(exercise)}\n{indent}mine = 1"
    path.write_text(path.read_text(encoding="utf-8").replace(work.model_answer(exercise), mine),
                    encoding="utf-8")  # fmt: skip
    kept = work.reset(exercise)
    assert work.is_open(exercise)
    begun = work.own_answer(exercise).replace("raise ", "mine = 2\n    raise ")
    path.write_text(path.read_text(encoding="utf-8").replace(work.own_answer(exercise), begun),
                    encoding="utf-8")  # fmt: skip
    half = work.solve(exercise)
    for other in exercises_of(chapter, ROOT):
        work.solve(other)
    for other in exercises_of(chapter, ROOT):
        assert work.own_answer(other) == work.model_answer(other)
    assert path.read_text(encoding="utf-8") == book, "all solved, it is the book's own"
    assert kept.read_text(encoding="utf-8") == f"{mine}\n", "what it took the place of is kept"
    assert half.read_text(encoding="utf-8") == f"{begun}\n", "what is half done is kept too"


def test_a_method_is_compared_as_if_it_were_a_function(work):
    work.start(1)
    lines = work.diff(work.exercise("1.2")).splitlines()[3:]
    assert lines[0].startswith(" def __mul__(self, ") and lines[1].startswith("-    raise ")


@pytest.mark.parametrize("chapter", STARTABLE)
def test_with_all_solved_the_copy_is_the_book(chapter, work):
    folder = work.start(chapter)
    for exercise in exercises_of(chapter, ROOT):
        work.solve(exercise)
    copied = [path for path in folder.rglob("*") if path.is_file()]
    assert copied
    for path in copied:
        assert path.read_bytes() == (ROOT / path.relative_to(folder)).read_bytes(), path.name


def test_commands_say_what_they_do(work, capsys):
    chapter = STARTABLE[0]
    first = exercises_of(chapter, ROOT)[0]
    for command, said in [
        (["start", f"chapter_{chapter:02}"], "holes"),
        (["list", str(chapter)], f"[ ] {first.number}"),
        (["show", first.number, "--hint"], "Hint: "),
        (["diff", first.number], "+++ the book's"),
        (["solve", first.number], "is the book's now"),
        (["diff", first.number], "No difference."),
        (["reset", first.number], "is to be written again"),
        ([], first.symbol),
    ]:
        main(command)
        assert said in capsys.readouterr().out, command


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("start chapter_99", "there is no chapter 'chapter_99'"),
        ("start ../3", "there is no chapter"),
        ("show 99.1", "there is no exercise '99.1'"),
        (f"solve {EXERCISES[0].number}", "is not started"),
    ],
)
def test_what_cannot_be_done_is_one_line(command, said, work, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not work.folder.exists(), "nothing is made for nothing"


def test_a_started_chapter_is_not_copied_over(work, capsys):
    work.start(STARTABLE[0])
    with pytest.raises(FileExistsError, match="is there already"):
        work.start(STARTABLE[0])
