"""Dialects: what Hugging Face's GPT-2 and Llama call the settings and arrays that we have.

What neither can say, such as a GPT with other positions, is stored in our own words.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Any, Mapping

from chapter_07_attention.config import GPTConfig
from chapter_07_attention.family import Family
from chapter_07_attention.gpt2_family import GPT2
from chapter_07_attention.llama_family import LLAMA


def read_own(settings: Mapping[str, Any]) -> GPTConfig:
    known = GPTConfig.__dataclass_fields__
    return GPTConfig(**{name: value for name, value in settings.items() if name in known})


def write_own(ours: GPTConfig) -> dict[str, Any]:
    return {"model_type": "first-principles", **asdict(ours)}


FAMILIES = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "first-principles": Family("", "layers", {}, (), "$^", read_own, write_own),
}


def family_of(config: GPTConfig) -> str:
    """The first family that can say what a configuration is."""
    for name, family in FAMILIES.items():
        with contextlib.suppress(ValueError):
            family.write(config)
            return name
    raise AssertionError("our own words say everything")
