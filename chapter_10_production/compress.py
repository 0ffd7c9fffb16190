"""A trained GPT made smaller: fewer bits, fewer weights, fewer parts; and what each costs.

python chapter_10_production/compress.py
python chapter_10_production/compress.py runs/train_gpt/model --data tinyshakespeare.txt
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import numpy as np
from tqdm import tqdm

from chapter_03_neural_nets import Batches, Module, evaluate
from chapter_05_gradient_mastery import AdamW
from chapter_07_attention import (
    GPT,
    Corpus,
    GPTConfig,
    fit,
    from_pretrained,
    needed_tokenizer,
    text_corpus,
)
from chapter_07_attention.language_training import JUDGED_AT_ONCE
from chapter_08_optimization import linear
from chapter_10_production.compression_figures import plot_rounding, plot_sizes
from chapter_10_production.decoder import Decoder
from chapter_10_production.engine import Engine
from chapter_10_production.pruning import Masked, prune_, without_zeros
from chapter_10_production.quantization import quantized
from chapter_10_production.quantized_files import load_decoder, save_decoder
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.structured_pruning import importance, most_important, shrunk
from utils import Tensor
from utils.commandline import (
    beginning,
    number,
    parse,
    parser,
    script,
    whole_number,
    write_metrics,
)
from utils.data import known_names, load_text
from utils.memory import keep_memory
from utils.plotting import save_figure
from utils.weights import save_weights

FLOAT, PRUNED = "float32", "pruned"
STREAMS = 8  # texts at once, as a server writes them
ROUNDS = 25  # of writing with each; the fastest counts, as nothing makes a step too fast


class Measured(NamedTuple):
    """Bytes in memory and on disk, and nats a token of text that was held out."""

    memory: int
    disk: int
    loss: float


class Reader(Module):
    """A decoder as what chapter 3 evaluates."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids: Any) -> Tensor:
        return Tensor(self.decoder.logits(ids))


def arguments(argv):
    flags = parser("compress", "Make a trained GPT smaller, in several ways.")
    flags.add_argument("folder", nargs="?", type=Path, metavar="FOLDER",
                       help="a saved model; without it, one is trained first")  # fmt: skip
    flags.add_argument("--data", metavar="NAME|FILE",
                       help=f"text to judge by, and to learn from: {', '.join(known_names('text'))}"
                       ", or a file; else Python's reference")  # fmt: skip
    flags.add_argument("--steps", type=whole_number(1), default=500, help="of training, if any")
    flags.add_argument("--share", type=number(least=0, most=0.99), default=0.5,
                       help="of the weights that pruning takes")  # fmt: skip
    flags.add_argument("--keep", type=number(above=0, most=1), default=0.75,
                       help="share of heads and hidden units that structured pruning "
                       "leaves")  # fmt: skip
    flags.add_argument("--retrain", type=whole_number(1), default=200, help="steps after pruning")
    flags.add_argument("--lr", type=number(above=0), default=1e-3, help="the rate of retraining")
    flags.add_argument("--tokens", type=whole_number(1), default=48, help="written to take times")
    flags.add_argument("--threads", type=whole_number(1), default=2, help="parts of every batch")
    args = parse(flags, argv)
    args.sizes = (64, 2, 4, 128)  # context, layers, heads, width
    if args.quick:
        args.sizes, args.tokens = (16, 2, 2, 32), min(args.tokens, 8)
        args.steps, args.retrain = min(args.steps, 4), min(args.retrain, 2)
    return args


def trained_model(args) -> tuple[GPT, Corpus]:
    """A model, and text in its tokens."""
    text = beginning(args, load_text(args.data))
    if args.folder is None:
        corpus = text_corpus(text, args.sizes[0])
        model = GPT(GPTConfig(corpus.tokenizer.vocab_size, *args.sizes))
        fit(model, corpus, args.steps, threads=args.threads, judged=1)
        return model.eval(), corpus
    if args.out.resolve() in args.folder.resolve().parents:
        raise ValueError(f"{args.folder} could be written over: give another --out")
    return opened(args.folder, text)


def opened(folder: Path, text: str) -> tuple[GPT, Corpus]:
    """A saved model, and text in its tokens."""
    model = from_pretrained(folder)
    tokenizer = needed_tokenizer(folder, model.config.vocab_size)
    return model, text_corpus(text, model.config.block_size, tokenizer=tokenizer)


def copy_of(model: GPT) -> GPT:
    copied = GPT(model.config)
    copied.load_state_dict(model.state_dict())
    return copied


def retrain(model: GPT, corpus: Corpus, args, name: str, masks=None) -> GPT:
    """Let a model get over what was taken from it."""
    optimizer = AdamW(model.parameters(), linear(args.lr, args.retrain), betas=(0.9, 0.99))
    if masks is not None:
        optimizer = Masked(optimizer, model, masks)
    fit(model, corpus, args.retrain, optimizer=optimizer, threads=args.threads, judged=1,
        description=name)  # fmt: skip
    return model.eval()


def pruned(model: GPT, corpus: Corpus, args) -> GPT:
    copied = copy_of(model)
    return retrain(copied, corpus, args, PRUNED, prune_(copied, args.share))


def cut(model: GPT, corpus: Corpus, args) -> GPT:
    """The model with its most important heads and units alone."""
    some = Batches(*corpus.train, batch_size=min(4, len(corpus.train[0])))
    scores = importance(model, (next(some) for _ in range(2 if args.quick else 32)))
    heads, units = (max(round(args.keep * len(layers[0])), 1) for layers in scores)
    return retrain(shrunk(model, most_important(scores, heads, units)), corpus, args, "cut")


