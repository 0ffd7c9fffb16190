"""Other libraries that differentiate on NumPy: one training step of theirs beside ours.

python tests/benchmarks/peers.py      MyGrad's MLP and DeZero's LeNet-5; pip install mygrad dezero
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from interleaved import compare, need
from lenet import our_step as lenet_step
from mlp import SIZES
from mlp import our_step as mlp_step

import chapter_03_neural_nets as chapter_03
import chapter_05_gradient_mastery as chapter_05
from utils.memory import keep_memory

LR = 0.01


def mygrad_step(mygrad, weights, x, targets):
    from mygrad.nnet.losses import softmax_crossentropy

    parameters = [mygrad.tensor(w.T if w.ndim == 2 else w, copy=True) for w in weights]

    def step() -> float:
        y = x
        for i in range(0, len(parameters), 2):
            y = y @ parameters[i] + parameters[i + 1]
            y = mygrad.nnet.relu(y) if i + 2 < len(parameters) else y
        loss = softmax_crossentropy(y, targets)
        loss.backward()
        for p in parameters:
            p.data[...] -= LR * p.grad
        return loss.item()

    return step


def dezero_step(F, L, weights, images, labels):
    convolutions = [L.Conv2d(6, 5, pad=2, in_channels=1), L.Conv2d(16, 5, in_channels=6)]
    linears = [L.Linear(o, in_size=i) for i, o in ((400, 120), (120, 84), (84, 10))]
    layers = [*convolutions, *linears]
    for layer, weight, bias in zip(layers, weights[::2], weights[1::2]):
        layer.W.data = weight.T.copy() if weight.ndim == 2 else weight.copy()
        layer.b.data = bias.copy()
    images = images[:, None]

    def step() -> float:
        x = images
        for layer in convolutions:
            x = F.pooling(F.relu(layer(x)), 2, 2)
        x = F.reshape(x, (len(x), -1))
        for layer in linears:
            x = layer(x) if layer is linears[-1] else F.relu(layer(x))
        loss = F.softmax_cross_entropy(x, labels)
        for layer in layers:
            layer.cleargrads()
        loss.backward()
        for layer in layers:
            for p in layer.params():
                p.data -= LR * p.grad.data
        return float(loss.data)

    return step


def report(title: str, jobs: dict, rounds: int) -> None:
    losses = [[job() for _ in range(3)] for job in jobs.values()]
    if np.ptp(losses, axis=0).max() > 1e-3:
        sys.exit(f"they disagree: losses {losses}")
    compare(title, jobs, rounds)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args(argv)
    mygrad = need("mygrad")
    np.int = int  # noqa: NPY001 (DeZero 0.0.13 asks for what NumPy gave up in 1.24)
    F, L = need("dezero.functions"), need("dezero.layers")
    keep_memory()
    rng = np.random.default_rng(0)
    sgd = lambda parameters: chapter_03.SGD(parameters, LR)

    x = rng.normal(size=(128, SIZES[0])).astype(np.float32)
    targets = rng.integers(SIZES[-1], size=128)
    model, ours = mlp_step(chapter_05, sgd, x, targets)
    theirs = mygrad_step(mygrad, [p.data.copy() for p in model.parameters()], x, targets)
    report("MLP, batch 128", {"ours": ours, "MyGrad": theirs}, args.rounds)

    images, labels = rng.random((64, 28, 28)).astype(np.float32), rng.integers(10, size=64)
    model, ours = lenet_step(images, labels, optimizer=sgd)
    theirs = dezero_step(F, L, [p.data.copy() for p in model.parameters()], images, labels)
    report("LeNet-5, batch 64", {"ours": ours, "DeZero": theirs}, args.rounds)


if __name__ == "__main__":
    main()
