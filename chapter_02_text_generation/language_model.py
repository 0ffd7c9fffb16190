"""Counts against a network: learn from a list of names, measure, and invent new ones.

python chapter_02_text_generation/language_model.py
python chapter_02_text_generation/language_model.py --data names.txt --temperature 0.8
"""

from __future__ import annotations

import numpy as np

from chapter_02_text_generation import (
    AddK,
    BigramNetwork,
    CharacterTokenizer,
    KneserNey,
    NeuralLanguageModel,
    NGram,
    beam_search,
    bigram_counts,
    bits_per_character,
    context_windows,
    next_token,
    perplexity,
    plot_bigrams,
    plot_embedding,
    plot_losses,
    sample,
)
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_names, split_names
from utils.plotting import save_figure

BOUNDARY = "\n"  # ends every name and cannot be part of one
ORDERS = range(2, 7)


def arguments(argv):
    flags = parser("language_model", "Language models of names: n-grams against a network.")
    known = ", ".join(known_names("names"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or a file of one name a line; else colours"
    )
    flags.add_argument("--steps", type=whole_number(1), help="training steps; else by size of data")
    flags.add_argument("--context", type=whole_number(1), default=5, help="characters it sees")
    flags.add_argument("--embedding", type=whole_number(1), default=16, help="numbers a character")
    flags.add_argument("--hidden", type=whole_number(1), default=200, help="hidden units")
    flags.add_argument("--batch", type=whole_number(1), default=128, help="examples a step")
    flags.add_argument("--lr", type=number(above=0), default=0.5, help="learning rate at the start")
    flags.add_argument("--samples", type=whole_number(0), default=12, help="names to invent")
    flags.add_argument("--prefix", default="", help="how invented names begin")
    flags.add_argument("--temperature", type=number(least=0), default=1.0, help="0 is greedy")
    flags.add_argument("--top-k", type=whole_number(1), help="draw from the k likeliest")
    flags.add_argument("--top-p", type=number(above=0, most=1), help="draw from the likeliest p")
    flags.add_argument("--min-p", type=number(least=0, most=1), help="drop the p times less likely")
    return parse(flags, argv)


def training_steps(args, names: int) -> int:
    """A small list is soon learnt by heart: fewer steps for it."""
    steps = args.steps or (2_000 if names < 5_000 else 20_000)
    return min(steps, 300) if args.quick else steps


def invent(model, tokenizer, args) -> list[str]:
    """Draw names from the model, all beginning with the prefix."""
    prefix = tokenizer.encode(args.prefix)
    how = {name: getattr(args, name) for name in ("temperature", "top_k", "top_p", "min_p")}
    drawn = [sample(model.next_logits, prefix, **how) for _ in range(args.samples)]
    return [tokenizer.decode(ids) for ids in drawn]


def check_sampling(tokenizer, args) -> None:
    """Draw once before the training, so that an impossible wish fails at once."""
    if BOUNDARY in args.prefix:
        raise ValueError("--prefix holds a line break, which ends a name")
    tokenizer.encode(args.prefix)
    logits, rng = np.zeros(tokenizer.vocab_size), np.random.default_rng(0)
    next_token(logits, args.temperature, args.top_k, args.top_p, args.min_p, rng)


def print_table(rows: dict[str, float]) -> None:
    print(f"  {'model':34} {'nats':>8} {'bits':>8} {'perplexity':>11}   (per character)")
    for name, nll in rows.items():
        print(f"  {name:34} {nll:8.4f} {bits_per_character(nll):8.4f} {perplexity(nll):11.2f}")


def print_names(invented: list[str], names: list[str], rng) -> None:
    known = set(names)
    real = [names[i] for i in rng.choice(len(names), min(len(invented), len(names)), False)]
    print(f"\n  {'real':28} invented (* stands in the list)")
    for i, name in enumerate(invented):
        print(f"  {real[i] if i < len(real) else '':28} {name}{' *' if name in known else ''}")


@script
def main(argv=None) -> None:
    args = arguments(argv)
    names = load_names(args.data)
    steps = training_steps(args, len(names))
    tokenizer = CharacterTokenizer.train("".join(names), [BOUNDARY])
    check_sampling(tokenizer, args)
    vocab_size = tokenizer.vocab_size
    documents = [tokenizer.encode(name) for name in names]
    parts = [[tokenizer.encode(name) for name in part] for part in split_names(names)]
    print(f"{len(names)} names of {vocab_size - 1} different characters", end=", ")
    print("split " + " / ".join(str(len(part)) for part in parts))

    bigram = NGram(2, vocab_size, AddK(0)).fit(documents)
    bigram_nll = bigram.mean_nll(documents)
    network = BigramNetwork(vocab_size)
    bigram_losses = network.fit(bigram_counts(documents, vocab_size), 200 if args.quick else 1000)
    print("\nOn all names, one character back, counted and learnt:")
    print_table({"bigram counts": bigram_nll, "bigram network": bigram_losses[-1]})

    orders = [order for order in ORDERS if vocab_size**order < 2**63]
    ngrams = [NGram(order, vocab_size, KneserNey()).fit(parts[0]) for order in orders]
    ngram_nll = {f"{ngram.order}-gram": ngram.mean_nll(parts[1]) for ngram in ngrams}
    model = NeuralLanguageModel(vocab_size, args.context, args.embedding, args.hidden)
    windows = [context_windows(part, args.context) for part in parts]
    losses = model.fit(*windows[0], steps=steps, batch=args.batch, lr=args.lr)
    mlp_val_nll, mlp_test_nll = (model.mean_nll(*windows[i]) for i in (1, 2))
    print("\nOn names not learnt from (validation), n-grams with Kneser-Ney smoothing:")
    titles = [f"{name}, {n.size:,} counts" for name, n in zip(ngram_nll, ngrams)]
    title = f"network, {args.context} back, {model.size:,} parameters"
    print_table({**dict(zip(titles, ngram_nll.values())), title: mlp_val_nll})
    print(f"  and on the test names, looked at once: {mlp_test_nll:.4f}")

    invented = invent(model, tokenizer, args)
    print_names(invented, names, np.random.default_rng(args.seed))
    beams = beam_search(model.next_logits, tokenizer.encode(args.prefix), width=5)
    likeliest = [tokenizer.decode(ids) for ids, _ in beams]
    print("\nThe likeliest names, by beam search: " + ", ".join(likeliest))

    characters = [tokenizer.decode([i]) for i in range(vocab_size)]
    symbols = [{BOUNDARY: "·", " ": "␣"}.get(c, c) for c in characters]
    save_figure(plot_bigrams(network.probabilities(), symbols), args.out / "bigrams.png")
    best = min(ngram_nll, key=ngram_nll.get)
    references = {f"{name}, validation": ngram_nll[name] for name in ("2-gram", best)}
    references["network, validation"] = mlp_val_nll
    save_figure(plot_losses(losses, references), args.out / "losses.png")
    save_figure(plot_embedding(model.embedding.data, symbols), args.out / "embedding.png")
    metrics = {
        "bigram_nll": bigram_nll,
        "bigram_network_nll": bigram_losses[-1],
        "ngram_val_nll": ngram_nll,
        "ngram_counts": [ngram.size for ngram in ngrams],
        "mlp_val_nll": mlp_val_nll,
        "mlp_test_nll": mlp_test_nll,
        "mlp_parameters": model.size,
        "steps": steps,
        "invented": invented,
        "likeliest": likeliest,
    }
    write_metrics(args.out, metrics)
    print(f"\nThe loss curve, the bigrams and the learned characters are drawn in {args.out}/")


if __name__ == "__main__":
    main()
