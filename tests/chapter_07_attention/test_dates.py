"""Dates: every form says its date, read by a parser that knows nothing of how it was written."""

from __future__ import annotations

import datetime
import re

import numpy as np
import pytest

from chapter_07_attention import as_examples, date_tokenizer, random_dates
from chapter_07_attention.dates import BEGIN, END, FIRST, FORMS, LAST, PADDING, written

# fmt: off
WHOLE = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
# fmt: on
MONTHS = {name[:3]: number for number, name in enumerate(WHOLE, 1)}


def read(text: str) -> datetime.date:
    """The date in a text, as an English reader would understand it."""
    text = text.lower()
    year = re.search(r"\d{4}", text)
    if year is None:
        (two,) = re.findall(r"'(\d\d)$", text)
        year, rest = int(two) + (1900 if int(two) >= 50 else 2000), text[:-3]
    else:
        rest, year = text[: year.start()] + text[year.end() :], int(year.group())
    numbers = [int(n) for n in re.findall(r"\d+", rest)]
    words = re.findall(r"[a-z]+", re.sub(r"\d+(st|nd|rd|th)\b", "", rest))
    months = [w for w in words if w[:3] in MONTHS and (len(w) == 3 or w in WHOLE)]
    if months:
        (month,), (day,) = [MONTHS[w[:3]] for w in months], numbers
    elif "/" in text:
        month, day = numbers
    else:
        assert "." in text, f"what is {text!r}?"
        day, month = numbers
    date = datetime.date(year, month, day)
    unknown = set(words) - set(months) - {"the", "of"}
    assert not unknown or unknown == {DAYS[date.weekday()]}, f"{text!r}: {unknown}"
    return date


def some_days():
    days = (LAST - FIRST).days
    places = [*range(0, days, 251), 0, days, *range(36_000, 36_400)]  # ends, and a year by day
    return [FIRST + datetime.timedelta(days=n) for n in places]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_back_as_its_date(form):
    for date in some_days():
        if "century" in form and not 1950 <= date.year < 2050:
            continue
        assert read(written(date, form)) == date, written(date, form)


def test_no_text_means_two_dates():
    """Days and months are told apart in every form: 4/5/2021 and 4.5.2021 are different days."""
    found = {}
    for date in some_days():
        for form in FORMS:
            if "century" in form and not 1950 <= date.year < 2050:
                continue
            text = written(date, form)
            for case in {text, text.lower(), text.upper()}:
                assert found.setdefault(case, date) == date, f"{case!r} is two dates"


def test_ordinals_are_english():
    nth = lambda day: written(datetime.date(2021, 5, day), "{nth} {month} {year}").split()[0]
    expected = {1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th",
                21: "21st", 22: "22nd", 23: "23rd", 30: "30th", 31: "31st"}  # fmt: skip
    assert {day: nth(day) for day in expected} == expected


def test_random_dates_are_right_and_of_all_kinds(rng):
    sources, targets = random_dates(3000, rng)
    assert len(sources) == len(targets) == 3000
    for text, date in zip(sources, targets):
        assert read(text).isoformat() == date, f"{text!r} is not {date}"
    assert {t[:3] for t in targets} >= {"190", "195", "200", "204", "209"}, "the two centuries"
    assert any(t.isupper() for t in sources) and any(t.islower() for t in sources)
    shapes = {re.sub(r"\d", "0", re.sub(r"[a-z]+", "a", text.lower())) for text in sources}
    assert len(shapes) >= len(FORMS), "every form occurs"


def test_the_same_seed_gives_the_same_dates():
    draw = lambda seed: random_dates(50, np.random.default_rng(seed))
    assert draw(1) == draw(1) != draw(2)
    assert random_dates(0, np.random.default_rng(0)) == ([], [])


def test_the_tokenizer_knows_every_character_of_every_date():
    tokens = date_tokenizer()
    known = {tokens.decode([i]) for i in range(tokens.vocab_size)}
    for date in some_days():
        for form in FORMS:
            text = written(date, form)
            missing = {*text, *text.lower(), *text.upper(), *date.isoformat()} - known
            assert not missing, f"{missing} of {text!r} cannot be written"
    assert {PADDING, BEGIN, END} <= known
    assert tokens.encode(PADDING) == [0], "the transformer's padding"
    assert date_tokenizer().encode("May 3") == tokens.encode("May 3"), "always the same"


def test_examples_are_padded_behind_and_framed():
    tokens = date_tokenizer()
    texts, dates = ["3 May 2021", "Monday, 3 May 2021"], ["2021-05-03"] * 2
    sources, targets = as_examples(texts, dates, tokens)
    assert sources.shape == (2, 18) and targets.shape == (2, 12)
    assert tokens.decode(sources[0]) == "3 May 2021" + PADDING * 8
    assert tokens.decode(targets[0]) == BEGIN + "2021-05-03" + END
