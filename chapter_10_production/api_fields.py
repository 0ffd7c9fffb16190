"""The parameters of a request, taken out one by one and checked by name.

What has been taken is gone, so that in the end what is left is what nobody knows: a parameter that
is misspelt is refused instead of being ignored.
"""

from __future__ import annotations

from typing import Any, Sequence

from chapter_10_production.api_errors import BadRequest


class Fields:
    """The parameters in an object; null is the same as absent.

    `within` is how the object itself is called. All methods raise BadRequest, naming the parameter.
    """

    def __init__(self, values: dict[str, Any], within: str = "") -> None:
        self.left = {name: value for name, value in values.items() if value is not None}
        self.within = within

    @classmethod
    def of(cls, value: Any, within: str) -> Fields:
        """Those of what should be an object."""
        if not isinstance(value, dict):
            raise wrong(within, "an object", value)
        return cls(value, within)

    def take(self, name: str, default: Any = None) -> Any:
        """A parameter as it is."""
        return self.left.pop(name, default)

    def flag(self, name: str) -> bool:
        """true or false; false where it is absent."""
        value = self.take(name, False)
        if type(value) is not bool:
            raise self.bad(name, "true or false", value)
        return value

    def whole(self, name: str, least: int, most: int, default: int | None = None) -> int | None:
        """A whole number from `least` to `most`; true is none, nor is 1.0."""
        value = self.take(name, default)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= most:
            raise self.bad(name, f"a whole number from {least} to {most}", value)
        return value

    def number(
        self,
        name: str,
        least: float,
        most: float,
        default: float | None = None,
        above: bool = False,
    ) -> float | None:
        """A number from `least` (or above it) to `most`."""
        value = self.take(name, default)
        if value is None:
            return None
        fits = type(value) in (int, float) and least <= value <= most
        if not fits or (above and value == least):
            start = f"above {least} and up to" if above else f"from {least} to"
            raise self.bad(name, f"a number {start} {most}", value)
        return float(value)

    def text(self, name: str, default: str | None = None) -> str:
        """A string; it must be there unless there is a default."""
        value = self.take(name, default)
        if value is None:
            raise self.missing(name)
        if not isinstance(value, str):
            raise self.bad(name, "a string", value)
        return value

    def object(self, name: str) -> Fields | None:
        """The parameters in an object inside this one."""
        value = self.take(name)
        return None if value is None else Fields.of(value, self.path(name))

    def ignore(self, kinds: dict[str, type], neutral: dict[str, Sequence[Any]]) -> None:
        """Drop what makes no difference: anything of a kind, or one of the neutral values."""
        for name in [name for name in self.left if name in kinds]:
            value = self.take(name)
            if type(value) is not kinds[name]:
                raise self.bad(name, NAMES[kinds[name]], value)
        for name in [name for name in self.left if name in neutral]:
            if not any(same(self.left[name], value) for value in neutral[name]):
                path = self.path(name)
                message = f"{path} is not supported here: leave it out"
                raise BadRequest(400, message, path, "unsupported_parameter")
            self.take(name)

    def none_left(self) -> None:
        """Refuse what nobody has taken."""
        for name in self.left:
            path = self.path(name)[:100]
            message = f"Unrecognized request argument supplied: {path}"
            raise BadRequest(400, message, path, "unknown_parameter")

    def misplaced(self, name: str, partner: str) -> BadRequest:
        path = self.path(name)
        return BadRequest(400, f"{path} goes with {partner} only", path, "invalid_value")

    def bad(self, name: str, rule: str, value: Any) -> BadRequest:
        return wrong(self.path(name), rule, value)

    def missing(self, name: str) -> BadRequest:
        path = self.path(name)
        return BadRequest(400, f"{path} is missing", path, "missing_required_parameter")

    def path(self, name: str) -> str:
        return f"{self.within}.{name}" if self.within else name


def wrong(path: str, rule: str, value: Any) -> BadRequest:
    return BadRequest(400, f"{path} is {rule}, not {shown(value)}", path, "invalid_value")


def same(a: Any, b: Any) -> bool:
    """Equality of JSON, in which false is not 0."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


NAMES = {str: "a string", dict: "an object", list: "a list", bool: "true or false"}


def shown(value: Any) -> str:
    """A value in an error message: short, whatever it is."""
    if isinstance(value, (dict, list)):
        return f"{NAMES[type(value)]} of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."
