"""What there is to write: the exercises of all chapters, as their READMEs list them.

A row of a README's table is an exercise: its number, what to write and in which file, what it has
to do, and the tests that judge it. Hints are folded away below the table, a line for each.

    | 3.2 | [`cross_entropy`](losses.py) | how surprised | [`test_losses.py`](…)`::test_by_hand` |

    - **3.2** Take the maximum off first.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

ROW = re.compile(
    r"^\| (?P<number>\d+\.\d+) \| \[`(?P<symbol>[^`]+)`\]\((?P<file>[^)]+)\) "
    r"\| (?P<about>.+?) \| (?P<tests>\[`[^|]+) \|$",
    re.MULTILINE,
)
TESTS = re.compile(r"\[`[^`]+`\]\((?P<file>[^)]+)\)(?P<names>(?: ?`::\w+`,?)+)")
HINT = re.compile(r"^- \*\*(\d+\.\d+)\*\* (.+(?:\n  .+)*)", re.MULTILINE)


class Exercise(NamedTuple):
    """One thing to write.

    `symbol` is a function, `Class.method`, a function within another, or a row of a table, such as
    `derivatives[np.tanh]`; `file` and the files of `tests`, which are pytest's, are seen from the
    root of the book.
    """

    number: str
    symbol: str
    file: str
    about: str
    tests: tuple[str, ...]
    hint: str

    @property
    def chapter(self) -> int:
        return int(self.number.partition(".")[0])

    def unindented(self, definition: str) -> str:
        """Its text, as if it were neither a method nor a function within another."""
        depth = 0 if "[" in self.symbol else 4 * self.symbol.count(".")
        return textwrap.dedent(" " * depth + definition)

    @property
    def task(self) -> str:
        """What a blank says when it is called; tests recognise an exercise by it."""
        return f"exercise {self.number}: write {self.symbol} in {Path(self.file).name}"


def chapters(root: Path = ROOT) -> dict[int, Path]:
    """The folders of the chapters, by number; FileNotFoundError where the book is not there."""
    found = {int(folder.name[8:10]): folder for folder in sorted(root.glob("chapter_??_*"))}
    if not any((folder / "README.md").is_file() for folder in found.values()):
        raise FileNotFoundError(f"there are no chapters in {root}: exercises need a whole copy "
                                "of the book")  # fmt: skip
    return found


def exercises_of(chapter: int, root: Path = ROOT) -> list[Exercise]:
    """The exercises of a chapter, in the order of its README."""
    folder = chapters(root)[chapter]
    text = (folder / "README.md").read_text(encoding="utf-8")
    hints = {number: " ".join(hint.split()) for number, hint in HINT.findall(text)}

    def from_root(link: str) -> str:
        return (folder / link).resolve().relative_to(root.resolve()).as_posix()

    return [
        Exercise(
            row["number"],
            row["symbol"],
            from_root(row["file"]),
            row["about"],
            tuple(
                f"{from_root(found['file'])}::{name}"
                for found in TESTS.finditer(row["tests"])
                for name in re.findall(r"\w+", found["names"])
            ),
            hints.get(row["number"], ""),
        )
        for row in ROW.finditer(text)
    ]


def all_exercises(root: Path = ROOT) -> list[Exercise]:
    """Those of the whole book."""
    return [exercise for chapter in chapters(root) for exercise in exercises_of(chapter, root)]
