"""Dates as people write them, and as machines want them: something small to translate.

"the 3rd of May, 2021" becomes "2021-05-03": the parts come in another order, months become numbers,
and where each written character came from is known, so that attention can be judged.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple, Sequence

import numpy as np

from chapter_02_text_generation import CharacterTokenizer

PADDING, BEGIN, END = "\0", "\1", "\2"
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
# fmt: off
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
]
# fmt: on
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
FORMS = (
    "{day} {month} {year}",
    "{day} {short} {year}",
    "{month} {day}, {year}",
    "{short} {day}, {year}",
    "{weekday}, {day} {month} {year}",
    "{weekday}, {month} {nth}, {year}",
    "the {nth} of {month}, {year}",
    "{nth} {month} {year}",
    "{day}.{number}.{year}",
    "{day:02}.{number:02}.{year}",
    "{number}/{day}/{year}",
    "{number:02}/{day:02}/{year}",
    "{day}-{short}-{year}",
    "{day} {short} '{century}",
    "{year}, {month} {day}",
    "{short} {nth} {year}",
)


def written(date: datetime.date, form: str) -> str:
    """A date in one of `FORMS`; "'21" means a year from 1950 to 2049."""
    month = MONTHS[date.month - 1]
    return form.format(
        day=date.day,
        nth=f"{date.day}{suffix(date.day)}",
        month=month,
        short=month[:3],
        number=date.month,
        year=date.year,
        century=f"{date.year % 100:02}",
        weekday=WEEKDAYS[date.weekday()],
    )


def suffix(day: int) -> str:
    """st, nd, rd or th."""
    return "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def random_dates(count: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """So many dates in random forms, in upper or lower case or neither, and each in ISO 8601."""
    days = (LAST - FIRST).days + 1
    sources, targets = [], []
    while len(sources) < count:
        date = FIRST + datetime.timedelta(days=int(rng.integers(days)))
        form = FORMS[rng.integers(len(FORMS))]
        if "century" in form and not 1950 <= date.year < 2050:
            continue
        text = written(date, form)
        sources.append((text, text.lower(), text.upper())[rng.integers(3)])
        targets.append(date.isoformat())
    return sources, targets


class DateExamples(NamedTuple):
    """Sources (N, S), and targets (N, 12): begin, ten characters, end."""

    sources: np.ndarray
    targets: np.ndarray


def date_tokenizer() -> CharacterTokenizer:
    """Every character that a date can be written with, after padding, begin and end."""
    letters = "".join([*MONTHS, *WEEKDAYS, "the of st nd rd th"])
    characters = letters.upper() + letters.lower() + "0123456789 ,./-'"
    return CharacterTokenizer.train(characters, [PADDING, BEGIN, END])


def as_examples(
    sources: Sequence[str], targets: Sequence[str], tokens: CharacterTokenizer
) -> DateExamples:
    """Ids of both, the sources filled up behind their ends."""
    length = max(map(len, sources))
    return DateExamples(
        np.array([tokens.encode(text.ljust(length, PADDING)) for text in sources]),
        np.array([tokens.encode(BEGIN + text + END) for text in targets]),
    )
