"""One training step of a 2-16-16-1 network of scalars on 100 points: Scalar beside micrograd.

Binary operators and relu only, the garbage collector on, both on the same weights and points, in
alternation; prints medians and their ratio. Run it by hand: python tests/benchmarks/scalar_mlp.py
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

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
    """Forward, hinge loss, backward, as micrograd's demo does; returns the loss and one gradient."""
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=100)
    args = parser.parse_args(argv)
    try:
        from micrograd.engine import Value
    except ImportError:
        raise SystemExit("this benchmark compares with micrograd: pip install micrograd") from None
    layers, points = weights_and_points(0, args.samples)
    times: dict[str, list[float]] = {"Scalar": [], "micrograd": []}
    for _ in range(args.rounds):
        results = []
        for name, number in (("Scalar", Scalar), ("micrograd", Value)):
            start = time.perf_counter()
            results.append(step(number, layers, points))
            times[name].append(time.perf_counter() - start)
        if max(abs(a - b) for a, b in zip(*results)) > 1e-9:
            raise SystemExit(f"the two disagree: {results}")
    ours, theirs = (statistics.median(times[name]) for name in ("Scalar", "micrograd"))
    print(f"scalar MLP step, {args.samples} samples: Scalar {ours * 1e3:.0f} ms, ", end="")
    print(f"micrograd {theirs * 1e3:.0f} ms, ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
