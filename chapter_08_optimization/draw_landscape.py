"""Landscapes: paths in a ravine, paths of a network, wide and narrow minima, and lines between.

python chapter_08_optimization/draw_landscape.py
python chapter_08_optimization/draw_landscape.py --data t10k-images-idx3-ubyte.gz
"""

from __future__ import annotations

from functools import partial

import numpy as np

from chapter_03_neural_nets import Batches, evaluate, train
from chapter_05_gradient_mastery import MLP, cross_entropy
from chapter_08_optimization import CONTESTANTS, EMA, SAM, SWA, landscape, linear, warm_up
from chapter_08_optimization import landscape_figures as figures
from chapter_08_optimization.ravine import VALLEYS, walks
from chapter_08_optimization.sam import watched
from utils import manual_seed
from utils.blas import blas_threads
from utils.commandline import beginning, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_images, split_images
from utils.plotting import save_figure

RATES = {"momentum": 0.1, "Adam": 0.01, "Muon": 0.01, "Lion": 0.002}
momentum = CONTESTANTS["momentum"].make
KEPT, SHOWN = 60, 1000  # points of a path; pictures whose loss is drawn, and a large batch
DISTANCE, DIRECTIONS, SHARES = 0.5, 20, np.linspace(-0.25, 1.25, 31)  # of sharpness; of a line
HEADING = f"  {'':14}{'learnt from':>12}{'others':>9}{'right':>9}"
ROW = "  {:14}{loss:12.4f}{test_loss:9.4f}{test_accuracy:9.1%}"


def arguments(argv):
    flags = parser("draw_landscape", "Draw paths of optimisers, and the loss around minima.")
    known = f"{', '.join(known_names('images'))}, or IDX or NPZ images; else drawn glyphs"
    flags.add_argument("--data", metavar="NAME|FILE", help=known)
    flags.add_argument("--pictures", type=whole_number(1), default=1000, help="to learn from")
    flags.add_argument("--steps", type=whole_number(2), default=300, help="steps of a training")
    flags.add_argument("--batch", type=whole_number(1), default=20, help="pictures a step")
    args = parse(flags, argv)
    if args.quick:
        args.pictures, args.steps = min(args.pictures, 200), min(args.steps, 10)
    return args


