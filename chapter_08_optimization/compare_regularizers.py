"""LeNet-5 on few pictures: what keeps it from learning them by heart, each remedy by itself.

python chapter_08_optimization/compare_regularizers.py
python chapter_08_optimization/compare_regularizers.py --data t10k-images-idx3-ubyte.gz --seeds 3
"""

from __future__ import annotations

import contextlib
from typing import Callable, Mapping, NamedTuple

import numpy as np

from chapter_03_neural_nets import Batches, Module, Optimizer, evaluate, train
from chapter_05_gradient_mastery import AdamW, Dropout, cross_entropy
from chapter_06_hierarchical import LeNet5, random_affine
from chapter_06_hierarchical.lenet import with_channel
from chapter_08_optimization import (
    EMA,
    SAM,
    SWA,
    cutmix,
    early_stopping,
    linear,
    mixup,
    warm_up,
    weight_decay_groups,
)
from chapter_08_optimization.averaging import Averaged
from chapter_08_optimization.figures import plot_watched
from chapter_08_optimization.sam import watched
from utils import manual_seed
from utils.blas import blas_threads
from utils.commandline import beginning, number, parse, parser, script, whole_number, write_metrics
from utils.data import Images, known_names, load_images, split_images
from utils.plotting import save_figure

JUDGEMENTS, PATIENCE = 15, 5  # in a training; how many make early stopping stop
DROPPED = Dropout(0.5)


def plain(net: LeNet5, images, labels, **options):
    return cross_entropy(net(images), labels, **options)


def dropping(net: LeNet5, images, labels):
    """Half of what the convolutions found is left out."""
    found = net.features(with_channel(images))
    return cross_entropy(net.classifier(DROPPED(found)), labels)


class Remedy(NamedTuple):
    """How the loss, or the optimiser (of a model's optimiser and the steps), differs from none."""

    loss: Callable = plain
    wrap: Callable[[Optimizer, int], Optimizer] = lambda optimizer, steps: optimizer
    weight_decay: float = 0.0
    stops: bool = False


