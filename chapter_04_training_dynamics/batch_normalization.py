"""A deep network on names that trains with batch normalisation, and hardly without it.

python chapter_04_training_dynamics/batch_normalization.py
python chapter_04_training_dynamics/batch_normalization.py --data names.txt
"""

from __future__ import annotations

from chapter_02_text_generation import AddK, CharacterTokenizer, NGram, context_windows, sample
from chapter_03_neural_nets import (
    AdamW,
    Batches,
    ContextMLP,
    count_parameters,
    evaluate,
    plot_history,
    rise_and_fall,
    train,
)
from chapter_04_training_dynamics import (
    BatchNorm1d,
    Recorder,
    UpdateRatios,
    plot_activations,
    plot_layers,
    plot_over_time,
    plot_training,
    plot_update_ratios,
)
from utils import manual_seed
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_names, split_names
from utils.plotting import save_figure

BOUNDARY = "\n"
NETWORKS = {"with batch norm": BatchNorm1d, "without": None}
RECORDED = 200  # passes of a training run


def arguments(argv):
    flags = parser("batch_normalization", "A deep network on names, with and without batch norm.")
    known = ", ".join(known_names("names"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or a file of one name a line; else colours"
    )
    flags.add_argument("--steps", type=whole_number(1), help="training steps; else by size of data")
    flags.add_argument("--layers", type=whole_number(1), default=12, help="hidden layers")
    flags.add_argument("--hidden", type=whole_number(1), default=128, help="units a layer")
    flags.add_argument("--context", type=whole_number(1), default=8, help="characters seen before")
    flags.add_argument("--embedding", type=whole_number(1), default=16, help="numbers a character")
    flags.add_argument("--batch", type=whole_number(2), default=256, help="examples a step")
    flags.add_argument("--lr", type=number(above=0), default=1e-3, help="the highest learning rate")
    flags.add_argument("--weight-decay", type=number(least=0), default=0.05, help="of AdamW")
    return parse(flags, argv)


class Run:
    """One network from its first weights to its last, and what was seen on the way."""

    def __init__(self, name: str, args, vocab_size: int, windows, steps: int) -> None:
        manual_seed(args.seed)  # the same first weights and the same batches for both
        self.model = ContextMLP(
            vocab_size,
            args.context,
            args.embedding,
            [args.hidden] * args.layers,
            normalization=NETWORKS[name],
        )
        every = max(steps // RECORDED, 1)
        self.recorder, self.ratios = Recorder(self.model, every=every), UpdateRatios(every)
        lr = rise_and_fall(args.lr, steps)
        with self.recorder:
            self.history = train(
                self.model,
                AdamW(self.model.parameters(), lr, weight_decay=args.weight_decay),
                # A last batch of one name would have no variance.
                Batches(*windows[0], batch_size=args.batch, drop_last=True),
                steps,
                evaluate=lambda model: evaluate(model, *windows[1]),
                evaluate_every=max(steps // 10, 1),
                before_step=[self.ratios],
                description=name,
            )
        self.ratios(self.model)
        self.nll = [evaluate(self.model, *part)["loss"] for part in windows]

    def signals(self, index: int) -> dict[str, list[float]]:
        """The strength of activations and gradients, layer by layer, in one recorded pass."""
        kinds = {"activations": "signal", "gradients": "gradient", "saturated": "saturated"}
        return {name: self.recorder[kind][:, index].tolist() for name, kind in kinds.items()}


def report(runs: dict[str, Run], blind: list[float]) -> None:
    print(f"  {'nats per character':18} {'learnt from':>12} {'validation':>11} {'test':>8}")
    rows = {**{name: run.nll for name, run in runs.items()}, "seeing no context": blind}
    for name, (train_nll, val_nll, test_nll) in rows.items():
        print(f"  {name:18} {train_nll:12.4f} {val_nll:11.4f} {test_nll:8.4f}")
    print(f"\n  {'first step':18} {'activations, layer':>26} {'gradients, layer':>28}")
    print(f"  {'':18} {'first':>15} {'last':>10} {'first':>17} {'last':>10}")
    for name, run in runs.items():
        y, g = run.signals(0)["activations"], run.signals(0)["gradients"]
        print(f"  {name:18} {y[0]:15.1e} {y[-1]:10.1e} {g[0]:17.1e} {g[-1]:10.1e}")


def verdict(runs: dict[str, Run], blind: float) -> str:
    """What the numbers say about this run; other seeds, depths or data may say another thing."""
    normal, plain = (run.nll[1] for run in runs.values())
    if normal > plain - 0.01:
        return f"No gain from batch norm here: {normal:.4f} with it, {plain:.4f} without"
    if plain > blind - 0.05:
        return "Without batch norm, the network has not learnt to look at what came before"
    return f"Without batch norm, the network learns, but is {plain - normal:.3f} nats behind"


def draw(args, runs: dict[str, Run]) -> None:
    recorders = {name: run.recorder for name, run in runs.items()}
    normal = runs["with batch norm"]
    figures = {
        "training": plot_training({name: run.history.losses for name, run in runs.items()}),
        "validation": plot_history(normal.history, title="With batch norm"),
        "layers": plot_layers(recorders),
        "activations": plot_over_time(recorders, "signal"),
        "gradients": plot_over_time(recorders, "gradient"),
        "histogram": plot_activations(recorders),
        "updates": plot_update_ratios(normal.ratios, "Updates beside weights, with batch norm"),
    }
    for name, figure in figures.items():
        save_figure(figure, args.out / f"{name}.png")


@script
def main(argv=None) -> None:
    args = arguments(argv)
    names = load_names(args.data)
    steps = args.steps or (600 if len(names) < 5_000 else 4_000)
    steps = min(steps, 30 if args.quick else steps)
    tokenizer = CharacterTokenizer.train("".join(names), [BOUNDARY])
    parts = [[tokenizer.encode(name) for name in part] for part in split_names(names)]
    windows = [context_windows(part, args.context) for part in parts]
    args.batch = min(args.batch, len(windows[0][0]))
    runs = {}
    print(f"{len(names)} names, split " + " / ".join(str(len(part)) for part in parts))
    print(
        f"{args.layers} layers of {args.hidden} tanh units, first weights as PyTorch's, {steps} "
        f"steps of AdamW\n"
    )
    for name in NETWORKS:
        runs[name] = Run(name, args, tokenizer.vocab_size, windows, steps)
    unigram = NGram(1, tokenizer.vocab_size, AddK(1)).fit(parts[0])
    blind = [unigram.mean_nll(part) for part in parts]
    report(runs, blind)
    print(f"\n{verdict(runs, blind[1])}, after {steps} steps.")
    model = runs["with batch norm"].model
    invented = [tokenizer.decode(sample(model.next_logits)) for _ in range(10)]
    print("Invented: " + ", ".join(invented))

    draw(args, runs)
    normal, plain = runs.values()
    metrics = {
        "val_nll_batchnorm": normal.nll[1],
        "val_nll_plain": plain.nll[1],
        "test_nll_batchnorm": normal.nll[2],
        "test_nll_plain": plain.nll[2],
        "train_nll_batchnorm": normal.nll[0],
        "train_nll_plain": plain.nll[0],
        "val_nll_no_context": blind[1],
        "steps": steps,
        "parameters_batchnorm": count_parameters(normal.model),
        "parameters_plain": count_parameters(plain.model),
        "first_step": {name: run.signals(0) for name, run in runs.items()},
        "last_step": {name: run.signals(-1) for name, run in runs.items()},
        "invented": invented,
    }
    write_metrics(args.out, metrics)
    print(f"\nSignals, gradients and updates, layer by layer, are drawn in {args.out}/")


if __name__ == "__main__":
    main()
