"""Train a network of single numbers to tell two moons apart, and draw what it learnt.

python chapter_01_autodiff/train_moons.py --steps 80 --hidden 16 16
"""

from __future__ import annotations

import math

import numpy as np
from tqdm import tqdm

from chapter_01_autodiff import MLP, Scalar, make_moons, plot_decision_boundary
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.plotting import save_figure


def hinge_loss(model: MLP, points: np.ndarray, labels: np.ndarray) -> tuple[Scalar, float]:
    """The mean of max(0, 1 - label * score), and the share of points on the right side."""
    scores = [model(x)[0] for x in points.tolist()]
    losses = [(1 - y * score).relu() for y, score in zip(labels.tolist(), scores)]
    right = np.mean([y * score.data > 0 for y, score in zip(labels, scores)])
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total / len(losses), float(right)


def train(model: MLP, points, labels, steps: int, lr: float, decay: float = 1e-4) -> list[dict]:
    """Gradient descent on all points at once, with a learning rate that falls to a tenth."""
    history = []
    progress = tqdm(range(steps), desc="training", disable=None)
    for step in progress:
        loss, accuracy = hinge_loss(model, points, labels)
        if not math.isfinite(loss.data):
            raise ValueError(f"the loss is {loss.data} in step {step}: {lr:g} is too large an lr")
        for p in model.parameters():
            p.grad = 0.0
        loss.backward()
        rate = lr * (1 - 0.9 * step / steps)
        for p in model.parameters():
            p.data -= rate * (p.grad + decay * p.data)
        if not all(math.isfinite(p.data) for p in model.parameters()):
            raise ValueError(f"step {step} led out of the numbers: lr {lr:g} is too large")
        history.append({"step": step, "loss": loss.data, "accuracy": accuracy})
        progress.set_postfix(loss=f"{loss.data:.4f}", accuracy=f"{accuracy:.0%}")
    return history


@script
def main(argv=None) -> None:
    flags = parser("train_moons", "A network of Scalars on two moons, with its decision boundary.")
    flags.add_argument("--steps", type=whole_number(1), default=80, help="gradient steps")
    flags.add_argument("--samples", type=whole_number(2), default=100, help="points on the moons")
    flags.add_argument("--noise", type=number(least=0), default=0.1, help="blur of the moons")
    flags.add_argument("--lr", type=number(above=0), default=2.0, help="learning rate at the start")
    flags.add_argument(
        "--hidden", type=whole_number(1), nargs="+", default=[16, 16], help="neurons per layer"
    )
    args = parse(flags, argv)
    if args.quick:
        args.steps, args.samples, args.hidden = min(args.steps, 20), min(args.samples, 50), [8]

    points, labels = make_moons(args.samples, args.noise)
    model = MLP([2, *args.hidden, 1])
    print(f"{len(model.parameters())} parameters, {args.samples} points, {args.steps} steps")
    history = train(model, points, labels, args.steps, args.lr)
    loss, accuracy = hinge_loss(model, points, labels)
    for record in history[:: max(args.steps // 6, 1)]:
        print("  step {step:4}   loss {loss:.4f}   accuracy {accuracy:.0%}".format(**record))
    print(f"  the end     loss {loss.data:.4f}   accuracy {accuracy:.0%}")

    def score(grid: np.ndarray) -> np.ndarray:
        return np.array([model(x)[0].data for x in grid.tolist()])

    figure = plot_decision_boundary(score, points, labels, resolution=15 if args.quick else 40)
    save_figure(figure, args.out / "decision_boundary.png")
    write_metrics(
        args.out,
        {
            "parameters": len(model.parameters()),
            "final_loss": loss.data,
            "accuracy": accuracy,
            "history": history,
        },
    )
    print(f"The decision boundary is drawn in {args.out}/decision_boundary.png")


if __name__ == "__main__":
    main()
