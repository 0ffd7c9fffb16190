"""Chapter 7's GPT again, with the recipe put together part by part, to see what each part buys.

python chapter_08_optimization/train_recipe.py
python chapter_08_optimization/train_recipe.py --data tinyshakespeare.txt
"""

from __future__ import annotations

from typing import NamedTuple

from chapter_03_neural_nets import Optimizer, plot_history
from chapter_05_gradient_mastery import AdamW
from chapter_07_attention import GPT, GPTConfig, fit, save_pretrained, text_corpus, written_by
from chapter_08_optimization import linear, muon_and_adamw, recipe, warm_up
from utils import manual_seed
from utils.commandline import beginning, number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_text
from utils.plotting import save_figure


class Rates(NamedTuple):
    """The highest rates of both optimisers, and for how many steps they rise and fall."""

    adamw: float
    muon: float
    rise: int
    steps: int


def adamw(model: GPT, lr) -> Optimizer:
    return AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.1)


def falling(lr: float, rates: Rates):
    return warm_up(linear(lr, rates.steps), rates.rise)


def with_muon(model: GPT, rates: Rates) -> Optimizer:
    schedules = (falling(lr, rates) for lr in (rates.muon, rates.adamw))
    return muon_and_adamw(model, *schedules, head=model.head, split=False)


# What is added, one after the other, and the optimiser that it makes.
STAGES = {
    "AdamW": lambda model, rates: adamw(model, rates.adamw),
    "rise": lambda model, rates: adamw(model, warm_up(rates.adamw, rates.rise)),
    "fall": lambda model, rates: adamw(model, falling(rates.adamw, rates)),
    "Muon": with_muon,
    "split": lambda model, rates: recipe(
        model, rates.steps, rates.muon, rates.adamw, rise=rates.rise
    ),
}


def arguments(argv):
    flags = parser("train_recipe", "Train chapter 7's GPT with more and more of the recipe.")
    known = ", ".join(known_names("text"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or a text; else Python's reference"
    )
    flags.add_argument("--steps", type=whole_number(2), help="steps a training; else by the data")
    flags.add_argument("--batch", type=whole_number(1), default=12, help="texts a step")
    flags.add_argument("--adamw-lr", type=number(above=0), default=6e-3, help="AdamW's rate")
    flags.add_argument("--muon-lr", type=number(above=0), default=0.03, help="Muon's rate")
    flags.add_argument("--rise", type=whole_number(1), default=50, help="steps up to the rate")
    flags.add_argument("--threads", type=whole_number(1), default=2, help="parts of every batch")
    args = parse(flags, argv)
    args.sizes = (2, 2, 64, 32) if args.data is None else (4, 4, 128, 64)
    args.steps = args.steps or (300 if args.data is None else 500)
    if args.quick:
        args.sizes, args.steps = (1, 2, 16, 16), 3
    return args


@script
def main(argv=None) -> None:
    args = arguments(argv)
    layers, heads, width, context = args.sizes
    corpus = text_corpus(beginning(args, load_text(args.data)), context)
    config = GPTConfig(corpus.tokenizer.vocab_size, context, layers, heads, width)
    rise = max(min(args.rise, args.steps // 10), 1)  # as the recipe has it
    rates = Rates(args.adamw_lr, args.muon_lr, rise, args.steps)
    print(f"A GPT of {layers} layers of {width}, {args.steps} steps of {args.batch}\n")
    print(f"  {'with':9}{'validation':>11}{'bought':>9}")
    metrics, losses = {"steps": args.steps}, []
    for name, make in STAGES.items():
        manual_seed(args.seed)
        model = GPT(config)
        history = fit(model, corpus, args.steps, args.batch, optimizer=make(model, rates),
                      threads=args.threads, judged=1, description=name)  # fmt: skip
        losses.append(history.evaluations[-1]["loss"])
        bought = f"{losses[-2] - losses[-1]:9.4f}" if losses[1:] else ""
        print(f"  {name:9}{losses[-1]:11.4f}{bought}")
        metrics[f"val_nll_{name.lower()}"] = losses[-1]
    metrics["sample"] = written_by(model, corpus, 20 if args.quick else 300, temperature=0.8)
    print("\nThe last one writes:\n\n    " + metrics["sample"].replace("\n", "\n    "))
    save_pretrained(model, args.out / "model", corpus.tokenizer)
    write_metrics(args.out, metrics)
    save_figure(plot_history(history, title="GPT with the recipe"), args.out / "loss.png")
    print(f"\nThe last model is in {args.out}/model/, for chapter 7's generate.py")


if __name__ == "__main__":
    main()
