"""Networks that train well: a multilayer perceptron on pictures, and one on names.

python chapter_03_neural_nets/multilayer_perceptron.py
python chapter_03_neural_nets/multilayer_perceptron.py --data names.txt
python chapter_03_neural_nets/multilayer_perceptron.py --data t10k-images-idx3-ubyte.gz
"""

from __future__ import annotations

import numpy as np

from chapter_02_text_generation import (
    CharacterTokenizer,
    context_windows,
    plot_embedding,
    sample,
)
from chapter_03_neural_nets import (
    MLP,
    SCHEMES,
    AdamW,
    Batches,
    ContextMLP,
    ReLU,
    Tanh,
    confusion_matrix,
    cross_entropy,
    evaluate,
    plot_confusion_matrix,
    plot_history,
    plot_images,
    plot_variances,
    predict,
    rise_and_fall,
    summary,
    train,
    variances_through_depth,
)
from utils.commandline import (
    add_checkpoint,
    number,
    parse,
    parser,
    script,
    settings_of,
    whole_number,
    write_metrics,
)
from utils.data import (
    GLYPHS,
    kind_of,
    known_names,
    load_images,
    load_names,
    split_images,
    split_names,
)
from utils.plotting import save_figure

BOUNDARY = "\n"
# What suits each kind of data, where a flag does not say otherwise.
PRESETS = {
    "images": {"hidden": [512, 256], "dropout": 0.4, "batch": 128, "lr": 3e-3, "smoothing": 0.1},
    "names": {"hidden": [256, 128], "dropout": 0.0, "batch": 256, "lr": 3e-3, "smoothing": 0.0},
}


def arguments(argv):
    flags = parser("multilayer_perceptron", "A multilayer perceptron on pictures and on names.")
    known = ", ".join(known_names("images") + known_names("names"))
    flags.add_argument(
        "--data",
        metavar="NAME|FILE",
        help=f"{known}, IDX or NPZ images, or one name a line; else built-in data of both kinds",
    )
    flags.add_argument("--steps", type=whole_number(1), help="training steps; else by size of data")
    flags.add_argument("--hidden", type=whole_number(1), nargs="+", help="units a hidden layer")
    flags.add_argument("--batch", type=whole_number(1), help="examples a step")
    flags.add_argument("--lr", type=number(above=0), help="the highest learning rate")
    flags.add_argument("--dropout", type=number(least=0, most=1), help="share of units dropped")
    flags.add_argument("--smoothing", type=number(least=0, most=1), help="label smoothing")
    flags.add_argument("--weight-decay", type=number(least=0), default=0.05, help="of AdamW")
    flags.add_argument("--context", type=whole_number(1), default=3, help="characters seen before")
    flags.add_argument("--embedding", type=whole_number(1), default=16, help="numbers a character")
    add_checkpoint(flags)
    return parse(flags, argv)


def setting(args, kind: str, name: str):
    given = getattr(args, name)
    return PRESETS[kind][name] if given is None else given


