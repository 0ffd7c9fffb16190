"""A list of short names to model: the XKCD colour names that matplotlib carries, or one a line."""

from __future__ import annotations

import os

import numpy as np

from utils.data.sources import read_source
from utils.data.text import decode_text

LONGEST_NAME = 40


def load_names(source: str | os.PathLike | None = None) -> list[str]:
    """Return the names of `source`: None for 949 colour names, a known name, or a path.

    A file holds one name a line; blank lines and outer white space are dropped, order is kept.
    Raises FileNotFoundError or another OSError where there is no such file, and ValueError where it
    is empty, not UTF-8 text, or holds a single name.
    """
    if source is None:
        return colour_names()[0]
    text = decode_text(read_source(source, "names")[0], str(source))
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(names) < 2:
        raise ValueError(f"{source}: one line only; give a file of several names, one a line")
    return names


def looks_like_names(text: str) -> bool:
    """Whether a text is a list of names: short lines, none blank, hardly any with spaces."""
    lines = text.strip("\n").split("\n")
    short = max(map(len, lines)) <= LONGEST_NAME and all(line.strip() for line in lines)
    return short and sum(len(line.split()) > 1 for line in lines) <= len(lines) / 20


def colour_names() -> tuple[list[str], np.ndarray]:
    """Return the 949 colour names of the XKCD survey and their RGB values.

    The values are float32 (949, 3) in [0, 1], row i that of name i.
    Source: R. Munroe, "Color Survey Results", blog.xkcd.com, 2010 (public domain).
    """
    from matplotlib.colors import XKCD_COLORS, to_rgb

    names = [name[len("xkcd:") :] for name in XKCD_COLORS]
    return names, np.array([to_rgb(value) for value in XKCD_COLORS.values()], dtype=np.float32)
