"""Every snippet of every README and docstring, run, and its output compared."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
import result_tables
from result_tables import ROOT

BOOK, *CHAPTERS = result_tables.READMES
READMES = [BOOK, ROOT / "NOTATION.md", *CHAPTERS]
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for package in ("utils", "chapter_*")
    for path in ROOT.glob(f"{package}/**/*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_snippets_of(readme):
    # A fence would be read as part of the expected output.
    text = readme.read_text(encoding="utf-8").replace("```", "\n")
    test = doctest.DocTestParser().get_doctest(text, {}, name_of(readme), str(readme), 0)
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert failed == 0, "".join(report)


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_of(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_links_of(readme):
    for link in LINK.findall(readme.read_text(encoding="utf-8")):
        assert (readme.parent / link).exists(), f"{name_of(readme)} links to {link}, not there"


@pytest.mark.parametrize("number", range(len(CHAPTERS)))
def test_a_chapter_links_to_its_neighbours_and_is_linked_from_the_book(number):
    text = CHAPTERS[number].read_text(encoding="utf-8")
    for neighbour in CHAPTERS[max(0, number - 1) : number + 2]:
        if neighbour != CHAPTERS[number]:
            assert f"(../{neighbour.parent.name}/README.md)" in text, neighbour.parent.name
    for page in ("../README.md", "../NOTATION.md", f"../notebooks/chapter_{number + 1:02}.ipynb"):
        assert f"({page})" in text, f"{name_of(CHAPTERS[number])} does not link to {page}"
    assert f"({name_of(CHAPTERS[number])})" in BOOK.read_text(encoding="utf-8")
