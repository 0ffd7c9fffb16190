"""The bytes of a request as an object, or one line on what is wrong with them.

Python's own reader is kind: it takes NaN, numbers that are infinite, whole numbers of any length,
the same key twice and halves of characters, and gives up on deep nesting with an error of its own.
A server that reads what strangers send does not want to be kind.
"""

from __future__ import annotations

import json
import math
from typing import Any

MOST_DIGITS = 20  # those of 64 bits; what is longer costs time and means nothing here


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object (RFC 8259) in a body; ValueError if there is anything else in it."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=unrepeated,
            parse_constant=refuse_constant,
            parse_float=finite,
            parse_int=short,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # fails at half a character
    except UnicodeDecodeError as error:
        raise ValueError(f"the body is not UTF-8 (at byte {error.start})") from None
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"the body holds {half!r}, half a character (a lone surrogate)") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("the body is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError('the body is a JSON object, {"name": value, ...}, and nothing else')
    return value


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the body gives {twice[:40]!r} twice")
    return found


def refuse_constant(name: str) -> None:
    raise ValueError(f"the body holds {name}, which is no JSON number")


def finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the body holds {digits[:40]}, which is too large for a number")
    return number


def short(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"the body holds a whole number of more than {MOST_DIGITS} digits")
    return int(digits)
