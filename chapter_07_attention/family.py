"""What a family of models calls our settings and arrays: a table, and functions for the settings.

Hugging Face's GPT-2 stores matrices as (in, out); its Llama stores queries, keys and values, and
the two halves of SwiGLU, apart.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping, NamedTuple

import numpy as np

from chapter_07_attention.config import GPTConfig, switch, whole_number


class Family(NamedTuple):
    """How a family names things.

    `parts` maps ours to theirs, one or several that lie below one another (no parts, and all names
    are ours); `prefix` is before all names but the head's and may be missing; `transposed` are
    parts stored (in, out); `unused` what old files hold besides. `read` and `write` turn their
    settings into ours and back; `biasless` names parts that have biases here and none there.
    """

    prefix: str
    layers: str
    parts: dict[str, tuple[str, ...]]
    transposed: tuple[str, ...]
    unused: str
    read: Callable[[Mapping[str, Any]], GPTConfig]
    write: Callable[[GPTConfig], dict]
    biasless: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda settings: ()

    def names(self, ours: str, prefix: str | None = None) -> list[str]:
        """Their names of one of our arrays."""
        prefix = self.prefix if prefix is None else prefix
        if not self.parts:
            return [ours]
        match = NAME.match(ours)
        if match is None or match.group(2) not in self.parts:
            raise ValueError(f"{ours} has no name in this family: merge it, or take it out, first")
        layer, part, kind = match.groups()
        place = f"{prefix}{self.layers}.{layer}." if layer else prefix if part != "head" else ""
        return [f"{place}{theirs}.{kind}" for theirs in self.parts[part]]


NAME = re.compile(r"(?:layers\.(\d+)\.)?(.*?)[._](weight|bias)$")


def part_of(name: str) -> str:
    """The part that one of our arrays belongs to, such as norm1."""
    return NAME.match(name).group(2)


def joined_parts(name: str, config: GPTConfig) -> list[int]:
    """How many rows of one of our arrays belong to each of the parts below one another."""
    if part_of(name) == "self_attn.in_proj":
        kv = config.n_kv_head * config.head_dim
        return [config.n_head * config.head_dim, kv, kv]
    return [config.hidden, config.hidden]


def is_transposed(name: str, family: Family) -> bool:
    return name.endswith("weight") and part_of(name) in family.transposed


def as_stored(array: np.ndarray, name: str, family: Family) -> np.ndarray:
    """One of our arrays as a file of the family has it, or the other way round."""
    return array.T if is_transposed(name, family) else array


def size(settings: Mapping[str, Any], name: str, optional: bool = False) -> int | None:
    """A setting that is a size; None where it may be missing and is."""
    if optional and settings.get(name) is None:
        return None
    if name not in settings:
        raise ValueError(f"{name} is missing")
    return whole_number(name, settings[name])


def setting(settings: Mapping[str, Any], name: str, default: bool) -> bool:
    """A setting that is a switch."""
    return switch(name, settings.get(name, default))


def only(settings: Mapping[str, Any], **known: Any) -> None:
    for name, value in known.items():
        if settings.get(name, value) != value:
            raise ValueError(f"{name} may only be {value!r}, not {settings[name]!r}")


def expressible(config: GPTConfig, **known: Any) -> None:
    for name, value in known.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"a checkpoint of this family has {name}={value!r}, not {getattr(config, name)!r}"
            )
