"""What the scripts that start ranks have in common: flags, and the text and the GPT that they mean.

A rank is another process, so what it is told must be what JSON can say: the flags' values, from
which it makes the text and the model itself.
"""

from __future__ import annotations

import argparse
from typing import Any

from chapter_07_attention import Corpus, GPTConfig, text_corpus
from chapter_09_scaling.backends import add_flags
from chapter_09_scaling.limits import check_training
from utils.commandline import whole_number
from utils.data import known_names, load_text

MODEL = {"layers": ("how many layers", 1000), "heads": ("heads a layer", 1000),
         "width": ("numbers a token", 16_384), "context": ("tokens seen", 65_536)}  # fmt: skip
LARGEST_BATCH = 65_536
NOT_SAID = ("out", "backend", "ranks", "patience")


def add_text_flag(flags: argparse.ArgumentParser) -> None:
    known = ", ".join(known_names("text"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or a text; else Python's reference"
    )


def add_training_flags(
    flags: argparse.ArgumentParser, steps: int, batch: int, ranks: int = 2, **model: int
) -> None:
    """The flags of the ranks, the steps, and the sizes of a GPT, with their defaults."""
    add_flags(flags, ranks)
    flags.add_argument("--steps", type=whole_number(1), default=steps, help="steps a training")
    flags.add_argument("--batch", type=whole_number(1, LARGEST_BATCH), default=batch,
                       help="texts a step, of all")  # fmt: skip
    for name, (text, most) in MODEL.items():
        flags.add_argument(f"--{name}", type=whole_number(1, most), default=model[name], help=text)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What a rank is told."""
    return {name: value for name, value in vars(args).items() if name not in NOT_SAID}


def corpus_of(settings: dict[str, Any]) -> Corpus:
    """The text that --data names; a part of it with --quick."""
    text = load_text(settings["data"])
    return text_corpus(text[:20_000] if settings["quick"] else text, settings["context"])


def config_of(settings: dict[str, Any], vocab_size: int) -> GPTConfig:
    """The GPT's sizes; ValueError where they are none, or too large for this machine."""
    sizes = (settings[name] for name in ("context", "layers", "heads", "width"))
    config = GPTConfig(vocab_size, *sizes)
    check_training(config, settings["batch"])
    return config
