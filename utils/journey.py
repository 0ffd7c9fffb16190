"""The whole book in a minute: each chapter's headline as a small run, and what each of them shows.

python -m utils.journey

Small runs show that everything works here, not how good it gets: that is in the chapters' READMEs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from utils.commandline import parse, script, whole_number, write_metrics

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 100  # seconds; a small run takes about two


class Stop(NamedTuple):
    """A chapter's headline, and a sentence with places for what its metrics.json holds."""

    file: str
    shows: str

    @property
    def chapter(self) -> str:
        return self.file.partition("/")[0]


STOPS = [
    Stop(
        "chapter_01_autodiff/gradient_engine.py",
        "f = {value:.0f}; its gradients are {gradients[Tensor]}, reached in four ways",
    ),
    Stop(
        "chapter_02_text_generation/language_model.py",
        "{mlp_val_nll:.2f} nats a character by a network, {bigram_nll:.2f} by counting pairs",
    ),
    Stop(
        "chapter_03_neural_nets/multilayer_perceptron.py",
        "{test_accuracy:.0%} of unseen characters read after {image_steps} steps",
    ),
    Stop(
        "chapter_04_training_dynamics/batch_normalization.py",
        "twelve layers after {steps} steps: {val_nll_batchnorm:.2f} nats, "
        "{val_nll_plain:.2f} without batch norm",
    ),
    Stop(
        "chapter_05_gradient_mastery/manual_backprop.py",
        "gradients by hand and autodiff's differ by {max_abs_difference:.0e} at most",
    ),
    Stop(
        "chapter_06_hierarchical/convolutional_network.py",
        "a LeNet-5 of {lenet_parameters:,} numbers has made {lenet_steps} steps",
    ),
    Stop(
        "chapter_07_attention/train_gpt.py",
        "a GPT of {parameters:,} numbers has made its first steps: {val_nll:.2f} nats a token",
    ),
    Stop(
        "chapter_08_optimization/compare_optimizers.py",
        "raced on a GPT, Muon gets to {gpt[Muon][loss]:.2f}, AdamW to {gpt[AdamW][loss]:.2f}",
    ),
    Stop(
        "chapter_09_scaling/data_parallel.py",
        "{ranks} processes train as one does: weights differ by {largest_difference:.0e}",
    ),
    Stop(
        "chapter_10_production/serve.py",
        "a server says it is {health}, and writes {tokens} tokens in {answer_seconds:.2f} s",
    ),
]
WITHOUT_SERVER = Stop(
    "chapter_10_production/demo_latency.py",
    "with a cache {cache_speedup:.0f} times the tokens a second, "
    "and {batch_speedup_8:.1f} times that for 8 texts at once",
)


class Arrival(NamedTuple):
    """What became of a stop: its sentence, or the last line of its complaint."""

    stop: Stop
    succeeded: bool
    said: str
    seconds: float


def route() -> list[Stop]:
    """The stops, without a server where what it stands on is not installed."""
    needed = ("starlette", "uvicorn", "prometheus_client")
    if all(importlib.util.find_spec(name) for name in needed):
        return STOPS
    return [*STOPS[:-1], WITHOUT_SERVER]


def visit(stop: Stop, out: Path, seed: int) -> Arrival:
    """Run a headline with `--quick`; its results are in `out` then, its report with them."""
    command = [sys.executable, str(ROOT / stop.file), "--quick", "--seed", str(seed), "--out", out]
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").unlink(missing_ok=True)  # an earlier journey's says nothing of this one
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=PATIENCE)  # fmt: skip
        status, report = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        status, report = 1, (late.stdout or b"") + f"\nnot done after {PATIENCE} s".encode()
    seconds = time.perf_counter() - begin
    (out / "report.txt").write_bytes(report)
    if status == 0:
        try:
            return Arrival(stop, True, sentence(stop, out), seconds)
        except (OSError, ValueError, LookupError, TypeError) as error:
            return Arrival(stop, False, f"metrics.json: {error!r}", seconds)
    lines = report.decode(errors="replace").strip().splitlines() or [f"exit status {status}"]
    return Arrival(stop, False, lines[-1], seconds)


def sentence(stop: Stop, out: Path) -> str:
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return stop.shows.format(**metrics)


def table(arrivals: list[Arrival]) -> str:
    """A row for each stop; those that failed are marked."""
    width = max(len(arrival.stop.chapter) for arrival in arrivals)
    return "\n".join(
        f"{'  ' if succeeded else '! '}{stop.chapter:{width}} {seconds:5.1f} s  {said}"
        for stop, succeeded, said, seconds in arrivals
    )


@script
def main(argv=None) -> None:
    flags = argparse.ArgumentParser(
        prog="python -m utils.journey",
        description="Run every chapter's headline with --quick, and tell what each shows.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    flags.add_argument("--seed", type=whole_number(0), default=0, help="seed of all randomness")
    flags.add_argument("--out", type=Path, default=Path("runs/journey"), metavar="DIR",
                       help="folder for what each chapter draws and reports")  # fmt: skip
    args = parse(flags, argv)
    arrivals = []
    with tqdm(route(), disable=None) as bar:
        for stop in bar:
            bar.set_description(stop.chapter)
            arrivals.append(visit(stop, args.out / stop.chapter, args.seed))
    print(table(arrivals))
    failed = [arrival for arrival in arrivals if not arrival.succeeded]
    seconds = sum(arrival.seconds for arrival in arrivals)
    print(f"\n{len(arrivals) - len(failed)} of {len(arrivals)} chapters in {seconds:.0f} s. "
          f"Figures, reports and numbers are in {args.out}/")  # fmt: skip
    write_metrics(args.out, {
        "seconds": seconds,
        "chapters": {
            arrival.stop.chapter: {
                "succeeded": arrival.succeeded, "said": arrival.said, "seconds": arrival.seconds
            }
            for arrival in arrivals
        },
    })  # fmt: skip
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
