"""One training step of a 784-256-128-10 network, batch 128: Tensor beside PyTorch, same threads.

python tests/benchmarks/mlp.py --threads 2
"""

from __future__ import annotations

import argparse

import numpy as np
from interleaved import compare, need

from chapter_02_text_generation import cross_entropy
from utils import Tensor

SIZES = (784, 256, 128, 10)
LR = 0.01


def tensor_step(weights, biases, x, targets) -> float:
    h = x
    for i, (weight, bias) in enumerate(zip(weights, biases)):
        h = h @ weight.T + bias
        if i < len(weights) - 1:
            h = h.relu()
    loss = cross_entropy(h, targets)
    loss.backward()
    for p in (*weights, *biases):
        p.data -= LR * p.grad
        p.grad = None
    return loss.item()


def torch_step(torch, weights, biases, x, targets) -> float:
    h = x
    for i, (weight, bias) in enumerate(zip(weights, biases)):
        h = torch.nn.functional.linear(h, weight, bias)
        if i < len(weights) - 1:
            h = torch.relu(h)
    loss = torch.nn.functional.cross_entropy(h, targets)
    loss.backward()
    with torch.no_grad():
        for p in (*weights, *biases):
            p -= LR * p.grad
            p.grad = None
    return loss.item()


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=201)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's; for NumPy's set "
                        "OPENBLAS_NUM_THREADS to the same")  # fmt: skip
    args = parser.parse_args(argv)
    torch = need("torch")
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    shapes = list(zip(SIZES[1:], SIZES))
    weights = [rng.normal(0, n**-0.5, (m, n)).astype(np.float32) for m, n in shapes]
    biases = [np.zeros(m, np.float32) for m, _ in shapes]
    x = rng.normal(size=(args.batch, SIZES[0])).astype(np.float32)
    targets = rng.integers(SIZES[-1], size=args.batch)
    ours = [[Tensor(p.copy(), requires_grad=True) for p in group] for group in (weights, biases)]
    theirs = [[torch.tensor(p, requires_grad=True) for p in group] for group in (weights, biases)]
    jobs = {
        "Tensor": lambda: tensor_step(*ours, Tensor(x), targets),
        "PyTorch": lambda: torch_step(torch, *theirs, torch.tensor(x), torch.tensor(targets)),
    }
    losses = [job() for job in jobs.values()]
    if abs(losses[0] - losses[1]) > 1e-4:
        raise SystemExit(f"the two disagree: losses {losses}")
    compare(f"MLP {'-'.join(map(str, SIZES))}, batch {args.batch}", jobs, args.rounds)


if __name__ == "__main__":
    main()
