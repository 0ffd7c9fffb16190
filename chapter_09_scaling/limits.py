"""Whether something fits into this machine, said before it is begun and not when all stands still.

A machine that runs out of memory seldom says so: it moves pages to the disk and back for hours. But
sizes tell beforehand what a training takes at the least (`accounting.py`).
"""

from __future__ import annotations

import os

from chapter_07_attention import GPTConfig
from chapter_09_scaling.accounting import activation_bytes, model_state_bytes, parameters


def machine_bytes() -> int | None:
    """The memory of this machine; None on systems that do not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def check_fits(needed: float, what: str) -> None:
    """ValueError where so many bytes are more than this machine has."""
    held = machine_bytes()
    if held is not None and needed > held:
        raise ValueError(f"{what} takes {needed / 2**30:,.1f} GiB at the least, and this machine "
                         f"has {held / 2**30:,.1f}: give smaller sizes")  # fmt: skip


def check_training(config: GPTConfig, batch: int) -> None:
    """ValueError where a GPT, its gradients, moments and activations in float32 do not fit."""
    count = parameters(config)
    needed = model_state_bytes(count) + activation_bytes(config, batch, config.block_size)
    check_fits(needed, f"to train {count:,} parameters on {batch:,} texts of "
               f"{config.block_size:,} tokens")  # fmt: skip