REMEDIES: Mapping[str, Remedy] = {
    "nothing": Remedy(),
    "weight decay": Remedy(weight_decay=0.1),
    "dropout": Remedy(dropping),
    "smoothing": Remedy(lambda *batch: plain(*batch, label_smoothing=0.1)),
    "mixup": Remedy(lambda net, x, labels: mixup(x, labels).loss(cross_entropy, net)),
    "cutmix": Remedy(lambda net, x, labels: cutmix(x, labels).loss(cross_entropy, net)),
    "early stopping": Remedy(stops=True),
    "SWA": Remedy(wrap=lambda optimizer, steps: SWA(optimizer, max(steps // 2, 1))),
    "EMA": Remedy(wrap=lambda optimizer, steps: EMA(optimizer, 0.98)),
    "SAM": Remedy(wrap=lambda optimizer, steps: SAM(optimizer, 0.2)),
    "bent pictures": Remedy(lambda net, x, labels: plain(net, random_affine(x), labels)),
}


def arguments(argv):
    flags = parser("compare_regularizers", "Learn from few pictures, with and without remedies.")
    known = f"{', '.join(known_names('images'))}, or IDX or NPZ images; else drawn glyphs"
    flags.add_argument("--data", metavar="NAME|FILE", help=known)
    flags.add_argument("--pictures", type=whole_number(1), default=1000, help="to learn from")
    flags.add_argument("--remedies", choices=REMEDIES, nargs="+", default=list(REMEDIES),
                       help="which are tried")  # fmt: skip
    flags.add_argument("--steps", type=whole_number(1), default=300, help="steps of a training")
    flags.add_argument("--batch", type=whole_number(1), default=50, help="pictures a step")
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="AdamW's highest rate")
    flags.add_argument("--last-lr", type=number(least=0), help="its last rate; else the highest")
    flags.add_argument("--seeds", type=whole_number(1), default=1, help="trainings of each")
    args = parse(flags, argv)
    if args.quick:
        args.pictures, args.steps, args.seeds = min(args.pictures, 100), min(args.steps, 3), 1
    return args


class Parts(NamedTuple):
    """Pictures to learn from, to stop by and draw lines of, and to be judged on in the end."""

    learnt: Images
    watched: Images
    test: Images


def parts_of(images: Images, pictures: int) -> Parts:
    learnt, rest = split_images(images, min(pictures, len(images.images) * 4 // 5))
    return Parts(learnt, *split_images(rest, min(1000, (len(rest.images) + 1) // 2)))


def fit(remedy: Remedy, parts: Parts, classes: int, args, seed: int, name: str):
    """A trained net and its history: the same start, batches and rates whatever the remedy."""
    manual_seed(seed)
    net = LeNet5(classes)
    last = args.lr if args.last_lr is None else args.last_lr
    lr = warm_up(linear(args.lr, args.steps, last), max(args.steps // 20, 1))
    groups = weight_decay_groups(net, remedy.weight_decay)
    optimizer = remedy.wrap(AdamW(groups, lr), args.steps)

    def judge(net: Module) -> dict:
        averaged = isinstance(optimizer, Averaged)
        with optimizer.averaged() if averaged else contextlib.nullcontext():
            return evaluate(net, *parts.watched)

    history = train(
        net,
        optimizer,
        Batches(*parts.learnt, batch_size=args.batch, rng=np.random.default_rng(seed)),
        args.steps,
        loss=watched(optimizer, remedy.loss),
        evaluate=judge,
        evaluate_every=max(args.steps // JUDGEMENTS, 1),
        keep_best=remedy.stops,
        stop=early_stopping(PATIENCE) if remedy.stops else None,
        description=name,
    )
    if isinstance(optimizer, Averaged):
        optimizer.use()
    return net, history


@script
def main(argv=None) -> None:
    args = arguments(argv)
    images = beginning(args, load_images(args.data))
    parts, classes = parts_of(images, args.pictures), int(images.labels.max()) + 1
    counts = {name: len(part.images) for name, part in parts._asdict().items()}
    args.batch = min(args.batch, counts["learnt"])
    print("{:,} pictures to learn from, {:,} to stop by, {:,} to be judged on"
          .format(*counts.values()))  # fmt: skip
    print(f"LeNet-5, {args.steps} steps of {args.batch}, {args.seeds} of each\n")
    print(f"  {'':15}{'learnt from':>12}{'test loss':>11}{'right':>8}")
    metrics, histories = {}, {}
    for name in args.remedies:
        runs = []
        for seed in range(args.seed, args.seed + args.seeds):
            with blas_threads(1):
                net, history = fit(REMEDIES[name], parts, classes, args, seed, name)
                learnt, test = (evaluate(net, *part) for part in (parts.learnt, parts.test))
            runs.append((learnt["accuracy"], test["loss"], test["accuracy"]))
            histories.setdefault(name, history)
        means = [float(mean) for mean in np.mean(runs, axis=0)]
        metrics[name] = dict(zip(("train_accuracy", "test_loss", "test_accuracy"), means))
        metrics[name]["steps"] = history.steps
        each = metrics[name]["test_accuracy_by_seed"] = [right for _, _, right in runs]
        spread = "   " + ", ".join(f"{right:.1%}" for right in each) if len(each) > 1 else ""
        print("  {:15}{:12.1%}{:11.4f}{:8.1%}{}".format(name, *means, spread))
    figure = plot_watched(histories, f"{counts['learnt']:,} pictures to learn from")
    save_figure(figure, args.out / "losses.png")
    write_metrics(args.out, {"pictures": counts, "batch": args.batch, "remedies": metrics})
    print(f"\nThe losses over the steps are drawn in {args.out}/")


if __name__ == "__main__":
    main()
