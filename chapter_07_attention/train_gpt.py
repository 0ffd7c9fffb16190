"""A GPT from nothing: it reads a text, guesses the next token, and soon writes.

python chapter_07_attention/train_gpt.py
python chapter_07_attention/train_gpt.py --data tinyshakespeare.txt --steps 2000
python chapter_07_attention/train_gpt.py --data names.txt
"""

from __future__ import annotations

import math

from tqdm import tqdm

from chapter_03_neural_nets import count_parameters, evaluate, plot_history
from chapter_07_attention import (
    GPT,
    Corpus,
    GPTConfig,
    LlamaConfig,
    attention_maps,
    fit,
    names_corpus,
    plot_attention,
    save_pretrained,
    text_corpus,
    written_by,
)
from utils.commandline import (
    add_checkpoint,
    beginning,
    number,
    parse,
    parser,
    script,
    settings_of,
    whole_number,
    write_metrics,
)
from utils.data import kind_of, known_names, load_names, load_text, looks_like_names
from utils.plotting import save_figure

FAMILIES = {"gpt2": GPTConfig, "llama": LlamaConfig}
USUAL = {"family": "gpt2", "batch": 12, "lr": 3e-3, "dropout": 0.0}
PRESETS = {
    "built-in text": {**USUAL, "family": "llama", "steps": 1000},  # under two minutes
    "text": {**USUAL, "steps": 2000},
    "names": {**USUAL, "batch": 64, "lr": 2e-3, "dropout": 0.1, "steps": 8000},
}


def arguments(argv):
    flags = parser("train_gpt", "Train a GPT on a text, or on names.")
    known = ", ".join(known_names("text") + known_names("names"))
    data = f"{known}, or a file of text or of names; else Python's reference"
    flags.add_argument("--data", metavar="NAME|FILE", help=data)
    flags.add_argument(
        "--kind", choices=("text", "names"), help="what the data is; else as it looks"
    )
    flags.add_argument("--family", choices=FAMILIES, help="the model's choices; else by the data")
    flags.add_argument("--layers", type=whole_number(1), default=4, help="how many layers")
    flags.add_argument("--heads", type=whole_number(1), default=4, help="heads a layer")
    flags.add_argument("--width", type=whole_number(1), default=128, help="numbers a token")
    flags.add_argument("--context", type=whole_number(1), default=64, help="tokens seen, of a text")
    flags.add_argument(
        "--positions", help="learned, sinusoidal, rotary, alibi or none; else the family's"
    )
    flags.add_argument("--vocab-size", type=whole_number(257), metavar="N",
                       help="learn so many byte pairs; else tokens are characters")  # fmt: skip
    flags.add_argument("--steps", type=whole_number(1), help="training steps; else by the data")
    flags.add_argument("--batch", type=whole_number(1), help="texts a step; else by the data")
    flags.add_argument(
        "--lr", type=number(above=0), help="the highest learning rate; else by the data"
    )
    flags.add_argument(
        "--dropout", type=number(least=0, most=0.9), help="share dropped; else by the data"
    )
    flags.add_argument("--threads", type=whole_number(1), default=2, help="parts of every batch")
    flags.add_argument("--weight-decay", type=number(least=0), default=0.1, help="of AdamW")
    add_checkpoint(flags)
    return parse(flags, argv)


def load_corpus(args) -> tuple[str, Corpus]:
    """The kind of data that was asked for, and the examples made of it."""
    kind = args.kind or (kind_of(args.data, "text") if args.data else "text")
    if kind == "images":
        raise ValueError(f"{args.data} holds pictures: this script learns from text or names")
    text = None if kind == "names" else load_text(args.data)
    if text is not None and args.data and not args.kind and looks_like_names(text):
        kind = "names"
    if kind == "names":
        return kind, names_corpus(beginning(args, load_names(args.data)))
    return kind, text_corpus(beginning(args, text), args.context, args.vocab_size)


def complete(args, kind: str) -> None:
    """Fill in what was not given, by what there is to learn from."""
    preset = "built-in text" if args.data is None and kind == "text" else kind
    for name, value in PRESETS[preset].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.quick:
        args.steps, args.layers, args.width = min(args.steps, 4), 2, 16


def draw_attention(model: GPT, corpus: Corpus, out) -> None:
    """Where each head of the first and the last layer looks in an example not learnt from."""
    inputs, targets = corpus.validation
    row = int((targets >= 0).sum(axis=1).argmax())
    ids = inputs[row, targets[row] >= 0][:24]
    tokens = [corpus.tokenizer.decode([i]) for i in ids]
    maps = list(attention_maps(model, ids[None]).values())
    for name, shares in (("first", maps[0]), ("last", maps[-1])):
        figure = plot_attention(shares[0], tokens, tokens, f"The {name} layer")
        save_figure(figure, out / f"attention_{name}.png")


@script
def main(argv=None) -> None:
    args = arguments(argv)
    kind, corpus = load_corpus(args)
    complete(args, kind)
    chosen = {} if args.positions is None else {"positions": args.positions}
    sizes = (corpus.tokenizer.vocab_size, corpus.block_size, args.layers, args.heads, args.width)
    model = GPT(FAMILIES[args.family](*sizes, args.dropout, **chosen))
    parameters = count_parameters(model)
    print(f"{len(corpus.train[0]):,} {'names' if kind == 'names' else 'windows'} to learn from, "
          f"{corpus.tokenizer.vocab_size} different tokens;\na model of {parameters:,} parameters, "
          f"{args.steps} steps of {args.batch}")  # fmt: skip
    history = fit(model, corpus, args.steps, args.batch, args.lr, args.weight_decay,
                  threads=args.threads, judged=1 if args.quick else 5, show=tqdm.write,
                  checkpoint=args.checkpoint, settings=settings_of(args))  # fmt: skip
    nll = history.evaluations[-1]["loss"]
    guessed = int((corpus.validation[1] >= 0).sum())
    bits = nll * guessed / corpus.characters / math.log(2)
    metrics = {"val_nll": nll, "val_bits_per_character": bits, "parameters": parameters,
               "steps": args.steps, "vocab_size": corpus.tokenizer.vocab_size}  # fmt: skip
    print(f"  validation: {nll:.4f} nats a token, {bits:.4f} bits a character")
    if corpus.test is not None:
        metrics["test_nll"] = evaluate(model, *corpus.test)["loss"]
        print(f"  test:       {metrics['test_nll']:.4f} nats a token")
    metrics["sample"] = written_by(model, corpus, 50 if args.quick else 500, temperature=0.8)
    # What took long is safe before anything is drawn.
    save_pretrained(model, args.out / "model", corpus.tokenizer)
    write_metrics(args.out, metrics)
    save_figure(plot_history(history, title="GPT"), args.out / "loss.png")
    draw_attention(model, corpus, args.out)
    print(f"\nThe model is in {args.out}/model/, for generate.py; its losses and what it looks at "
          f"are drawn in {args.out}/")  # fmt: skip


if __name__ == "__main__":
    main()
