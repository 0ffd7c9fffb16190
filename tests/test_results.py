"""The figures in the READMEs' tables of results are those of a run that is on record."""

from __future__ import annotations

import json

import pytest
from result_tables import READMES, ROOT, Figure, figures_of, value_of

RECORD = json.loads((ROOT / "tests/results.json").read_text(encoding="utf-8"))
FIGURES = [
    pytest.param(readme, figure, id=f"{readme.parent.name}: {figure.key}")
    for readme in READMES
    for figure in figures_of(readme)
]


@pytest.mark.parametrize(("readme", "figure"), FIGURES)
def test_a_figure_is_what_its_command_gave(readme, figure):
    known = RECORD.get(figure.command, {})
    again = "python tests/support/record_results.py FOLDER_OF_DATA records it"
    assert figure.key in known, f"{figure.command}: {figure.key} is not on record; {again}"
    value = known[figure.key]
    assert figure.agrees_with(value), f"{figure.printed} where {figure.command} gave {value}"


def test_nothing_else_is_on_record():
    asked = {(figure.command, figure.key) for readme in READMES for figure in figures_of(readme)}
    assert {(command, key) for command, keys in RECORD.items() for key in keys} == asked


@pytest.mark.parametrize(
    ("printed", "percent", "low", "high", "value", "agrees"),
    [
        ("2.04", False, None, None, 2.0449, True),
        ("2.04", False, None, None, 2.0451, False),
        ("97.9", True, None, None, 0.9794, True),
        ("4,046", False, None, None, 4046, True),
        ("9e-08", False, None, None, 9.4e-08, True),
        ("4.0e-17", False, None, None, 4.1e-17, False),
        ("14.0", False, "14.0", "16.6", 16.64, True),
        ("14.0", False, "14.0", "16.6", 16.66, False),
        ("14.0", False, "14.0", "16.6", 13.9, False),
        ("2.0", False, "14.0", "16.6", 15, False),
    ],
)
def test_a_number_agrees_to_its_last_digit_or_within_its_bounds(
    printed, percent, low, high, value, agrees
):
    assert Figure("learn.py", "loss", printed, percent, low, high).agrees_with(value) == agrees


def test_rows_pair_numbers_with_keys(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(
        "| what | here | reference | command |\n|---|---|---|---|\n"
        "| a | **1.5**, test 97.5 % (97 to 98) of all (5 back) | 2 | `a.py --b`: `c`, `d.e / f` |\n"
        "| b | 3 | – | `g` |\n"
        "| c | 4 | – | `pytest tests` |\n"
        "| d | 5 | – | the same |\n\n"
        "| 6 | 7 | 8 | `h` |\n",
        encoding="utf-8",
    )
    name = f"{tmp_path.name}/a.py --b"
    assert list(figures_of(readme)) == [
        Figure(name, "c", "1.5", False, None, None),
        Figure(name, "d.e / f", "97.5", True, "97", "98"),
        Figure(name, "g", "3", False, None, None),
    ]
    assert value_of({"d": {"e": 3}, "f": 2}, "d.e / f") == 1.5
    text = readme.read_text(encoding="utf-8").replace("| b | 3 |", "| b | 3 or 4 |")
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="2 numbers for 1 keys"):
        list(figures_of(readme))
