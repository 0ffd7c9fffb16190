"""Published training runs, read from a table, to hold the simulator against."""

from __future__ import annotations

import csv
import math
import os
from typing import NamedTuple


class Row(NamedTuple):
    """One run: its model, its GPUs and how they are divided, and FLOP/s a GPU."""

    name: str
    heads: int
    width: int
    layers: int
    tensor: int
    pipeline: int
    gpus: int
    batch: int
    flops: float


COLUMNS = {
    "heads": "attention_heads",
    "width": "hidden_size",
    "layers": "layers",
    "tensor": "tensor_parallel",
    "pipeline": "pipeline_parallel",
    "gpus": "gpus",
    "batch": "batch_size",
}
NAME, FLOPS = "parameters_b", "tflops_per_gpu"


def read_table(path: str | os.PathLike) -> list[Row]:
    """The rows of a CSV file with a header; lines that begin with # are remarks.

    Raises ValueError for missing columns, and for values that are no sizes, by line.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = [line for line in file if not line.startswith("#")]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text, so it is no table") from None
    table = csv.DictReader(lines)
    missing = [c for c in (NAME, *COLUMNS.values(), FLOPS) if c not in (table.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    rows = [as_row(path, values) for values in table]
    if not rows:
        raise ValueError(f"{path} has a header, but no rows")
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path} has two rows of {name} billion parameters")
    return rows


def as_row(path: str | os.PathLike, values: dict[str, str]) -> Row:
    try:
        sizes = {name: int(values[column]) for name, column in COLUMNS.items()}
        flops = float(values[FLOPS]) * 1e12
        if min(sizes.values()) < 1 or not 0 < flops < math.inf:
            raise ValueError
    except (TypeError, ValueError):
        said = ",".join(str(value) for value in values.values())
        raise ValueError(f"{path}: these are no sizes from 1 up and a speed: {said}") from None
    return Row(values[NAME], flops=flops, **sizes)
