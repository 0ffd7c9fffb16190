"""Byte pair encoding never merges across words. What counts as a word is fixed beforehand by one
regular expression, GPT-2's: a run of letters, of digits or of other signs, each with the space in
front of it, or a run of white space. It was written with classes that Python's `re` lacks, \\p{L}
for letters and \\p{N} for numbers, so they are built here from Python's own Unicode tables.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

# Unicode's White_Space. Python's own \s would add the control characters \x1c to \x1f.
WHITE_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def split_words(text: str) -> list[str]:
    """Cut `text` into words that, joined, give `text` again.

    Source: the pattern of OpenAI's GPT-2 encoder (Radford et al., 2019), which reads
    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

    >>> split_words("They're  here, all 3.")
    ['They', "'re", ' ', ' here', ',', ' all', ' 3', '.']
    """
    return _pattern().findall(text)


@functools.lru_cache(maxsize=None)
def _pattern() -> re.Pattern:
    # The first letter of a general category is its major class: Lu and Ll are letters, Nd a number.
    classes = "".join([unicodedata.category(chr(c))[0] for c in range(sys.maxunicode + 1)])
    space, letter, number = WHITE_SPACE, _ranges("L", classes), _ranges("N", classes)
    return re.compile(
        f"'s|'t|'re|'ve|'m|'ll|'d"
        f"| ?[{letter}]+"
        f"| ?[{number}]+"
        f"| ?[^{space}{letter}{number}]+"
        # The last space of a run is left over, to go with the word that follows it.
        f"|[{space}]+(?![^{space}])"
        f"|[{space}]+"
    )


def _ranges(major_class: str, classes: str) -> str:
    """The code points of one major class as the inside of a regular expression's [...]."""
    runs = [run.span() for run in re.finditer(f"{major_class}+", classes)]
    return "".join(f"\\U{start:08x}-\\U{stop - 1:08x}" for start, stop in runs)
