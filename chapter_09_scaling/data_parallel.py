"""Several processes train one GPT: the same steps as one process, in less time.

python chapter_09_scaling/data_parallel.py
python chapter_09_scaling/data_parallel.py --data tinyshakespeare.txt --ranks 2 --steps 500
mpiexec -n 2 python -m mpi4py chapter_09_scaling/data_parallel.py --backend mpi
"""

from __future__ import annotations

import statistics
import time
from typing import Any, Callable

import numpy as np

from chapter_03_neural_nets import Batches, evaluate, train
from chapter_05_gradient_mastery import AdamW
from chapter_07_attention import GPT, Corpus
from chapter_09_scaling import Communicator, DataParallel, SharedBatches, SingleProcess, run, shared
from chapter_09_scaling.parallel_figures import plot_overlap
from chapter_09_scaling.rank_scripts import (
    add_text_flag,
    add_training_flags,
    config_of,
    corpus_of,
    settings_of,
)
from chapter_09_scaling.traffic import ring_all_reduce_bytes
from utils.blas import blas_threads
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.memory import keep_memory
from utils.plotting import save_figure

STEPS_A_ROUND = 3


class Trainee:
    """A model, what it learns from and by, and the ranks that share its batches."""

    def __init__(
        self, comm: Communicator, corpus: Corpus, settings: dict[str, Any], overlap: bool = True
    ) -> None:
        rng = np.random.default_rng(settings["seed"])
        model = GPT(config_of(settings, corpus.tokenizer.vocab_size), rng=rng)
        self.model = model.astype(settings.get("dtype", "float32"))
        self.parallel = DataParallel(comm, self.model, settings["bucket"] << 10, overlap)
        self.optimizer = AdamW(self.model.parameters(), settings["lr"], weight_decay=0.1)
        batches = Batches(*corpus.train, batch_size=settings["batch"], rng=rng)
        self.batches, self.loss = SharedBatches(batches, comm), shared()

    def train(self, steps: int, description: str) -> None:
        train(self.model, self.optimizer, self.batches, steps, loss=self.loss,
              before_step=[self.parallel.synchronize], description=description)  # fmt: skip

    def forward_and_backward(self) -> float:
        """Make the gradients; returns when the backward pass began."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model, *next(self.batches))
        begin = time.perf_counter()
        loss.backward()
        return begin

    def step(self) -> None:
        self.forward_and_backward()
        self.parallel.synchronize()
        self.optimizer.step()


def work(comm: Communicator, settings: dict[str, Any]) -> dict[str, Any]:
    """What one rank does: the comparison with one process, the race against it, the training."""
    keep_memory()
    corpus = corpus_of(settings)
    with blas_threads(1):
        return {
            **compare(comm, corpus, settings),
            **race(comm, corpus, settings),
            **learn(comm, corpus, settings),
        }


def compare(comm: Communicator, corpus: Corpus, settings: dict[str, Any]) -> dict[str, Any]:
    """How far the parameters are from those of one process after some steps.

    In float64: where a gradient is 0 but for rounding (a key's bias has such a one), Adam makes
    steps of full length of the rounding, and in float32 the two would not be comparable.
    """
    settings = {**settings, "dtype": "float64", "batch": 7}  # not even for any number of ranks
    together, alone = (Trainee(c, corpus, settings) for c in (comm, SingleProcess()))
    steps = 2 if settings["quick"] else 20
    for _ in range(steps):
        together.step()
        alone.step()
    own, single = (
        np.concatenate([p.data.reshape(-1) for p in trainee.model.parameters()])
        for trainee in (together, alone)
    )
    return {
        "parameters": own.size,
        "same_on_all_ranks": bool(np.array_equal(comm.broadcast(own), own)),
        "largest_difference": float(np.abs(own - single).max()),
    }


def race(comm: Communicator, corpus: Corpus, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step by one rank, by all, and by all without overlap, in alternation."""
    contestants = {
        "alone": Trainee(SingleProcess(), corpus, settings),
        "together": Trainee(comm, corpus, settings),
        "no_overlap": Trainee(comm, corpus, settings, overlap=False),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for trainee in contestants.values():
        sent = comm.sent_bytes
        trainee.step()
    sent = comm.sent_bytes - sent  # by the last of them
    for _ in range(settings["rounds"]):
        for name, trainee in contestants.items():
            runs = comm.rank == 0 or name != "alone"
            times[name].append(timed(comm, trainee.step if runs else lambda: None))
    return {
        "bytes_sent": sent,
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "events": events_of(contestants["together"]),
    }


def events_of(trainee: Trainee) -> dict[str, list[tuple[float, float]]]:
    """When a step computes and when it sends, in seconds from its begin."""
    begin = time.perf_counter()
    computed = trainee.forward_and_backward()
    middle = time.perf_counter()
    trainee.parallel.synchronize()
    sums = [(start - begin, end - begin) for start, end in trainee.parallel.times]
    return {"forward": [(0.0, computed - begin)], "backward": [(computed - begin, middle - begin)],
            "sums": sums}  # fmt: skip


def timed(comm: Communicator, step: Callable[[], None]) -> float:
    """Seconds of a step, until the last rank has taken it."""
    comm.barrier()
    start = time.perf_counter()
    for _ in range(STEPS_A_ROUND):
        step()
    comm.barrier()
    return (time.perf_counter() - start) / STEPS_A_ROUND


def learn(comm: Communicator, corpus: Corpus, settings: dict[str, Any]) -> dict[str, float]:
    """Train for some steps; rank 0 judges, as all have the same model."""
    trainee = Trainee(comm, corpus, settings)
    start = time.perf_counter()
    trainee.train(settings["steps"], f"rank {comm.rank}")
    seconds = time.perf_counter() - start
    loss = evaluate(trainee.model, *corpus.validation)["loss"] if comm.rank == 0 else None
    return {"val_nll": loss, "training_seconds": seconds}


def arguments(argv):
    flags = parser("data_parallel", "Train a GPT on several ranks, and race them against one.")
    add_training_flags(flags, steps=100, batch=64, layers=4, heads=4, width=128, context=64)
    add_text_flag(flags)
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="AdamW's learning rate")
    flags.add_argument("--bucket", type=whole_number(1, 1 << 20), default=1024,
                       help="KiB sent at once")  # fmt: skip
    flags.add_argument("--rounds", type=whole_number(1), default=8, help="of the race")
    args = parse(flags, argv)
    if args.quick:
        args.steps, args.layers, args.width, args.context, args.rounds = 2, 2, 16, 16, 1
    return args


@script
def main(argv=None) -> None:
    args = arguments(argv)
    settings = settings_of(args)
    corpus = corpus_of(settings)
    # What is wrong is said once, before any rank starts.
    config_of(settings, corpus.tokenizer.vocab_size)
    if args.batch > len(corpus.train[0]):
        raise ValueError(
            f"there are {len(corpus.train[0])} texts, too few for --batch {args.batch}"
        )
    results = run(work, args.backend, args.ranks, settings, patience=args.patience)
    if results is None:
        return  # a rank of MPI that is not the first
    ranks, first = len(results), results[0]
    seconds, tokens = first["seconds"], args.batch * args.context
    predicted = ring_all_reduce_bytes(first["parameters"], 4, ranks)
    sent = max(result["bytes_sent"] for result in results)
    metrics = {
        "ranks": ranks,
        "parameters": first["parameters"],
        f"speedup_{ranks}": seconds["alone"] / seconds["together"],
        "tokens_a_second": {name: tokens / value for name, value in seconds.items()},
        "step_seconds": seconds,
        "largest_difference": max(result["largest_difference"] for result in results),
        "same_on_all_ranks": all(result["same_on_all_ranks"] for result in results),
        "bytes_sent_a_step": sent,
        "bytes_predicted_a_step": predicted,
        "val_nll": first["val_nll"],
        "training_seconds": first["training_seconds"],
    }
    write_metrics(args.out, metrics)
    save_figure(plot_overlap(first["events"]), args.out / "step_seconds.png")
    print(f"A GPT of {args.layers} layers of {args.width}, {first['parameters']:,} parameters; "
          f"{args.batch} texts of {args.context} tokens a step\n")  # fmt: skip
    for name, label in (("alone", "1 rank"), ("no_overlap", f"{ranks}, sums at the end"),
                        ("together", f"{ranks}, sums on the way")):  # fmt: skip
        print(f"  {label:22}{tokens / seconds[name]:10,.0f} tokens a second"
              f"{seconds['alone'] / seconds[name]:8.2f} times")  # fmt: skip
    print(f"\n  parameters: {'alike' if metrics['same_on_all_ranks'] else 'NOT alike'} on all "
          f"ranks, within {metrics['largest_difference']:.0e} of one process's\n  each rank sent "
          f"{sent:,.0f} bytes a step; 2 (N - 1) / N of all gradients are {predicted:,.0f}\n"
          f"  after {args.steps} steps: {first['val_nll']:.4f} nats a token\n\n"
          f"What a step does when is drawn in {args.out}/step_seconds.png")  # fmt: skip


if __name__ == "__main__":
    main()
