"""The figures in the READMEs' tables of results: what run each is from, and by which key.

The last cell of such a table is headed "command". A row ends with a command and the keys of its
metrics.json, one for each number in the row's second cell; without a command it is of the command
above. A key leads into what is nested (`gpt.Muon.loss`), and may divide (`bytes / parameters`).
Parentheses behind a number say within which bounds it lies in other runs.

    | digits, test | **97.90 %** (97.5 to 98.0) | 97.4 % | `learn.py --data digits`: `accuracy` |
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterator, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("chapter_*/README.md"))]

NUMBER = r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"
FIGURE = re.compile(rf"(?P<printed>{NUMBER})(?P<percent> %)?[* ]*"
                    rf"(?:\((?P<low>{NUMBER}) to (?P<high>{NUMBER})[^)]*\))?")  # fmt: skip
ASIDE = re.compile(r"\((?!-?\d[\d.,e-]* to \d)[^)]*\)")  # parentheses that give no bounds
ELSEWHERE = ("pytest", "python tests/", "tests/")  # judged by themselves, or timed by hand


class Figure(NamedTuple):
    """A number as a README prints it, and where it is from; `low` and `high` are its bounds."""

    command: str
    key: str
    printed: str
    percent: bool
    low: str | None
    high: str | None

    def agrees_with(self, value: float) -> bool:
        """Whether a run that gives this value bears the number out."""
        if self.percent and not self.key.endswith("percent"):
            value *= 100
        if self.low is None or self.high is None:
            return rounded(value, self.printed) == number(self.printed)
        low, high = number(self.low), number(self.high)
        return low <= number(self.printed) <= high and (
            low <= rounded(value, self.low) and rounded(value, self.high) <= high
        )


def figures_of(readme: Path) -> Iterator[Figure]:
    """Those of a README whose rows name a key; ValueError where numbers and keys do not pair."""
    command, inside = "", False
    for line in readme.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        inside = line.startswith("|") and (inside or cells[-1].startswith("command"))
        if not inside:
            command = ""
            continue
        spans = re.findall(r"`([^`]+)`", cells[-1])
        scripts = [span for span in spans if ".py" in span or span.startswith("pytest")]
        if scripts:
            command = "" if scripts[0].startswith(ELSEWHERE) else full(scripts[0], readme)
        keys = [span for span in spans if span not in scripts]
        if command and keys:
            found = list(FIGURE.finditer(ASIDE.sub("", cells[1])))
            if len(found) != len(keys):
                raise ValueError(f"{len(found)} numbers for {len(keys)} keys: {line}")
            for figure, key in zip(found, keys):
                printed, low, high = figure["printed"], figure["low"], figure["high"]
                yield Figure(command, key, printed, bool(figure["percent"]), low, high)


def full(command: str, readme: Path) -> str:
    """The command as it is given at the root of the book."""
    inside = command.startswith(("chapter_", "tests/")) or readme.parent == ROOT
    return command if inside else f"{readme.parent.name}/{command}"


def value_of(metrics: dict[str, Any], key: str) -> float:
    """What a key finds."""
    value: Any = None
    for part in key.split(" / "):
        found: Any = metrics
        for name in part.split("."):
            found = found[name]
        value = found if value is None else value / found
    return value


def number(printed: str) -> float:
    return float(printed.replace(",", ""))


def rounded(value: float, like: str) -> float:
    """To as many digits as a printed number has."""
    digits, _, exponent = like.partition("e")
    decimals = len(digits.partition(".")[2])
    return float(f"{value:.{decimals}e}") if exponent else round(value, decimals)
