"""A training step on a cluster too large to have: how long it takes, and whether it fits.

A simulation of sizes, not of events: memory from `layouts.py`, seconds from `step_time.py`, and a
search for the fastest of all layouts that fit. It asks for no GPU, and answers in milliseconds.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Iterator

from chapter_07_attention import GPTConfig
from chapter_07_attention.config import whole_number
from chapter_09_scaling.accounting import training_flops
from chapter_09_scaling.cluster import Cluster
from chapter_09_scaling.layouts import Layout, check_layout, memory
from chapter_09_scaling.step_time import step_parts


@dataclass(frozen=True)
class Report:
    """What a step takes: `parts` in seconds, `memory` in bytes of the fullest GPU.

    `flops` are those of the whole step in all GPUs' matrix products, recomputation among them, and
    `useful_flops` those without it.
    """

    model: GPTConfig
    cluster: Cluster
    layout: Layout
    global_batch: int
    parts: dict[str, float]
    memory: dict[str, float]
    flops: int
    useful_flops: int

    @property
    def seconds(self) -> float:
        """The whole step."""
        return sum(self.parts.values())

    @property
    def flops_per_gpu(self) -> float:
        """FLOP/s that each GPU achieves, as Narayanan et al., 2021, count them (equation 3)."""
        return self.flops / (self.cluster.gpus * self.seconds)

    @property
    def utilization(self) -> float:
        """The useful share of the peak (model FLOPs utilisation)."""
        whole = self.cluster.gpus * self.seconds * self.cluster.peak_flops
        return self.useful_flops / whole

    @property
    def memory_bytes(self) -> float:
        return sum(self.memory.values())


def simulate(model: GPTConfig, cluster: Cluster, layout: Layout, global_batch: int) -> Report:
    """A step of `global_batch` texts of `block_size` tokens.

    Raises ValueError for a layout that does not divide GPUs, heads, layers or batch, and for one
    that does not fit into memory, which is then told part by part.
    """
    check_layout(model, cluster, layout, global_batch)
    held = memory(model, cluster, layout, global_batch)
    available = cluster.usable_memory * cluster.memory_bytes
    if sum(held.values()) > available:
        parts = ", ".join(f"{name} {size / 1e9:.3g}" for name, size in held.items() if size)
        raise ValueError(f"{layout} needs {sum(held.values()) / 1e9:.3g} GB a GPU ({parts}), and "
                         f"{available / 1e9:.3g} GB are usable")  # fmt: skip
    return Report(
        model,
        cluster,
        layout,
        global_batch,
        step_parts(model, cluster, layout, global_batch),
        held,
        training_flops(model, global_batch, model.block_size, layout.recompute),
        training_flops(model, global_batch, model.block_size),
    )


def best_layout(
    model: GPTConfig,
    cluster: Cluster,
    global_batch: int,
    tensor: int | None = None,
    pipeline: int | None = None,
    micro_batch: int | None = None,
    interleaved: int | None = None,
    recompute: bool | None = None,
) -> Report:
    """The fastest layout that fits into memory, with those sizes fixed that are given.

    Raises ValueError where nothing fits; it says what the leanest layout needs.
    """
    whole_number("global_batch", global_batch)
    fixed = {"tensor": tensor, "pipeline": pipeline, "micro_batch": micro_batch,
             "interleaved": interleaved}  # fmt: skip
    best = leanest = None
    for layout in layouts(model, cluster.gpus, global_batch, fixed):
        for again in (False, True) if recompute is None else (recompute,):
            candidate = dataclasses.replace(layout, recompute=again)
            held = sum(memory(model, cluster, candidate, global_batch).values())
            if leanest is None or held < leanest[0]:
                leanest = held, candidate
            if held <= cluster.usable_memory * cluster.memory_bytes:
                seconds = sum(step_parts(model, cluster, candidate, global_batch).values())
                if best is None or seconds < best[0]:
                    best = seconds, candidate
    if leanest is None:
        given = {name: size for name, size in fixed.items() if size is not None}
        raise ValueError(f"no layout divides {cluster.gpus} GPUs, {model.n_head} heads, "
                         f"{model.n_layer} layers and a batch of {global_batch}"
                         + (f" with {given}" if given else ""))  # fmt: skip
    # If none fits, the leanest says by how much.
    return simulate(model, cluster, (best or leanest)[1], global_batch)


def layouts(
    model: GPTConfig, gpus: int, global_batch: int, fixed: dict[str, int | None]
) -> Iterator[Layout]:
    """All that divide what there is to divide, with recomputation."""

    def choices(name: str, number: int) -> list[int]:
        return [n for n in divisors(number) if fixed[name] in (None, n)]

    for tensor in choices("tensor", math.gcd(gpus, model.n_kv_head)):
        for pipeline in choices("pipeline", math.gcd(gpus // tensor, model.n_layer)):
            data = gpus // (tensor * pipeline)
            if model.hidden % tensor or global_batch % data:
                continue
            for micro_batch in choices("micro_batch", global_batch // data):
                whole = global_batch // (data * micro_batch) % pipeline == 0 and pipeline > 1
                for pieces in choices("interleaved", model.n_layer // pipeline if whole else 1):
                    yield Layout(tensor, pipeline, data, micro_batch, pieces)


def divisors(number: int) -> list[int]:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})
