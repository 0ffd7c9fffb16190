"""One training step of LeNet-5, batch 64: ours beside PyTorch's eager mode.

python tests/benchmarks/lenet.py --threads 2
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from interleaved import compare, need, training_step

from chapter_05_gradient_mastery import AdamW, cross_entropy, in_threads
from chapter_06_hierarchical import LeNet5
from utils.memory import keep_memory


def our_step(images, labels, threads: int = 1, optimizer=AdamW):
    model = LeNet5(rng=np.random.default_rng(0))
    optimizer = optimizer(model.parameters())
    loss_of = in_threads(lambda model, x, labels: cross_entropy(model(x), labels), threads)

    return model, training_step(optimizer, lambda: loss_of(model, images, labels))


def torch_step(torch, weights, images, labels):
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    for p, array in zip(model.parameters(), weights):
        p.data = torch.tensor(array)
    optimizer = torch.optim.AdamW(model.parameters())
    images, labels = torch.tensor(images)[:, None], torch.tensor(labels)

    return training_step(optimizer, lambda: nn.functional.cross_entropy(model(images), labels))


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's; for NumPy's set "
                        "OPENBLAS_NUM_THREADS to the same")  # fmt: skip
    args = parser.parse_args(argv)
    torch = need("torch")
    keep_memory()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    images = rng.random((args.batch, 28, 28)).astype(np.float32)
    labels = rng.integers(10, size=args.batch)
    model, one_graph = our_step(images, labels)
    weights = [p.data.copy() for p in model.parameters()]
    _, in_parts = our_step(images, labels, args.threads)
    jobs = {
        f"ours, {args.threads} threads": in_parts,
        "ours": one_graph,
        "PyTorch": torch_step(torch, weights, images, labels),
    }
    losses = [[job() for _ in range(5)] for job in jobs.values()]
    if np.ptp(losses, axis=0).max() > 1e-3:
        sys.exit(f"they disagree: losses {losses}")
    compare(f"LeNet-5, batch {args.batch}", jobs, args.rounds)


if __name__ == "__main__":
    main()
