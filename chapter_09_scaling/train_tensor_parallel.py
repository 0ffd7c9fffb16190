"""A GPT whose matrices are cut among ranks: the same training, held in parts.

python chapter_09_scaling/train_tensor_parallel.py
python chapter_09_scaling/train_tensor_parallel.py --data tinyshakespeare.txt --ranks 4
mpiexec -n 2 python -m mpi4py chapter_09_scaling/train_tensor_parallel.py --backend mpi
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_03_neural_nets import Batches, Module, train
from chapter_05_gradient_mastery import AdamW, cross_entropy
from chapter_07_attention import GPT
from chapter_09_scaling import Communicator, run
from chapter_09_scaling.rank_scripts import (
    add_text_flag,
    add_training_flags,
    config_of,
    corpus_of,
    settings_of,
)
from chapter_09_scaling.tensor_parallel import gather_state, tensor_parallel_gpt
from chapter_09_scaling.tensor_parallel_layers import shares
from chapter_09_scaling.traffic import tensor_parallel_bytes
from chapter_09_scaling.vocab_parallel import vocab_parallel_cross_entropy
from utils import Tensor
from utils.blas import blas_threads
from utils.commandline import parse, parser, script, write_metrics

WAYS = {"layers": False, "and vocabulary": True}  # what is cut


def work(comm: Communicator, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: training(comm, settings, vocabulary) for name, vocabulary in WAYS.items()}


def training(comm: Communicator, settings: dict[str, Any], vocabulary: bool) -> dict[str, Any]:
    """Train as one of the ranks, beside one process, in float64: a rank's losses and numbers."""
    corpus = corpus_of(settings)
    size = corpus.tokenizer.vocab_size
    config = config_of(settings, size)
    whole = GPT(config, rng=np.random.default_rng(settings["seed"])).astype("float64")
    model = tensor_parallel_gpt(config, comm, whole.state_dict(), vocabulary).astype("float64")

    def loss(model: Module, ids: Any, targets: np.ndarray) -> Tensor:
        if vocabulary and model is not whole:
            return vocab_parallel_cross_entropy(model(ids), targets, vocab_size=size, comm=comm)
        return cross_entropy(model(ids), targets)

    def learn(model: Module, description: str) -> list[float]:
        batches = Batches(*corpus.train, batch_size=settings["batch"],
                          rng=np.random.default_rng(settings["seed"]))  # fmt: skip
        optimizer = AdamW(model.parameters(), 1e-3, eps=1e-4)
        return train(model, optimizer, batches, settings["steps"], loss=loss,
                     description=description).losses  # fmt: skip

    with blas_threads(1):
        before = comm.sent_bytes
        losses = learn(model, f"rank {comm.rank}")
        sent = (comm.sent_bytes - before) / settings["steps"]
        single = learn(whole, "one process")
    joined = gather_state(model, comm)
    return {
        "loss": losses[-1],
        "largest_loss_difference": float(np.abs(np.subtract(losses, single)).max()),
        "largest_difference": max(float(np.abs(joined[name] - array).max())
                                  for name, array in whole.state_dict().items()),
        "numbers_held": sum(p.size for p in model.parameters()),
        "numbers": sum(p.size for p in whole.parameters()),
        "bytes_sent_a_step": sent,
        "bytes_predicted_a_step": tensor_parallel_bytes(
            config, settings["batch"], config.block_size, 8, comm.size, comm.rank
        ),
    }  # fmt: skip


def arguments(argv):
    flags = parser("train_tensor_parallel", "Train a GPT whose matrices are cut among ranks.")
    add_training_flags(flags, steps=20, batch=12, layers=4, heads=4, width=128, context=64)
    add_text_flag(flags)
    args = parse(flags, argv)
    if args.quick:
        args.steps, args.layers, args.width, args.context = 2, 2, 16, 16
    return args


@script
def main(argv=None) -> None:
    args = arguments(argv)
    settings = settings_of(args)
    # What is wrong is said once, before any rank starts.
    config = config_of(settings, corpus_of(settings).tokenizer.vocab_size)
    if args.backend == "local":
        shares(config.n_kv_head, args.ranks, "heads")
    results = run(work, args.backend, args.ranks, settings, patience=args.patience)
    if results is None:
        return  # a rank of MPI that is not the first
    print(
        f"A GPT of {args.layers} layers of {args.width}, {args.heads} heads, on {len(results)} "
        f"ranks: {args.steps} steps of {args.batch}, in float64\n"
    )
    print(f"  {'cut':16}{'loss':>9}{'off by':>9}"
          f"{'a rank holds':>14}{'sends a step':>14}{'predicted':>12}")  # fmt: skip
    metrics: dict[str, Any] = {"ranks": len(results)}
    for name, vocabulary in WAYS.items():
        ranks = [result[name] for result in results]
        most = max(ranks, key=lambda rank: rank["bytes_sent_a_step"])
        held = max(rank["numbers_held"] for rank in ranks) / most["numbers"]
        off = max(rank["largest_difference"] for rank in ranks)
        metrics[name] = {**most, "largest_difference": off, "share_held": held}
        predicted = "more" if vocabulary else f"{most['bytes_predicted_a_step']:,.0f}"
        print(f"  {name:16}{most['loss']:9.6f}{off:9.0e}{held:14.1%}"
              f"{most['bytes_sent_a_step']:14,.0f}{predicted:>12}")  # fmt: skip
    write_metrics(args.out, metrics)
    print("\nOff by: the largest difference of any parameter to one process's; predicted: what the "
          "layers send")  # fmt: skip


if __name__ == "__main__":
    main()
