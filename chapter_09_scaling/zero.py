"""ZeRO: what each rank must hold of a model's parameters, gradients and moments, measured.

python chapter_09_scaling/zero.py
python chapter_09_scaling/zero.py --ranks 4 --layers 12 --width 256
mpiexec -n 4 python -m mpi4py chapter_09_scaling/zero.py --backend mpi
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import Any

import numpy as np

from chapter_03_neural_nets import AdamW, Batches, Optimizer
from chapter_07_attention import GPT, TransformerEncoderLayer
from chapter_09_scaling import (
    Communicator,
    DataParallel,
    SharedBatches,
    SingleProcess,
    ZeRO,
    run,
    sharded,
    shared,
)
from chapter_09_scaling.accounting import model_state_bytes
from chapter_09_scaling.parallel_figures import plot_memory_by_stage
from chapter_09_scaling.rank_scripts import add_training_flags, config_of, settings_of
from chapter_09_scaling.traffic import data_parallel_bytes
from utils.blas import blas_threads
from utils.commandline import parse, parser, script, write_metrics
from utils.plotting import save_figure

STAGES = (0, 1, 2, 3)
VOCABULARY = 256


class Trainee:
    """A GPT that learns nonsense, its optimiser, and which stage of ZeRO shares out its state."""

    def __init__(self, comm: Communicator, stage: int, settings: dict[str, Any], dtype: str):
        layer = sharded(TransformerEncoderLayer) if stage == 3 else TransformerEncoderLayer
        rng = np.random.default_rng(settings["seed"])
        self.model = GPT(config_of(settings, VOCABULARY), layer=layer, rng=rng).astype(dtype)
        self.comm, self.synchronize = comm, lambda: None
        self.parameters = sum(p.size for p in self.model.parameters())
        if stage:
            self.optimizer: Optimizer = ZeRO(comm, self.model, AdamW, stage)
        else:
            self.synchronize = DataParallel(comm, self.model, overlap=False).synchronize
            self.optimizer = AdamW(self.model.parameters())
        ids = rng.integers(VOCABULARY, size=(64, settings["context"] + 1))
        batches = Batches(ids[:, :-1], ids[:, 1:], batch_size=settings["batch"], rng=rng)
        self.batches, self.loss = SharedBatches(batches, comm), shared()

    def gradients(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self.model, *next(self.batches)).backward()
        self.synchronize()

    def step(self) -> None:
        self.gradients()
        self.optimizer.step()

    def state(self) -> np.ndarray:
        """All parameters, one behind the other, fetched from whoever has them."""
        if isinstance(self.optimizer, ZeRO):
            with self.optimizer.whole():
                return np.concatenate([p.data.reshape(-1) for p in self.model.parameters()])
        return np.concatenate([p.data.reshape(-1) for p in self.model.parameters()])


def work(comm: Communicator, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What one rank measures of each stage."""
    with blas_threads(1):
        return [
            {
                "stage": stage,
                **memory(comm, stage, settings),
                "largest_difference": difference(comm, stage, settings),
            }
            for stage in STAGES
        ]


def memory(comm: Communicator, stage: int, settings: dict[str, Any]) -> dict[str, float]:
    """Bytes in float32: between backward pass and step, where all states exist, and at most."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    trainee = Trainee(comm, stage, settings, "float32")
    for _ in range(2):
        trainee.step()  # the moments exist after the first
    sent, start = comm.sent_bytes, time.perf_counter()
    trainee.gradients()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    trainee.optimizer.step()
    seconds = time.perf_counter() - start
    most = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return {
        "parameters": trainee.parameters,
        "memory_held": held,
        "memory_at_most": most,
        "bytes_sent": comm.sent_bytes - sent,
        "step_seconds": seconds,
    }


def difference(comm: Communicator, stage: int, settings: dict[str, Any]) -> float:
    """How far a stage is from one process after some steps, in float64."""
    smaller = {**settings, "layers": 2, "width": 8 * settings["heads"]}
    together = Trainee(comm, stage, smaller, "float64")
    alone = Trainee(SingleProcess(), 0, smaller, "float64")
    for _ in range(settings["steps"]):
        together.step()
        alone.step()
    return float(np.abs(together.state() - alone.state()).max())


def arguments(argv):
    flags = parser("zero", "Measure what a rank holds and sends, stage by stage of ZeRO.")
    add_training_flags(flags, steps=20, batch=4, layers=8, heads=4, width=128, context=16)
    args = parse(flags, argv)
    if args.quick:
        args.layers, args.width, args.steps = 4, 64, 2
    return args


@script
def main(argv=None) -> None:
    args = arguments(argv)
    settings = settings_of(args)
    config_of(settings, VOCABULARY)  # what is wrong is said once, before any rank starts
    results = run(work, args.backend, args.ranks, settings, patience=args.patience)
    if results is None:
        return  # a rank of MPI that is not the first
    ranks, parameters = len(results), results[0][0]["parameters"]
    print(f"A GPT of {args.layers} layers of {args.width}, {parameters:,} parameters, AdamW, "
          f"{ranks} ranks;\nbytes for each parameter that a rank holds, and sends in a step\n\n"
          f"  {'':9}{'held':>7}{'predicted':>11}{'at most':>9}{'sent':>7}{'predicted':>11}"
          f"{'difference':>12}")  # fmt: skip
    metrics: dict[str, Any] = {"ranks": ranks, "parameters": parameters, "stages": {}}
    for stage in STAGES:
        found = {name: max(result[stage][name] for result in results) for name in results[0][0]}
        found["memory_predicted"] = model_state_bytes(parameters, ranks, stage)
        found["traffic_predicted"] = data_parallel_bytes(parameters, 4, ranks, stage)
        found["memory_fraction"] = found["memory_held"] / (16 * parameters)
        found["memory_fraction_predicted"] = found["memory_predicted"] / (16 * parameters)
        metrics["stages"][str(stage)] = found
        names = ("memory_held", "memory_predicted", "memory_at_most", "bytes_sent",
                 "traffic_predicted")  # fmt: skip
        held, predicted, most, sent, traffic = (found[name] / parameters for name in names)
        label = f"stage {stage}" if stage else "none"
        print(f"  {label:9}{held:7.2f}{predicted:11.2f}{most:9.2f}{sent:7.2f}{traffic:11.2f}"
              f"{found['largest_difference']:12.0e}")  # fmt: skip
    write_metrics(args.out, metrics)
    save_figure(plot_memory_by_stage(metrics["stages"], parameters), args.out / "memory.png")
    print(f"\n'at most' counts activations, and what is whole for a moment; the difference is to "
          f"one process\nafter {args.steps} steps in float64. It is drawn in "
          f"{args.out}/memory.png")  # fmt: skip


if __name__ == "__main__":
    main()