def forms(model: GPT, corpus: Corpus, args) -> dict[str, Decoder]:
    """The model in all its forms, by the names that metrics give them."""
    whole = Decoder.from_model(model)
    smaller = Decoder.from_model(cut(model, corpus, args))
    return {
        FLOAT: whole,
        "int8": quantized(whole, 8),
        "int4": quantized(whole, 4),
        "int4_tables8": quantized(whole, 4, exceptions=tables_of(whole, 8)),
        PRUNED: Decoder.from_model(pruned(model, corpus, args)),
        "cut": smaller,
        "cut_int4": quantized(smaller, 4),
    }


def tables_of(decoder: Decoder, bits: int) -> dict[str, int]:
    """These bits for what is looked up by token and by place."""
    names = ("embedding", "positions", "head")
    return {n: bits for n in names if any(n in weight for weight in decoder.weights)}


def measure(name: str, decoder: Decoder, corpus: Corpus, folder: Path) -> Measured:
    """Save a form, load it again, and judge what was loaded."""
    if name == PRUNED:
        path = folder / f"{name}.safetensors"
        arrays = {n: w.dense() if hasattr(w, "dense") else w for n, w in decoder.weights.items()}
        save_weights(path, without_zeros({n: a for n, a in arrays.items() if n != "head.weight"}))
    else:
        path = save_decoder(decoder, folder / name, corpus.tokenizer) / "model.safetensors"
        decoder = load_decoder(path.parent)
    result = evaluate(Reader(decoder), *corpus.validation, batch_size=JUDGED_AT_ONCE)
    return Measured(decoder.nbytes, path.stat().st_size, result["loss"])


def seconds_a_step(
    decoders: Mapping[str, Decoder], prompts: np.ndarray, tokens: int, rounds: int = ROUNDS
) -> dict[str, float]:
    """How long a step takes that writes to each prompt: all in turn, the fastest of rounds."""
    options = {"most_running": len(prompts), "share_prefixes": False}
    engines = {name: Engine(decoder, **options) for name, decoder in decoders.items()}
    fastest = dict.fromkeys(engines, np.inf)
    for _ in tqdm(range(rounds), desc="writing", disable=None):
        for name, engine in engines.items():
            for prompt in prompts.tolist():
                engine.add(prompt, SamplingParameters(tokens, 0.0))
            engine.step()  # reads the prompts
            start, steps = time.thread_time(), 0
            while engine.busy:
                engine.step()
                steps += 1
            if steps:
                fastest[name] = min(fastest[name], (time.thread_time() - start) / steps)
    return fastest


def report(
    found: Mapping[str, Measured], alone: Mapping[str, float], together: Mapping[str, float]
) -> dict[str, Any]:
    """Print a line for each form; the same as metrics."""
    first, metrics = found[FLOAT], {}
    print(f"  {'':12}   memory     disk                              one text      {STREAMS} texts")
    print("                   (kB)     (kB)  smaller    loss    rise  tok/s speed   tok/s speed")
    for name, m in found.items():
        figures = {
            "bytes": m.memory,
            "disk_bytes": m.disk,
            "times_smaller": first.memory / m.memory,
            "disk_times_smaller": first.disk / m.disk,
            "loss": m.loss,
            "loss_rise_percent": 100 * (m.loss / first.loss - 1),
            "tokens_per_second_alone": 1 / alone[name],
            "speedup_alone": alone[FLOAT] / alone[name],
            "tokens_per_second": STREAMS / together[name],
            "speedup": together[FLOAT] / together[name],
        }
        memory, disk, smaller, _, loss, rise, *speeds = figures.values()
        sizes = f"{memory / 1000:9,.1f}{disk / 1000:9,.1f}{smaller:9.2f}"
        print(f"  {name:12}{sizes}{loss:8.4f}{rise:+7.2f}%"
              "{:7,.0f}{:6.2f}{:8,.0f}{:6.2f}".format(*speeds))  # fmt: skip
        metrics.update({f"{name}_{key}": value for key, value in figures.items()})
    return metrics


@script
def main(argv=None) -> None:
    args = arguments(argv)
    keep_memory()
    model, corpus = trained_model(args)
    decoders = forms(model, corpus, args)
    found = {
        name: measure(name, decoder, corpus, args.out)
        for name, decoder in tqdm(decoders.items(), desc="judging", disable=None)
    }
    length = max(model.config.block_size // 8, 1)
    prompts = np.resize(corpus.validation[0].ravel(), (STREAMS, length))
    tokens = min(args.tokens, model.config.block_size - length)
    rounds = 2 if args.quick else ROUNDS
    alone, together = (seconds_a_step(decoders, p, tokens, rounds) for p in (prompts[:1], prompts))
    config = model.config
    print(f"A GPT of {config.n_layer} layers of {config.n_embd}. Pruned: {args.share:.0%} of the "
          f"weights are zero. Cut: {args.keep:.0%}\nof heads and hidden units are left. Both were "
          f"trained for {args.retrain} steps after it.\n")  # fmt: skip
    metrics = report(found, alone, together)
    write_metrics(args.out, metrics)
    sizes = {name: m.memory / 1000 for name, m in found.items()}
    save_figure(plot_sizes(sizes, {n: m.loss for n, m in found.items()}), args.out / "sizes.png")
    name = "layers.0.linear1.weight"
    save_figure(plot_rounding(decoders[FLOAT].weights[name].dense(), name),
                args.out / "rounding.png")  # fmt: skip
    print(f"\nZeros take room in memory, and none in the pruned model's file. Each form is in "
          f"{args.out}/;\nsizes.png draws the table, rounding.png what 4 bits do to a "
          "matrix.")  # fmt: skip


if __name__ == "__main__":
    main()
