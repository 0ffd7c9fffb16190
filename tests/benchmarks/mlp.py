"""One training step of a 784-256-128-10 network, batch 128: ours beside PyTorch, same threads.

python tests/benchmarks/mlp.py --threads 2
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from interleaved import medians, need, training_step

import chapter_03_neural_nets as chapter_03
import chapter_05_gradient_mastery as chapter_05
from utils.memory import keep_memory

SIZES = (784, 256, 128, 10)


def our_step(chapter, optimizer, x, targets):
    model = chapter.MLP(SIZES, rng=np.random.default_rng(0))
    optimizer = optimizer(model.parameters())

    return model, training_step(optimizer, lambda: chapter.cross_entropy(model(x), targets))


def torch_step(torch, weights, optimizer, x, targets):
    layers = []
    for before, after in zip(SIZES, SIZES[1:]):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    for p, array in zip(model.parameters(), weights):
        p.data = torch.tensor(array)
    optimizer = optimizer(model.parameters())
    x, targets = torch.tensor(x), torch.tensor(targets)

    return training_step(optimizer, lambda: torch.nn.functional.cross_entropy(model(x), targets))


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's; for NumPy's set "
                        "OPENBLAS_NUM_THREADS to the same")  # fmt: skip
    args = parser.parse_args(argv)
    torch = need("torch")
    keep_memory()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(args.batch, SIZES[0])).astype(np.float32)
    targets = rng.integers(SIZES[-1], size=args.batch)
    optimizers = {
        "SGD": (lambda p: chapter_03.SGD(p, 0.01), lambda p: chapter_03.SGD(p, 0.01),
                lambda p: torch.optim.SGD(p, 0.01)),
        "Adam": (lambda p: chapter_05.Adam(p, 1e-3), lambda p: chapter_03.Adam(p, 1e-3),
                 lambda p: torch.optim.Adam(p, 1e-3)),
    }  # fmt: skip
    print(f"MLP {'-'.join(map(str, SIZES))}, batch {args.batch}, one step, milliseconds:")
    print(f"{'':8}{'chapter 3':>11}{'chapter 5':>11}{'PyTorch':>11}{'PyTorch / chapter 5':>22}")
    for name, (ours, composed, theirs) in optimizers.items():
        model, fused_step = our_step(chapter_05, ours, x, targets)
        weights = [p.data.copy() for p in model.parameters()]
        jobs = {
            "chapter 5": fused_step,
            "chapter 3": our_step(chapter_03, composed, x, targets)[1],
            "PyTorch": torch_step(torch, weights, theirs, x, targets),
        }
        losses = [[job() for _ in range(5)] for job in jobs.values()]
        if np.ptp(losses, axis=0).max() > 1e-4:
            sys.exit(f"they disagree: losses {losses}")
        fused, composed, other = medians(jobs, args.rounds, repeats=10).values()
        print(f"{name:8}{composed * 1e3:11.2f}{fused * 1e3:11.2f}{other * 1e3:11.2f}"
              f"{other / fused:22.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
