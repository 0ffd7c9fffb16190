"""Names by networks that look back in different ways: a tree of pairs, dilated layers, chains.

python chapter_06_hierarchical/train_wavenet.py
python chapter_06_hierarchical/train_wavenet.py --data names.txt
"""

from __future__ import annotations

from chapter_02_text_generation import CharacterTokenizer, context_windows, sample
from chapter_03_neural_nets import (
    Batches,
    count_parameters,
    evaluate,
    plot_history,
    rise_and_fall,
    train,
)
from chapter_05_gradient_mastery import AdamW, cross_entropy
from chapter_06_hierarchical import (
    GRU,
    LSTM,
    RNN,
    HierarchicalNet,
    RecurrentModel,
    WaveNet,
    padded_sequences,
    plot_influence,
    plot_receptive_field,
    plot_validation,
    token_influence,
    trimmed,
)
from utils import manual_seed
from utils.commandline import beginning, number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_names, split_names
from utils.plotting import save_figure

BOUNDARY = "\n"
DILATIONS = (1, 2, 4, 8)
CHAINS = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
NETWORKS = ("wavenet", "pairs", *CHAINS)


def arguments(argv):
    flags = parser("train_wavenet", "WaveNet and other networks that read names.")
    known = ", ".join(known_names("names"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or a file of one name a line; else colours"
    )
    flags.add_argument("--net", choices=NETWORKS, nargs="+", default=list(NETWORKS),
                       help="which networks")  # fmt: skip
    flags.add_argument("--steps", type=whole_number(1), help="training steps; else by size of data")
    flags.add_argument("--channels", type=whole_number(1), default=64, help="of WaveNet")
    flags.add_argument("--hidden", type=whole_number(1), default=128, help="of the other networks")
    flags.add_argument("--dropout", type=number(least=0, most=1), default=0.2, help="in training")
    flags.add_argument("--batch", type=whole_number(2), default=128, help="names a step")
    flags.add_argument("--lr", type=number(above=0), default=4e-3, help="the highest learning rate")
    flags.add_argument("--weight-decay", type=number(least=0), default=0.1, help="of AdamW")
    return parse(flags, argv)


def made(name: str, vocab_size: int, args):
    """The network of that name."""
    if name == "wavenet":
        return WaveNet(vocab_size, args.channels, DILATIONS, args.dropout)
    if name == "pairs":
        return HierarchicalNet(vocab_size, context=8, hidden=args.hidden)
    return RecurrentModel(vocab_size, args.hidden, dropout=args.dropout, network=CHAINS[name])


def fit(model, args, data, validation, steps: int, name: str):
    """Train with AdamW; a step is as many names, or as many windows of eight letters."""
    windows = isinstance(model, HierarchicalNet)

    def loss(model, inputs, targets):
        if not windows:
            inputs, targets = trimmed(inputs, targets)
        return cross_entropy(model(inputs), targets)

    batch = min(args.batch * (4 if windows else 1), len(data[0]))
    return train(
        model,
        AdamW(model.parameters(), rise_and_fall(args.lr, steps), weight_decay=args.weight_decay),
        Batches(*data, batch_size=batch, drop_last=True),
        steps,
        loss=loss,
        evaluate=lambda model: evaluate(model, *validation),
        evaluate_every=max(steps // 10, 1),
        description=name,
    )


@script
def main(argv=None) -> None:
    args = arguments(argv)
    names = beginning(args, load_names(args.data))
    steps = args.steps or (400 if len(names) < 5_000 else 6_000)
    steps = min(steps, 4 if args.quick else steps)
    tokenizer = CharacterTokenizer.train("".join(names), [BOUNDARY])
    parts = [[tokenizer.encode(name) for name in part] for part in split_names(names)]
    sequences = [padded_sequences(part) for part in parts]
    windows = [context_windows(part, 8) for part in parts]
    print(f"{len(names)} names, split " + " / ".join(str(len(part)) for part in parts)
          + f", {steps} steps\n")  # fmt: skip
    print(f"  {'nats a character':16}{'parameters':>12}{'learnt from':>13}{'validation':>12}"
          f"{'test':>9}")  # fmt: skip
    metrics, histories, models = {"steps": steps}, {}, {}
    for name in args.net:
        manual_seed(args.seed)
        model = models[name] = made(name, tokenizer.vocab_size, args)
        data = windows if name == "pairs" else sequences
        histories[name] = fit(model, args, data[0], data[1], steps, name)
        nll = [evaluate(model, *part)["loss"] for part in data]
        print(f"  {name:16}{count_parameters(model):12,}{nll[0]:13.4f}{nll[1]:12.4f}{nll[2]:9.4f}")
        suffix = "" if name == "wavenet" else f"_{name}"
        kinds = ("train", "val", "test")
        metrics.update({f"{kind}_nll{suffix}": value for kind, value in zip(kinds, nll)})
        metrics[f"parameters_{name}"] = count_parameters(model)
    inventor = args.net[0]
    model = models[inventor]
    metrics["invented"] = [tokenizer.decode(sample(model.next_logits)) for _ in range(10)]
    print(f"\nInvented by {inventor}: " + ", ".join(metrics["invented"]))

    save_figure(plot_validation(histories, "Names"), args.out / "validation.png")
    if "wavenet" in models:
        save_figure(plot_receptive_field(DILATIONS), args.out / "receptive_field.png")
        save_figure(plot_history(histories["wavenet"], title="WaveNet"), args.out / "loss.png")
        words = [[0, *part, 0] for part in sorted(parts[1], key=len)[-3:]]
        shown = [["·" if i == 0 else tokenizer.decode([i]) for i in word] for word in words]
        influences = [token_influence(models["wavenet"], word) for word in words]
        save_figure(plot_influence(shown, influences), args.out / "influence.png")
    write_metrics(args.out, metrics)
    seen = ", and what WaveNet sees and looks at," if "wavenet" in models else ""
    print(f"\nThe losses{seen} are drawn in {args.out}/")


if __name__ == "__main__":
    main()
