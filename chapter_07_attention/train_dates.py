"""Translate dates with the transformer of 2017, and see which characters it looked at.

python chapter_07_attention/train_dates.py
"""

from __future__ import annotations

import numpy as np

from chapter_03_neural_nets import Batches, count_parameters, plot_history, rise_and_fall, train
from chapter_05_gradient_mastery import AdamW, cross_entropy
from chapter_07_attention import (
    Transformer,
    as_examples,
    attention_maps,
    date_tokenizer,
    plot_attention,
    random_dates,
)
from chapter_07_attention.dates import BEGIN, END, PADDING
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.plotting import save_figure

LONGEST = 14  # characters written


def arguments(argv):
    flags = parser("train_dates", "Dates in many written forms to ISO 8601.")
    flags.add_argument("--examples", type=whole_number(10), default=20_000, help="to learn from")
    flags.add_argument("--steps", type=whole_number(1), default=1200, help="training steps")
    flags.add_argument("--batch", type=whole_number(1), default=64, help="dates a step")
    flags.add_argument("--width", type=whole_number(1), default=64, help="numbers a character")
    flags.add_argument("--heads", type=whole_number(1), default=4, help="heads a layer")
    flags.add_argument(
        "--layers", type=whole_number(1), default=2, help="layers that read, and write"
    )
    flags.add_argument(
        "--dropout", type=number(least=0, most=0.9), default=0.0, help="share dropped"
    )
    flags.add_argument("--lr", type=number(above=0), default=2e-3, help="the highest learning rate")
    return parse(flags, argv)


def loss(model, sources, targets):
    return cross_entropy(model(sources, targets[:, :-1]), targets[:, 1:])


def translated(model, sources: np.ndarray, tokens) -> list[str]:
    """What the model makes of dates."""
    (begin,), (end,) = tokens.encode(BEGIN), tokens.encode(END)
    return [tokens.decode(ids) for ids in model.write(sources, begin, end, LONGEST)]


def draw_attention(model, example, tokens, out) -> None:
    """Where the last layer looked for each character it wrote, the mean of its heads."""
    source, target = (part[:1] for part in example)
    maps = attention_maps(model, source, target[:, :-1])
    shares = [share for name, share in maps.items() if "multihead_attn" in name][-1]
    length = int((source[0] != model.padding).sum())
    read = [tokens.decode([i]) for i in source[0, :length]]
    wrote = [tokens.decode([i]) for i in target[0, 1:-1]]
    mean = shares[0, :, : len(wrote), :length].mean(axis=0, keepdims=True)
    save_figure(plot_attention(mean, wrote, read, "Written (rows), read (columns)"), out)


@script
def main(argv=None) -> None:
    args = arguments(argv)
    count, steps = args.examples, args.steps
    if args.quick:
        count, steps = min(count, 200), min(steps, 4)
    tokens = date_tokenizer()
    # The parts differ in their dates or in how they are written, by far most in both.
    data = as_examples(*random_dates(count, np.random.default_rng(args.seed)), tokens)
    texts, dates = random_dates(count // 10, np.random.default_rng(args.seed + 1))
    held = as_examples(texts, dates, tokens)
    (padding,) = tokens.encode(PADDING)
    sizes = (tokens.vocab_size, args.width, args.heads, args.layers)
    model = Transformer(*sizes, dropout=args.dropout, padding=padding)
    print(f"{count} dates to learn from, {len(texts)} to be judged on; {count_parameters(model):,} "
          f"parameters, {steps} steps of {args.batch}\n")  # fmt: skip

    def judge(model) -> dict[str, float]:
        sample = slice(200)
        right = np.mean([a == b for a, b in zip(translated(model, held[0][sample], tokens), dates)])
        return {"wrong": 1 - float(right)}

    history = train(
        model,
        AdamW(model.parameters(), rise_and_fall(args.lr, steps), betas=(0.9, 0.98)),
        Batches(*data, batch_size=min(args.batch, count)),
        steps,
        loss=loss,
        evaluate=judge,
        evaluate_every=max(steps // 10, 1),
        description="dates",
    )
    written = translated(model, held[0], tokens)
    accuracy = float(np.mean([a == b for a, b in zip(written, dates)]))
    pairs = list(zip(texts, dates, written))
    wrong = [pair for pair in pairs if pair[1] != pair[2]]
    print(f"  {'read':32} wrote")
    for text, _, own in pairs[:6]:
        print(f"  {text:32} {own}")
    print(f"\n  {accuracy:.2%} of {len(texts)} right, character for character; {len(wrong)} wrong")
    for text, date, own in wrong[:3]:
        print(f"  {text:32} {own:12} should be {date}")
    write_metrics(args.out, {"accuracy": accuracy, "wrong": len(wrong), "steps": steps,
                             "parameters": count_parameters(model)})  # fmt: skip
    longest = int(np.argmax([len(text) for text in texts]))
    draw_attention(model, [part[longest:] for part in held], tokens, args.out / "attention.png")
    save_figure(plot_history(history, "wrong", "Dates"), args.out / "wrong.png")
    print(f"\nWhere it looked, and the share of wrong dates, are drawn in {args.out}/")


if __name__ == "__main__":
    main()
