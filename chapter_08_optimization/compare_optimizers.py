"""A race of optimisers on a GPT and on LeNet-5, each at its own best rate; then the recipe.

python chapter_08_optimization/compare_optimizers.py
python chapter_08_optimization/compare_optimizers.py --data tinyshakespeare.txt
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from chapter_03_neural_nets import Batches, evaluate
from chapter_05_gradient_mastery import cross_entropy, in_threads
from chapter_06_hierarchical import LeNet5
from chapter_07_attention import GPT, Corpus, GPTConfig, fit, text_corpus
from chapter_08_optimization import (
    CONTESTANTS,
    Run,
    Task,
    best_of,
    plot_race,
    plot_race_in_seconds,
    plot_rates,
    recipe,
    run,
    tuned,
)
from utils import manual_seed
from utils.commandline import beginning, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_images, load_text, split_images
from utils.plotting import save_figure

PARTS = ("gpt", "digits", "recipe")
# By whether there is data, for the digits' steps pictures, else a text: of the GPT layers, heads,
# width, context; steps of both races; of the recipe the steps of its trainings, and how many seeds.
REAL = {"gpt": (4, 4, 128, 64), "steps": (200, 125), "recipe": (1000, 500), "seeds": 3}
BUILT_IN = {"gpt": (2, 2, 32, 32), "steps": (60, 30), "recipe": (200, 100), "seeds": 3}
QUICK = {
    "racers": ("AdamW", "Muon", "SAM", "Lookahead"),
    "gpt": (1, 2, 16, 16),
    "steps": (3, 2),
    "recipe": (4, 2),
    "seeds": 2,
}
BATCH = 12
JUDGED = 200  # blocks of the text on which rates are compared


def arguments(argv):
    flags = parser("compare_optimizers", "Race optimisers, each at its own best rate.")
    known = ", ".join(known_names("text"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or a text; else Python's reference, and less"
    )
    known = ", ".join(known_names("images"))
    flags.add_argument("--images", metavar="NAME|FILE",
                       help=f"{known}, or IDX or NPZ images; else drawn glyphs")  # fmt: skip
    flags.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS, help="what is run")
    flags.add_argument("--optimizers", choices=CONTESTANTS, nargs="+", help="who races; else all")
    flags.add_argument("--steps", type=whole_number(2), help="steps of the GPT's race")
    flags.add_argument("--threads", type=whole_number(1), default=2, help="parts of GPT's batches")
    return parse(flags, argv)


def gpt_task(corpus: Corpus, sizes: tuple, steps: int, threads: int) -> Task:
    layers, heads, width, context = sizes
    some = tuple(part[:JUDGED] for part in corpus.validation)
    loss = in_threads(lambda model, ids, targets: cross_entropy(model(ids), targets), threads)
    return Task(
        f"GPT, {layers} layers of {width}, {steps} steps of {BATCH}",
        lambda: GPT(GPTConfig(corpus.tokenizer.vocab_size, context, layers, heads, width)),
        lambda: Batches(*corpus.train, batch_size=BATCH),
        loss,
        lambda model: evaluate(model, *some, batch_size=64),
        steps,
    )


def digits_task(images, steps: int) -> Task:
    data, test = split_images(images)
    return Task(
        f"LeNet-5, {steps} steps of 64",
        lambda: LeNet5(int(images.labels.max()) + 1),
        lambda: Batches(*data, batch_size=min(64, len(data.images))),
        lambda net, pictures, labels: cross_entropy(net(pictures), labels),
        lambda net: evaluate(net, *test),
        steps,
    )


def race(task: Task, names, seed: int) -> dict[str, list[Run]]:
    """All runs of every contestant, the best contestant first."""
    sweeps = {}
    for name in tqdm(names, desc=task.title, disable=None):
        contestant = CONTESTANTS[name]
        sweeps[name] = tuned(
            lambda lr, contestant=contestant: run(task, contestant, lr, seed), contestant.usual
        )
    return dict(sorted(sweeps.items(), key=lambda item: best_of(item[1]).loss))


def report(task: Task, sweeps: dict[str, list[Run]]) -> dict[str, dict]:
    print(f"{task.title}\n  {'':12}{'rate':>9}{'loss':>9}{'right':>8}   rates tried: loss")
    metrics = {}
    for name, runs in sweeps.items():
        best = best_of(runs)
        tried = "  ".join(f"{r.lr:.2g}: {r.loss:.3f}" for r in runs)
        right = best.judged.get("accuracy")  # none where all diverged
        share = f"{'none':>8}" if right is None else f"{right:8.1%}"
        print(f"  {name:12}{best.lr:9.2g}{best.loss:9.4f}{share}   {tried}")
        metrics[name] = {
            "lr": best.lr,
            "loss": best.loss,
            "accuracy": right,
            "tried": {f"{r.lr:.3g}": r.loss for r in runs},
            "seconds_a_step": best.seconds_a_step,
        }
    print()
    return metrics


def draw(task: Task, name: str, sweeps: dict[str, list[Run]], out) -> None:
    best = {contestant: best_of(runs) for contestant, runs in sweeps.items()}
    save_figure(plot_rates(sweeps, task.title), out / f"{name}_rates.png")
    save_figure(plot_race(best, task.title), out / f"{name}_race.png")
    save_figure(plot_race_in_seconds(best, task.title), out / f"{name}_race_in_seconds.png")


def follow_recipe(corpus: Corpus, sizes: tuple, trainings, seeds, threads: int) -> dict:
    """The validation loss after trainings of so many steps, for several seeds."""
    layers, heads, width, context = sizes
    metrics = {}
    print(f"The recipe on a GPT of {layers} layers of {width}, steps of {BATCH}, whole validation")
    for steps in trainings:
        losses = []
        for seed in seeds:
            manual_seed(seed)
            model = GPT(GPTConfig(corpus.tokenizer.vocab_size, context, layers, heads, width))
            optimizer, name = recipe(model, steps), f"recipe, seed {seed}"
            history = fit(model, corpus, steps, BATCH, optimizer=optimizer, threads=threads,
                          judged=1, description=name)  # fmt: skip
            losses.append(history.evaluations[-1]["loss"])
        metrics[f"val_nll_{steps}"] = float(np.mean(losses))
        metrics[f"val_nll_{steps}_by_seed"] = losses
        each = ", ".join(f"{loss:.4f}" for loss in losses)
        print(f"  {steps:5} steps: {np.mean(losses):.4f} nats, the mean of {each}")
    return metrics


@script
def main(argv=None) -> None:
    args = arguments(argv)
    preset, for_digits = (
        QUICK if args.quick else BUILT_IN if source is None else REAL
        for source in (args.data, args.images)
    )
    steps, digits_steps = preset["steps"][0], for_digits["steps"][1]
    steps = min(steps, args.steps or steps) if args.quick else args.steps or steps
    sizes, names = preset["gpt"], args.optimizers or preset.get("racers", list(CONTESTANTS))
    corpus = text_corpus(beginning(args, load_text(args.data)), sizes[-1])
    images = beginning(args, load_images(args.images)) if "digits" in args.parts else None
    tasks = {"gpt": lambda: gpt_task(corpus, sizes, steps, args.threads),
             "digits": lambda: digits_task(images, digits_steps)}  # fmt: skip
    metrics: dict = {}
    for name in tasks:
        if name in args.parts:
            task = tasks[name]()
            sweeps = race(task, names, args.seed)
            metrics[name] = report(task, sweeps)
            write_metrics(args.out, metrics)  # what took long is safe
            draw(task, name, sweeps, args.out)
    if metrics:
        print(f"The races, and the rates that were tried, are drawn in {args.out}/")
    if "recipe" in args.parts:
        print("\n" * bool(metrics), end="")
        seeds = range(args.seed, args.seed + preset["seeds"])
        metrics.update(follow_recipe(corpus, sizes, preset["recipe"], seeds, args.threads))
    write_metrics(args.out, metrics)


if __name__ == "__main__":
    main()
