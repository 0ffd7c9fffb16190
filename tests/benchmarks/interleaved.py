"""Timing several functions in alternation, so that a busy machine is unfair to none of them."""

from __future__ import annotations

import gc
import statistics
import time
from typing import Callable, Mapping


def medians(jobs: Mapping[str, Callable[[], object]], rounds: int, repeats: int = 1) -> dict:
    """The median seconds of one call of each job, over `rounds` of `repeats` calls each.

    The garbage collector stays on, but each job begins without the garbage of the others.
    """
    for job in jobs.values():
        job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            gc.collect()
            start = time.perf_counter()
            for _ in range(repeats):
                job()
            times[name].append((time.perf_counter() - start) / repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(
    title: str, jobs: Mapping[str, Callable[[], object]], rounds: int, repeats: int = 1
) -> None:
    """Print the median time of our jobs and of their twin, the last, and how they compare."""
    print(f"{title}, one step:")
    times = medians(jobs, rounds, repeats)
    for name, seconds in times.items():
        print(f"  {name:18} {seconds * 1e3:8.2f} ms")
    *ours, twin = times
    for name in ours:
        print(f"  {twin} / {name} = {times[twin] / times[name]:.2f}")


def training_step(optimizer, loss: Callable) -> Callable[[], float]:
    """One step of training, in our words, which are PyTorch's too."""

    def step() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value.item()

    return step


def need(package: str):
    """Import what a benchmark compares with, or say how to get it."""
    try:
        return __import__(package, fromlist=["_"])
    except ImportError:
        name = package.partition(".")[0]
        raise SystemExit(f"this benchmark compares with {name}: pip install {name}") from None
