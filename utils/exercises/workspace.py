"""The reader's own copies of chapters, each in a folder that Python can be told to look in first.

`my_work/chapter_03/chapter_03_neural_nets/` is the third chapter with holes in it. Whoever has
`my_work/chapter_03` first on the import path runs this copy, and the book's own modules for all
other chapters: so a chapter that is half done never stands in the way of the next. Chapter 1 has
the engine's modules beside it.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import shutil
import tempfile
from pathlib import Path

from utils.exercises.catalogue import ROOT, Exercise, all_exercises, chapters, exercises_of
from utils.exercises.definitions import blanked, definition, replaced
from utils.files import atomic_write

ENGINE = "utils"  # which chapter 1 is about
KEPT = "replaced"  # what `solve` and `reset` take the place of


class Workspace:
    """The copies in a folder, `my_work` beside the chapters where none is named by DLFP_MY_WORK."""

    def __init__(self) -> None:
        named = os.environ.get("DLFP_MY_WORK")
        self.folder = Path(named).expanduser() if named else ROOT / "my_work"

    def chapter_folder(self, chapter: int) -> Path:
        """What is first on the import path where this copy is to be used."""
        return self.folder.resolve() / f"chapter_{chapter:02}"

    @property
    def started(self) -> list[int]:
        """The chapters that have a copy here."""
        return [chapter for chapter in chapters() if self.chapter_folder(chapter).is_dir()]

    def packages(self, chapter: int) -> list[str]:
        return [chapters()[chapter].name, *([ENGINE] if chapter == 1 else [])]

    def number_of(self, name: str) -> int:
        """The chapter that is meant by 3, 03, chapter_03 or chapter_03_neural_nets."""
        found = re.fullmatch(r"(?:chapter_)?0*(\d+)(_\w+)?/?", name)
        if found is None or int(found[1]) not in chapters():
            known = ", ".join(f"chapter_{chapter:02}" for chapter in chapters())
            raise ValueError(f"there is no chapter {name!r}; there are {known}")
        return int(found[1])

    def exercise(self, number: str) -> Exercise:
        """The exercise of that number; ValueError where there is none."""
        for exercise in all_exercises():
            if exercise.number == number:
                return exercise
        raise ValueError(f"there is no exercise {number!r}; python -m utils.exercises lists them")

    def start(self, chapter: int) -> Path:
        """Copy a chapter, with holes; FileExistsError where it was started before."""
        target = self.chapter_folder(chapter)
        if target.exists():
            raise FileExistsError(f"{target} is there already: `reset` takes back one exercise; to "
                                  "begin anew, move that folder away")  # fmt: skip
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is no folder: DLFP_MY_WORK is to name one")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: a copy with half of its holes would be worse than none.
        with tempfile.TemporaryDirectory(dir=target.parent) as beside:
            copy = Path(beside) / "copy"
            for package in self.packages(chapter):
                ignored = shutil.ignore_patterns("__pycache__", "assets", "README.md")
                shutil.copytree(ROOT / package, copy / package, ignore=ignored)
            for exercise in exercises_of(chapter):
                path = copy / exercise.file
                path.write_text(with_hole(exercise, read(path)), encoding="utf-8")
            copy.rename(target)
        return target

    def file_of(self, exercise: Exercise) -> Path:
        """The file in the reader's copy; FileNotFoundError where the chapter was not started."""
        folder = self.chapter_folder(exercise.chapter)
        if not folder.is_dir():
            raise FileNotFoundError(f"chapter {exercise.chapter} is not started: python -m "
                                    f"utils.exercises start {folder.name}")  # fmt: skip
        if not (folder / exercise.file).is_file():
            raise FileNotFoundError(f"{folder / exercise.file} is missing: copy {exercise.file} "
                                    "there and reset its exercises")  # fmt: skip
        return folder / exercise.file

    def model_answer(self, exercise: Exercise) -> str:
        """The book's own definition."""
        return definition(read(ROOT / exercise.file), exercise.symbol)

    def own_answer(self, exercise: Exercise) -> str:
        """The reader's definition."""
        return definition(source_of(self.file_of(exercise), exercise), exercise.symbol)

    def is_open(self, exercise: Exercise) -> bool:
        """Whether there is still a hole."""
        return exercise.task in self.own_answer(exercise)

    def diff(self, exercise: Exercise) -> str:
        """From the reader's definition to the book's, nothing where they are the same."""
        own, model = (
            f"{exercise.unindented(text)}\n".splitlines(keepends=True)
            for text in (self.own_answer(exercise), self.model_answer(exercise))
        )
        return "".join(difflib.unified_diff(own, model, "yours", "the book's"))

    def solve(self, exercise: Exercise) -> Path | None:
        """Put the book's definition into the copy; returns where the reader's is kept."""
        return self.put(exercise, read(ROOT / exercise.file))

    def reset(self, exercise: Exercise) -> Path | None:
        """Put the hole back; returns where the reader's definition is kept."""
        return self.put(exercise, with_hole(exercise, read(ROOT / exercise.file)))

    def put(self, exercise: Exercise, other: str) -> Path | None:
        path = self.file_of(exercise)
        source, kept = source_of(path, exercise), self.keep(exercise)
        with atomic_write(path) as file:
            file.write(replaced(source, exercise.symbol, other).encode())
        return kept

    def keep(self, exercise: Exercise) -> Path | None:
        """Save the reader's definition, unless it is the hole as it was or the book's own."""
        own, book = self.own_answer(exercise), read(ROOT / exercise.file)
        if own in (definition(s, exercise.symbol) for s in (book, with_hole(exercise, book))):
            return None
        folder = self.chapter_folder(exercise.chapter) / KEPT
        folder.mkdir(exist_ok=True)
        places = (folder / f"{exercise.number}_{i}.py" for i in itertools.count(1))
        path = next(place for place in places if not place.exists())
        with atomic_write(path) as file:
            file.write(f"{own}\n".encode())
        return path


def with_hole(exercise: Exercise, source: str) -> str:
    return blanked(source, exercise.symbol, exercise.task)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")  # some editors put a mark first


def source_of(path: Path, exercise: Exercise) -> str:
    """A file of the reader's, in which the exercise can be found; ValueError otherwise."""
    try:
        source = read(path)
        definition(source, exercise.symbol)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return source
