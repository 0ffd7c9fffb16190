"""Twenty layers: why they do not train as they stand, and what each remedy changes.

python chapter_04_training_dynamics/gradient_flow.py
python chapter_04_training_dynamics/gradient_flow.py --activation relu
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from chapter_03_neural_nets import (
    SGD,
    Batches,
    ReLU,
    Tanh,
    cross_entropy,
    evaluate,
    kaiming_normal_,
    orthogonal_,
    train,
)
from chapter_04_training_dynamics import (
    BatchNorm1d,
    DeepMLP,
    LearningRateCurve,
    Recorder,
    UpdateRatios,
    clip_grad_norm,
    find_learning_rate,
    plot_activations,
    plot_layers,
    plot_learning_rates,
    plot_over_time,
    plot_training,
    plot_update_ratios,
)
from utils import manual_seed
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_images, split_images
from utils.plotting import save_figure

ACTIVATIONS = {"tanh": Tanh, "relu": ReLU}
# The names of results and figures, and what the recorder calls them.
KINDS = {"activations": "signal", "gradients": "gradient", "saturated": "saturated"}


def arguments(argv):
    flags = parser("gradient_flow", "A net of twenty layers, with and without each remedy.")
    known = ", ".join(known_names("images"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or IDX or NPZ images; else drawn characters"
    )
    flags.add_argument("--steps", type=whole_number(1), default=500, help="training steps a net")
    flags.add_argument("--layers", type=whole_number(1), default=20, help="hidden layers")
    flags.add_argument("--width", type=whole_number(1), default=64, help="units a layer")
    flags.add_argument("--activation", choices=ACTIVATIONS, default="tanh", help="after each layer")
    flags.add_argument("--batch", type=whole_number(2), default=64, help="examples a step")
    flags.add_argument("--lr", type=number(above=0), default=0.1, help="learning rate of SGD")
    flags.add_argument("--clip", type=number(above=0), default=1.0, help="largest gradient norm")
    args = parse(flags, argv)
    if args.quick:
        args.steps = min(args.steps, 10)
    return args


def remedies(args) -> dict[str, dict]:
    """What each network is built with; "clip" is for its training."""
    fitting = {"tanh": orthogonal_, "relu": kaiming_normal_}[args.activation]
    start, norm = {"initialize": fitting}, {"normalization": BatchNorm1d}
    residual, clip = {"residual": True}, {"clip": args.clip}
    return {
        "nothing": {},
        "initialisation": start,
        "normalisation": norm,
        "residual path": residual,
        "clipping": clip,
        "residual + clipping": {**residual, **clip},
        "all four": {**start, **norm, **residual, **clip},
    }


class Fit:
    """One network's training: its model, its losses up to where it diverged, what was seen."""

    def __init__(self, args, build, data, clip=None, lr=None, **remedy) -> None:
        manual_seed(args.seed)  # the same batches for all
        self.model = build(**remedy)
        self.losses: list[float] = []
        self.recorder = Recorder(self.model, every=max(args.steps // 100, 1))
        self.ratios = UpdateRatios(every=max(args.steps // 100, 1))
        clipping = [] if clip is None else [lambda m: clip_grad_norm(m.parameters(), clip)]
        batches = Batches(*data, batch_size=min(args.batch, len(data[0])))
        optimizer = SGD(self.model.parameters(), args.lr if lr is None else lr)
        self.diverged = ""
        try:
            with self.recorder:
                train(
                    self.model,
                    optimizer,
                    batches,
                    args.steps,
                    self.loss,
                    before_step=[*clipping, self.ratios],
                )
            self.ratios(self.model)
        except FloatingPointError as error:
            self.diverged = str(error).partition(";")[0]

    def loss(self, model, inputs, targets):
        value = cross_entropy(model(inputs), targets)
        if np.isfinite(value.data):
            self.losses.append(value.item())
        return value

    def result(self, test) -> dict:
        """The loss of the last tenth of the steps, and the signals at first, layer by layer."""
        tail = self.losses[-max(len(self.losses) // 10, 1) :]
        accuracy = math.nan
        if not self.diverged:
            try:
                accuracy = evaluate(self.model, *test)["accuracy"]
            except FloatingPointError:
                self.diverged = "its last step"
        return {
            "loss": math.nan if self.diverged else float(np.mean(tail)),
            "test_accuracy": accuracy,
            **{name: self.recorder[kind][:, 0].tolist() for name, kind in KINDS.items()},
        }


def report(results: dict[str, dict]) -> None:
    print(f"  {'remedy':20} {'loss':>7} {'right':>7}   activations, layer    gradients, layer")
    print(f"  {'':36}     first       last      first       last")
    for name, r in results.items():
        signals = [r[kind][layer] for kind in ("activations", "gradients") for layer in (0, -1)]
        row = "  ".join(f"{value:9.1e}" for value in signals)
        print(f"  {name:20} {as_loss(r['loss']):>7} {r['test_accuracy']:7.1%}   {row}")


def as_loss(value: float) -> str:
    """A loss to three decimals, or the order of one that has left all bounds."""
    return f"{value:.3f}" if value < 1e4 else f"{value:.0e}"


def search(args, build, data, test) -> tuple[dict, LearningRateCurve]:
    """A learning rate for the normalised net, and whether it trains."""
    remedy = remedies(args)["normalisation"]
    manual_seed(args.seed)
    batches = Batches(*data, batch_size=min(args.batch, len(data[0])))
    curve = find_learning_rate(build(**remedy), batches, steps=20 if args.quick else 100)
    rates = {"a hundredth": 0.01, "the suggestion": 1.0, "a hundred times": 100.0}
    results = {}
    for name, factor in rates.items():
        rate = curve.suggestion * factor
        fit = Fit(args, build, data, lr=rate, **remedy)
        results[name] = {"lr": rate, **fit.result(test)}
    return results, curve


@script
def main(argv=None) -> None:
    args = arguments(argv)
    images = load_images(args.data)
    if args.quick:
        images = type(images)(images.images[:500], images.labels[:500])
    # Pixels from -1 to 1.
    data, test = ((2 * part.images - 1, part.labels) for part in split_images(images))
    build = partial(
        DeepMLP,
        images.images[0].size,
        int(images.labels.max()) + 1,
        args.width,
        args.layers,
        ACTIVATIONS[args.activation],
    )
    print(
        f"{args.layers} layers of {args.width} {args.activation} units, {args.steps} steps of SGD "
        f"at {args.lr:g}, on {len(data[0])} pictures"
    )
    print("Standard deviations of activations and gradients are those of the first step.\n")
    fits = {name: Fit(args, build, data, **remedy) for name, remedy in remedies(args).items()}
    results = {name: fit.result(test) for name, fit in fits.items()}
    report(results)
    for name, fit in fits.items():
        if fit.diverged:
            print(f"  {name} diverged at {fit.diverged}")

    rates, curve = search(args, build, data, test)
    print(f"\nFor the normalised net the finder suggests {curve.suggestion:.3g}. Trained with")
    for name, r in rates.items():
        print(
            f"  {name:20} {r['lr']:8.2g}: loss {as_loss(r['loss'])}, {r['test_accuracy']:.1%} right"
        )

    draw(args, fits, curve)
    metrics = {"remedies": results, "learning_rates": rates, "suggestion": curve.suggestion}
    write_metrics(args.out, {**metrics, "steps": args.steps, "lr": args.lr})
    print(f"\nActivations and gradients, layer by layer, are drawn in {args.out}/")


def draw(args, fits: dict[str, Fit], curve) -> None:
    recorders = {name: fit.recorder for name, fit in fits.items()}
    # Clipping alone changes nothing that could be seen.
    seen = {name: r for name, r in recorders.items() if name != "clipping"}
    at_first = {name: r for name, r in seen.items() if "+" not in name}
    figures = {
        "training": lambda: plot_training({name: fit.losses for name, fit in fits.items()}),
        "layers": lambda: plot_layers(at_first),
        "learning_rates": lambda: plot_learning_rates(curve),
        "updates": lambda: plot_update_ratios(fits["all four"].ratios),
    }
    if not args.quick:  # in a few steps, nothing happens over time
        for name, quantity in KINDS.items():
            figures[name] = partial(plot_over_time, seen, quantity)
        ends = {name: recorders[name] for name in ("nothing", "all four")}
        figures["histogram"] = lambda: plot_activations(ends)
    for name, make in figures.items():
        save_figure(make(), args.out / f"{name}.png")


if __name__ == "__main__":
    main()