def fit(model, args, kind: str, data, validation, steps: int):
    """Train with AdamW; the learning rate rises for 100 steps, then falls in a straight line."""
    smoothing, lr = setting(args, kind, "smoothing"), rise_and_fall(
        setting(args, kind, "lr"), steps
    )
    optimizer = AdamW(model.parameters(), lr, weight_decay=args.weight_decay)
    return train(
        model,
        optimizer,
        Batches(*data, batch_size=min(setting(args, kind, "batch"), len(data[0]))),
        steps,
        loss=lambda m, x, y: cross_entropy(m(x), y, label_smoothing=smoothing),
        evaluate=lambda m: evaluate(m, *validation),
        evaluate_every=max(steps // 10, 1),
        checkpoint=args.checkpoint and f"{args.checkpoint}/{kind}",
        settings=settings_of(args),
        description=kind,
    )


def classify_images(args) -> dict:
    """Train on pictures; print, draw and return what came of it."""
    images = load_images(args.data)
    labels = list(GLYPHS) if args.data is None else None
    if args.quick:
        images = type(images)(images.images[:2000], images.labels[:2000])
    data, test = split_images(images)
    classes = int(images.labels.max()) + 1
    labels = labels or [str(i) for i in range(classes)]
    sizes = [images.images[0].size, *setting(args, "images", "hidden"), classes]
    model = MLP(sizes, dropout=setting(args, "images", "dropout"))
    batch = setting(args, "images", "batch")
    epoch = -(-len(data.images) // batch)
    steps = min(args.steps or 20 * epoch, 50 if args.quick else 10**9)
    print(f"Pictures: {len(data.images)} to learn from, {len(test.images)} to be judged on\n")
    print(summary(model), end="\n\n")
    history = fit(model, args, "images", data, test, steps)
    logits = predict(model, test.images)
    guesses = logits.argmax(axis=1)
    result = evaluate(model, *test)
    learnt = evaluate(model, *data)
    print(f"  learnt from: loss {learnt['loss']:.4f}, {learnt['accuracy']:.2%} right")
    print(f"  test:        loss {result['loss']:.4f}, {result['accuracy']:.2%} right")

    save_figure(plot_history(history, title="Pictures"), args.out / "images_loss.png")
    counts = confusion_matrix(guesses, test.labels, classes)
    save_figure(plot_confusion_matrix(counts, labels), args.out / "confusion.png")
    shape = images.images[0].shape
    first = next(p for p in model.parameters()).data[: 8 if args.quick else 32].reshape(-1, *shape)
    save_figure(plot_images(first), args.out / "first_layer.png")
    wrong = np.flatnonzero(guesses != test.labels)[: 8 if args.quick else 16]
    if len(wrong):
        titles = [f"{labels[test.labels[i]]} taken for {labels[guesses[i]]}" for i in wrong]
        save_figure(plot_images(test.images[wrong], titles), args.out / "mistakes.png")
    return {
        "test_accuracy": result["accuracy"],
        "test_loss": result["loss"],
        "train_accuracy": learnt["accuracy"],
        "image_steps": steps,
    }


def model_names(args) -> dict:
    """Train on names; print, draw and return what came of it."""
    names = load_names(args.data)
    tokenizer = CharacterTokenizer.train("".join(names), [BOUNDARY])
    parts = [[tokenizer.encode(name) for name in part] for part in split_names(names)]
    windows = [context_windows(part, args.context) for part in parts]
    model = ContextMLP(
        tokenizer.vocab_size,
        args.context,
        args.embedding,
        setting(args, "names", "hidden"),
        dropout=setting(args, "names", "dropout"),
    )
    steps = args.steps or (1_000 if len(names) < 5_000 else 10_000)
    steps = min(steps, 50 if args.quick else steps)
    print(f"\nNames: {len(names)}, split " + " / ".join(str(len(part)) for part in parts))
    print(f"\n{summary(model)}\n")
    history = fit(model, args, "names", windows[0], windows[1], steps)
    nll = [evaluate(model, *part)["loss"] for part in windows]
    print("  nats per character: learnt from {:.4f}, validation {:.4f}, test {:.4f}".format(*nll))
    invented = [tokenizer.decode(sample(model.next_logits)) for _ in range(10)]
    print("  invented: " + ", ".join(invented))

    save_figure(plot_history(history, title="Names"), args.out / "names_loss.png")
    symbols = [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]
    symbols = [{BOUNDARY: "·", " ": "␣"}.get(c, c) for c in symbols]
    vectors = model.embedding.weight.data
    save_figure(plot_embedding(vectors, symbols), args.out / "embedding.png")
    return {"train_nll": nll[0], "val_nll": nll[1], "test_nll": nll[2], "name_steps": steps,
            "invented": invented}  # fmt: skip


def measure_variances(args) -> dict:
    """The signal's strength through 50 layers, for each way to begin."""
    width = 32 if args.quick else 256
    found: dict = {}
    for title, activation in (("tanh", Tanh), ("relu", ReLU)):
        schemes = {
            name: variances_through_depth(initialize, activation, width=width)
            for name, initialize in SCHEMES.items()
        }
        figure = plot_variances(schemes, f", {title}")
        save_figure(figure, args.out / f"variances_{title}.png")
        found[title] = {name: v.activations[-1] for name, v in schemes.items()}
    print("\nA signal of variance 1 after 50 layers, by initialisation:")
    print(f"  {'':18}" + "".join(f"{title:>10}" for title in found))
    for name in SCHEMES:
        print(f"  {name:18}" + "".join(f"{found[title][name]:10.1e}" for title in found))
    return {"variance_after_50_layers": found}


@script
def main(argv=None) -> None:
    args = arguments(argv)
    kind = None if args.data is None else kind_of(args.data, "names")
    if kind == "text":
        raise ValueError(f"{args.data} is a text: this script learns from pictures or names")
    metrics: dict = {}
    if kind in (None, "images"):
        metrics.update(classify_images(args))
    if kind in (None, "names"):
        metrics.update(model_names(args))
    metrics.update(measure_variances(args))
    write_metrics(args.out, metrics)
    print(f"\nThe loss curves and what was learnt are drawn in {args.out}/")


if __name__ == "__main__":
    main()