class Field:
    """What all trainings share: the network's shape, the pictures, the steps; and the figures."""

    def __init__(self, args) -> None:
        images = beginning(args, load_images(args.data))
        count = min(args.pictures, len(images.images) * 4 // 5)
        self.learnt, self.others = split_images(images, count)
        self.sizes = [images.images[0].size, 48, 48, int(images.labels.max()) + 1]
        self.steps, self.batch, self.seed = args.steps, min(args.batch, count), args.seed
        self.points, self.figures = 7 if args.quick else 31, {}
        self.valleys = dict(list(VALLEYS.items())[: 1 if args.quick else None])

    def train(self, make, lr, batch=None, seed=None):
        """A trained net, its optimiser, and points (N,) on its path from first to last."""
        seed = self.seed if seed is None else seed
        manual_seed(seed)
        rng, net, path = np.random.default_rng(seed), MLP(self.sizes), []
        optimizer = make(net, warm_up(linear(lr, self.steps), max(self.steps // 20, 1)))
        batches = Batches(*self.learnt, batch_size=batch or self.batch, rng=rng)
        loss = lambda net, images, labels: cross_entropy(net(images), labels)

        def note(net) -> None:
            if optimizer.steps % max(self.steps // KEPT, 1) == 0:
                path.append(landscape.weights_of(net))

        loss = watched(optimizer, loss)
        train(net, optimizer, batches, self.steps, loss=loss, before_step=[note])
        return net, optimizer, [*path, landscape.weights_of(net)]

    def loss(self, net, others: bool = False) -> float:
        """Of some pictures; far from all minima it may be infinite."""
        images, labels = (part[:SHOWN] for part in (self.others if others else self.learnt))
        return cross_entropy(net(images), labels).item()

    def judged(self, net) -> dict:
        test, own = (evaluate(net, *part) for part in (self.others, self.learnt))
        return {"loss": own["loss"], **{f"test_{key}": value for key, value in test.items()}}

    def draw_line(self, name: str, net, first, last, ends, title: str) -> list:
        """The losses along a line; those on what was learnt from are returned."""
        at = lambda loss: landscape.path_between(net, loss, first, last, SHARES)
        lines = {"learnt from": at(self.loss), "others": at(partial(self.loss, others=True))}
        self.figures[name] = partial(figures.plot_path_between, SHARES, lines, ends, title)
        return lines["learnt from"][(SHARES >= 0) & (SHARES <= 1)]


def in_valleys(field: Field) -> dict:
    """Optimisers of two numbers."""
    metrics: dict = {}
    for key, valley in field.valleys.items():
        print(f"{valley.title}, {valley.steps} steps\n{'rate':>27}{'height':>9}   1/1000 at step")
        paths, metrics[key] = walks(valley), {}
        for (name, path), lr in zip(paths.items(), valley.rates.values()):
            heights = valley.function(*path.T)
            first = next(iter(np.flatnonzero(heights < heights[0] / 1000).tolist()), None)
            print(f"  {name:14}{lr:11g}{heights[-1]:9.1e}{first or 'none':>17}")
            metrics[key][name] = {"lr": lr, "height": heights[-1], "step_of_a_thousandth": first}
        field.figures[key] = partial(figures.plot_paths_on_ravine, valley, paths)
    return metrics


def paths_of_a_network(field: Field) -> dict:
    """Optimisers of one network, from one start, in the plane nearest to all their paths."""
    paths, metrics = {}, {}
    for name, lr in RATES.items():
        net, _, paths[name] = field.train(CONTESTANTS[name].make, lr)
        metrics[name] = {"lr": lr, **field.judged(net)}
    start, points = paths["Adam"][0], [point for path in paths.values() for point in path]
    plane = landscape.principal_plane(points, start)
    seen = {name: plane.coordinates(path) for name, path in paths.items()}
    places = np.concatenate(list(seen.values()))
    far = [float(np.linalg.norm(point - start)) for point in points]
    held = float(np.sum(places**2) / np.sum(np.square(far)))
    print(f"\nA network, {field.steps} steps of {field.batch}\n{HEADING}  distance  in the plane")
    for name, r in metrics.items():
        r["distance"] = float(np.linalg.norm(paths[name][-1] - start))
        a, b = seen[name][-1:].T
        r["loss_in_the_plane"] = float(landscape.loss_surface(net, field.loss, plane, a, b)[0, 0])
        print(f"{ROW.format(name, **r)}{r['distance']:10.1f}{r['loss_in_the_plane']:14.4f}")
    print(f"  The plane holds {held:.1%} of the squared distances from the start.")
    low, margin = places.min(axis=0), 0.15 * np.ptp(places, axis=0)
    a, b = np.linspace(low - margin, places.max(axis=0) + margin, field.points).T
    surface = landscape.loss_surface(net, field.loss, plane, a, b)
    title = f"The plane nearest to the paths: {held:.1%} of the squared distances"
    field.figures["paths"] = partial(figures.plot_surface_with_paths, a, b, surface, seen, title)
    return {"paths": metrics, "held_by_the_plane": held}


def minima(field: Field) -> dict:
    """What small batches, large ones and SAM find."""
    large, ticks = min(SHOWN, len(field.learnt.images)), np.linspace(-1, 1, field.points)
    metrics, surfaces = {}, {}
    runs = {
        f"batch of {field.batch}": (momentum, field.batch),
        f"batch of {large}": (momentum, large),
        "SAM": (lambda net, lr: SAM(momentum(net, lr)), field.batch),
    }
    print(f"\nMinima, and the rise at {DISTANCE:g} of the filters' lengths\n{HEADING}     rise")
    for name, (make, batch) in runs.items():
        net, _, _ = field.train(make, RATES["momentum"], batch)
        rng = np.random.default_rng(field.seed)
        rise = landscape.sharpness(net, field.loss, DISTANCE, DIRECTIONS, rng)
        metrics[name] = r = {**field.judged(net), "rise": rise}
        print(f"{ROW.format(name, **r)}{r['rise']:9.3f}")
        if name != "SAM":
            plane = landscape.random_plane(net, np.random.default_rng(field.seed))
            surfaces[name] = landscape.loss_surface(net, field.loss, plane, ticks, ticks)
    field.figures["minima"] = partial(figures.plot_two_minima, ticks, surfaces)
    return {"minima": metrics, "distance_of_the_rise": DISTANCE}


def lines(field: Field) -> dict:
    """From one minimum to another, and from where a path ends to its average."""
    rate, seeds = RATES["momentum"], (field.seed, field.seed + 1)
    (net, _, path), (_, _, other) = (field.train(momentum, rate, seed=seed) for seed in seeds)
    ends = path[-1], other[-1], [f"seed {seed}" for seed in seeds]
    values = field.draw_line("between_seeds", net, *ends, "Between two minima")
    barrier = float(values.max() - max(values[0], values[-1]))
    print(f"\nBetween the minima of two seeds the loss rises by {barrier:.4f}.")
    wrapped = lambda net, _: SWA(EMA(momentum(net, rate / 2), 0.98), field.steps // 2)
    net, average, path = field.train(wrapped, rate)
    metrics = {"last": field.judged(net)}
    for name, optimizer in {"EMA": average.optimizers[0], "SWA": average}.items():
        with optimizer.averaged():
            metrics[name], mean = field.judged(net), landscape.weights_of(net)
    rows = (ROW.format(name, **r) for name, r in metrics.items())
    print("\nThe end of a path at a level rate, and its averages", HEADING, *rows, sep="\n")
    field.draw_line(
        "average", net, path[-1], mean, ["last", "average"], "To a path's average (SWA)"
    )
    return {"barrier": barrier, "averages": metrics}


@script
def main(argv=None) -> None:
    args = arguments(argv)
    field, metrics = Field(args), {"steps": args.steps}
    with blas_threads(1):  # products so small are slower where threads wait for each other
        for part in (in_valleys, paths_of_a_network, minima, lines):
            metrics.update(part(field))
    for name, make in field.figures.items():
        save_figure(make(), args.out / f"{name}.png")
    write_metrics(args.out, metrics)
    print(f"\nThe paths, the minima and the lines are drawn in {args.out}/")


if __name__ == "__main__":
    main()
