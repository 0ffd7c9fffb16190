"""One training step of a 2-16-16-1 network of scalars on 100 points: Scalar beside micrograd.

Binary operators and relu only, the garbage collector on, the same weights and points.

    python tests/benchmarks/scalar_mlp.py
"""

from __future__ import annotations

import argparse
import random

from interleaved import compare, need

from utils import Scalar

SIZES = (2, 16, 16, 1)


def weights_and_points(seed: int, samples: int):
    rng = random.Random(seed)
    layers = [
        [[rng.uniform(-1, 1) for _ in range(inputs + 1)] for _ in range(outputs)]
        for inputs, outputs in zip(SIZES, SIZES[1:])
    ]
    points = [([rng.gauss(0, 1), rng.gauss(0, 1)], rng.choice([-1.0, 1.0])) for _ in range(samples)]
    return layers, points


def step(number, layers, points) -> tuple[float, float]:
    """Forward, hinge loss, backward, as micrograd's demo; returns the loss and one gradient."""
    network = [[[number(w) for w in neuron] for neuron in layer] for layer in layers]
    loss = number(0.0)
    for x, y in points:
        for i, layer in enumerate(network):
            outputs = []
            for *weights, bias in layer:
                total = bias
                for w, value in zip(weights, x):
                    total = total + w * value
                outputs.append(total.relu() if i < len(network) - 1 else total)
            x = outputs
        loss = loss + (1.0 - y * x[0]).relu()
    loss = loss * (1.0 / len(points))
    loss.backward()
    return loss.data, network[0][0][0].grad


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=100)
    args = parser.parse_args(argv)
    numbers = {"Scalar": Scalar, "micrograd": need("micrograd.engine").Value}
    layers, points = weights_and_points(0, args.samples)
    ours, theirs = (step(number, layers, points) for number in numbers.values())
    if max(abs(a - b) for a, b in zip(ours, theirs)) > 1e-9:
        raise SystemExit(f"the two disagree: {ours} and {theirs}")
    jobs = {name: lambda n=number: step(n, layers, points) for name, number in numbers.items()}
    compare(f"scalar MLP {'-'.join(map(str, SIZES))}, {args.samples} samples", jobs, args.rounds)


if __name__ == "__main__":
    main()
