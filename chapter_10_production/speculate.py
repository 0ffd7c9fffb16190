"""A small model writes ahead of a large one: how often it is right, and what that is worth.

python chapter_10_production/speculate.py
python chapter_10_production/speculate.py runs/train_gpt/model --draft runs/small/model
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from chapter_03_neural_nets.losses import IGNORED
from chapter_07_attention import (
    GPT,
    Corpus,
    GPTConfig,
    fit,
    from_pretrained,
    text_corpus,
)
from chapter_10_production.compress import opened
from chapter_10_production.decoder import Decoder
from chapter_10_production.engine import Engine, check_draft
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.serving_figures import plot_guesses
from utils.commandline import parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_text
from utils.memory import keep_memory
from utils.plotting import save_figure

CONTEXT, TEXTS = 128, 4
SIZES = {"model": (4, 4, 192), "draft": (1, 2, 64)}  # layers, heads, width


class Measured(NamedTuple):
    """Of one way to write: guesses that were right, tokens a step, and tokens a second."""

    accepted: float
    tokens_a_step: float
    rate: float


def arguments(argv):
    flags = parser("speculate", "Let a draft write ahead of a model, and count what stands.")
    flags.add_argument("folder", nargs="?", type=Path, metavar="FOLDER",
                       help="a model; without it, both are trained first")  # fmt: skip
    flags.add_argument("--draft", type=Path, metavar="FOLDER", help="its draft")
    flags.add_argument("--data", metavar="NAME|FILE",
                       help=f"text that they learn: {', '.join(known_names('text'))}, or a file; "
                       "else Python's reference")  # fmt: skip
    flags.add_argument("--steps", type=whole_number(1), default=300, help="training steps each")
    flags.add_argument("--tokens", type=whole_number(2), default=100, help="tokens a text")
    flags.add_argument("--ahead", type=whole_number(1, 64), nargs="+", default=[1, 2, 4, 8],
                       metavar="K", help="tokens that are guessed in a step")  # fmt: skip
    args = parse(flags, argv)
    if (args.folder is None) != (args.draft is None):
        flags.error("a model and its draft are given together")
    if args.quick:
        args.steps, args.tokens = min(args.steps, 3), min(args.tokens, 12)
        args.ahead = args.ahead[:2]
    args.ahead = sorted(set(args.ahead))
    return args


def trained(args) -> tuple[GPT, GPT, list[int]]:
    """A model and a draft that have read the same text, and tokens that neither has read."""
    corpus = text_corpus(load_text(args.data)[: 100_000 if args.quick else None], CONTEXT)
    models = []
    for name, (layers, heads, width) in SIZES.items():
        size = (1, 2, 32) if args.quick else (layers, heads, width)
        model = GPT(GPTConfig(corpus.tokenizer.vocab_size, CONTEXT, *size))
        steps = args.steps if name == "model" else 4 * args.steps
        fit(model, corpus, steps, lr=1e-3 if width > 128 else 3e-3, judged=1, description=name)
        models.append(model.eval())
    return models[0], models[1], held_out(corpus)


def loaded(args) -> tuple[GPT, GPT, list[int]]:
    """The same, from their folders."""
    model, corpus = opened(args.folder, load_text(args.data))
    draft = from_pretrained(args.draft)
    return model, draft, held_out(corpus)


def held_out(corpus: Corpus) -> list[int]:
    """The tokens of the last part, without what fills up its last block."""
    inputs, targets = corpus.validation
    return inputs[targets != IGNORED].tolist()


def measure(engine: Engine, prompts: list, hows: list) -> tuple[Measured, list[list[int]]]:
    """Write one text after the other, as one reader would wait for them."""
    found, steps, start = [], 0, time.perf_counter()
    for prompt, how in zip(prompts, hows):
        text = engine.add(prompt, how)
        while engine.busy:
            engine.step()
            steps += 1
        found.append(text.ids[text.prompt_length :])
    seconds, tokens = time.perf_counter() - start, sum(map(len, found))
    share = engine.accepted / engine.proposed if engine.proposed else 0.0
    return Measured(share, tokens / steps, tokens / seconds), found


def compare(
    model: Decoder, draft: Decoder, ids: list[int], args, temperature: float
) -> dict[int, Measured]:
    """Without guesses (0), and with so many ahead; ValueError if a text depends on it."""
    length = min(16, model.config.block_size - 1)
    if len(ids) < TEXTS * length:
        raise ValueError(f"{len(ids)} tokens that were held out are too few: {TEXTS} prompts of "
                         f"{length} begin with them")  # fmt: skip
    prompts = [ids[i : i + length] for i in range(0, TEXTS * length, length)]
    hows = [SamplingParameters(args.tokens, temperature, seed=i) for i in range(len(prompts))]
    found, texts = {}, []
    for ahead in tqdm([0, *args.ahead], desc=f"temperature {temperature}", disable=None):
        options = {"draft": draft, "ahead": ahead} if ahead else {}
        engine = Engine(model, share_prefixes=False, most_running=1, **options)
        engine.generate(prompts[:1], SamplingParameters(2, 0.0))  # what only the first call takes
        engine.proposed = engine.accepted = 0
        found[ahead], written = measure(engine, prompts, hows)
        texts.append(written)
    if any(written != texts[0] for written in texts):
        raise ValueError("a draft has changed what is written: rounding has decided a token")
    return found


@script
def main(argv=None) -> None:
    args = arguments(argv)
    keep_memory()
    model, draft, ids = trained(args) if args.folder is None else loaded(args)
    large, small = Decoder.from_model(model), Decoder.from_model(draft)
    check_draft(large, small)
    print(f"A model of {large.nbytes / 2**20:.2f} MiB, and a draft of "
          f"{small.nbytes / 2**20:.2f} MiB.\n")  # fmt: skip
    results = {t: compare(large, small, ids, args, t) for t in (0.0, 0.8)}
    metrics = {}
    print("temperature   ahead   guesses right   tokens a step   tokens a second   times as fast")
    for temperature, found in results.items():
        for ahead, m in found.items():
            ratio = m.rate / found[0].rate
            print(f"{temperature:11}   {ahead:5}   {m.accepted:13.1%}   {m.tokens_a_step:13.2f}   "
                  f"{m.rate:15,.0f}   {ratio:13.2f}")  # fmt: skip
            metrics[f"temperature_{temperature}_ahead_{ahead}"] = {
                "accepted": m.accepted,
                "tokens_a_step": m.tokens_a_step,
                "tokens_per_second": m.rate,
                "speedup": ratio,
            }
    print("\nEach text is, token for token, what the model writes alone.")
    lines = {
        f"temperature {t:g}": {k: m.tokens_a_step for k, m in found.items()}
        for t, found in results.items()
    }
    save_figure(plot_guesses(lines), args.out / "guesses.png")
    write_metrics(args.out, metrics)


if __name__ == "__main__":
    main()
