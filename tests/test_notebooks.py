"""The notebooks read as a set: one opening, a question before each answer, one way to end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from utils.exercises import exercises_of

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.parent for path in ROOT.glob("chapter_*/README.md"))


def cells_of(chapter: Path) -> list[dict]:
    path = ROOT / "notebooks" / f"{chapter.name[:10]}.ipynb"
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def texts(cells: list[dict], kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_a_notebook_asks_before_it_answers(chapter):
    cells = cells_of(chapter)
    opening, *questions, ending = texts(cells, "markdown")
    title = (chapter / "README.md").read_text(encoding="utf-8").partition("\n")[0]
    assert opening.startswith(f"{title}\n\n**") and f"(../{chapter.name}/README.md)" in opening
    assert all("?" in question for question in questions), "each text asks something"
    assert 8 <= len(texts(cells, "code")) <= 15, "one length: ten questions or so"
    assert sum(len(text.split()) for text in questions) <= 500, "what is told is in the README"
    assert max(len(code.splitlines()) for code in texts(cells, "code")) <= 30, "short cells"
    exercises = {exercise.number for exercise in exercises_of(int(chapter.name[8:10]))}
    things = re.findall(r"^\d\. .*exercise (\d+\.\d+)", ending, re.MULTILINE)
    assert ending.startswith("**Two things to try**") and len(things) == 2
    assert set(things) <= exercises, f"there are the exercises {sorted(exercises)}"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_a_notebook_shows_no_warning(chapter):
    outputs = [output for cell in cells_of(chapter) for output in cell.get("outputs", [])]
    assert outputs, "its outputs are there to be read without running it"
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert not [output for output in outputs if output["output_type"] == "error"]
