"""One long string to model: the language reference that Python carries, or any UTF-8 file."""

from __future__ import annotations

import os

from utils.data.sources import read_source


def load_text(source: str | os.PathLike | None = None) -> str:
    """Return the text of `source`: None for Python's language reference, a known name, or a path.

    Line ends become `\\n`. Raises FileNotFoundError or another OSError where there is no such file,
    and ValueError where the file is empty or not UTF-8 text.
    """
    if source is None:
        return _language_reference()
    return decode_text(read_source(source, "text")[0], str(source))


def decode_text(content: bytes, name: str) -> str:
    """Return `content` as text with `\\n` line ends; `name` is what error messages call it."""
    if b"\0" in content:
        raise ValueError(f"{name}: not a text file (a NUL byte at offset {content.index(0)})")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        raise ValueError(f"{name}: not UTF-8 text ({byte}); save it as UTF-8") from error
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise ValueError(f"{name}: the file holds no text, only white space")
    return text


def _language_reference() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FileNotFoundError(
            "this Python carries no language reference (pydoc_data.topics); "
            "give the path of a text file, or the name tinyshakespeare"
        ) from error
    # Topics quote one another: a fifth of the text is repeated, and what a model reads in training
    # must not come back in the part that tests it.
    paragraphs = [p for name in sorted(topics) for p in topics[name].strip("\n").split("\n\n")]
    return "\n\n".join(dict.fromkeys(paragraphs)) + "\n"
