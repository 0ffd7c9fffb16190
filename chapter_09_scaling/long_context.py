"""Attention to long texts three ways: by all pairs, block by block, and by sums of the past.

python chapter_09_scaling/long_context.py
python chapter_09_scaling/long_context.py --data tinyshakespeare.txt --steps 2000
"""

from __future__ import annotations

import functools
import math
import time
import tracemalloc
from typing import Callable, NamedTuple

import numpy as np
from tqdm import tqdm

from chapter_07_attention import GPTConfig, attend, causal_mask, fit, text_corpus
from chapter_07_attention.masks import as_bias
from chapter_09_scaling.attention_figures import plot_by_length, plot_trainings
from chapter_09_scaling.blockwise_attention import blockwise_attend
from chapter_09_scaling.limits import check_fits
from chapter_09_scaling.linear_attention import linear_attend
from chapter_09_scaling.long_gpt import LongGPT
from utils import Tensor, grad, manual_seed
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_text
from utils.plotting import save_figure

KINDS = ("naive", "blockwise", "linear")
LEARNERS = {"softmax": blockwise_attend, "linear": linear_attend}


class Measured(NamedTuple):
    """Of a forward and a backward pass: the least of the times, the peak in MiB, the gradient."""

    seconds: float
    memory: float
    gradient: np.ndarray


def arguments(argv):
    flags = parser("long_context", "Time and memory of attention by the length of the text.")
    flags.add_argument("--lengths", type=whole_number(1, 1 << 20), nargs="+", metavar="T",
                       default=[256, 512, 1024, 2048, 4096], help="lengths of texts")  # fmt: skip
    flags.add_argument("--heads", type=whole_number(1, 1024), default=2,
                       help="heads that are measured")  # fmt: skip
    flags.add_argument("--head-size", type=whole_number(1, 4096), default=32,
                       help="numbers a head")  # fmt: skip
    flags.add_argument("--repeats", type=whole_number(1), default=3, help="runs that are timed")
    known = ", ".join(known_names("text"))
    flags.add_argument("--data", metavar="NAME|FILE",
                       help=f"what GPTs learn: {known}, or a text; else built in")  # fmt: skip
    flags.add_argument("--context", type=whole_number(1, 1 << 20), default=256,
                       help="tokens they read")  # fmt: skip
    flags.add_argument("--steps", type=whole_number(1), default=300, help="training steps each")
    flags.add_argument("--batch", type=whole_number(1, 65_536), default=8,
                       help="texts a step")  # fmt: skip
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="the highest learning rate")
    args = parse(flags, argv)
    args.width = 64
    if args.quick:
        args.lengths = [min(n, 256) for n in args.lengths[:2]]
        args.steps, args.context, args.width = min(args.steps, 3), min(args.context, 32), 16
    args.lengths = sorted(set(args.lengths))
    longest = args.lengths[-1]  # whose scores and their gradient exist at once
    check_fits(2 * 4 * args.heads * longest**2, f"naive attention over {longest:,} tokens")
    return args


def attention_of(kind: str, length: int, dtype) -> Callable:
    """A kind of causal attention; the naive one is given its mask, which is not counted."""
    if kind == "naive":
        return functools.partial(attend, mask=as_bias(causal_mask(length), dtype))
    return functools.partial(LEARNERS["softmax" if kind == "blockwise" else kind], causal=True)


def measured(attention: Callable, packed: np.ndarray, heads: int, repeats: int) -> Measured:
    """Queries, keys and values (B, T, 3 C) look at themselves, forward and backward."""
    x = Tensor(packed, requires_grad=True)
    g = np.ones((*packed.shape[:2], packed.shape[2] // 3), packed.dtype)
    g *= np.linspace(-1, 1, packed.shape[2] // 3, dtype=packed.dtype)

    def run() -> np.ndarray:
        return grad(attention(x, heads=heads), [x], g)[0].data

    tracemalloc.start()
    try:
        gradient = run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    times = [math.inf]
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return Measured(min(times), round(peak / 2**20, 2), gradient)


def compare(args) -> dict[str, dict[int, Measured]]:
    """All kinds at all lengths."""
    found: dict[str, dict[int, Measured]] = {kind: {} for kind in KINDS}
    rng = np.random.default_rng(args.seed)
    for length in tqdm(args.lengths, desc="measuring", disable=None):
        packed = rng.standard_normal((1, length, 3 * args.heads * args.head_size), np.float32)
        for kind in KINDS:
            if not found[kind]:  # what only the first call takes is not counted
                measured(attention_of(kind, 1, np.float32), packed[:, :1], args.heads, 0)
            attention = attention_of(kind, length, np.float32)
            found[kind][length] = measured(attention, packed, args.heads, args.repeats)
    return found


def largest_difference(args, length: int, dtype) -> float:
    """Of the naive and the blockwise gradient, as a share of its largest number."""
    rng = np.random.default_rng(args.seed)
    packed = rng.standard_normal((1, length, 3 * args.head_size)).astype(dtype)
    naive, blockwise = (
        measured(attention_of(kind, length, dtype), packed, 1, 0).gradient for kind in KINDS[:2]
    )
    return float(np.abs(naive - blockwise).max() / np.abs(naive).max())


def learn(args, corpus):
    """A small GPT with each kind of attention: its history."""
    sizes = (corpus.tokenizer.vocab_size, args.context, 2, 2, args.width)
    histories = {}
    for name, attention in LEARNERS.items():
        manual_seed(args.seed)
        model = LongGPT(GPTConfig(*sizes, positions="rotary"), attention)
        histories[name] = fit(model, corpus, args.steps, args.batch, args.lr, judged=1,
                              description=name)  # fmt: skip
    return histories


@script
def main(argv=None) -> None:
    args = arguments(argv)
    text = load_text(args.data)
    corpus = text_corpus(text[:20_000] if args.quick else text, args.context)
    found = compare(args)
    longest, size = args.lengths[-1], args.head_size
    metrics = {}
    print(f"Causal attention, {args.heads} heads of {size}, forward and backward: the peak of "
          f"memory in MiB\nbeyond inputs and mask, and the time in milliseconds\n")  # fmt: skip
    print(f"  {'tokens':>6}" + "".join(f"{kind:>20}" for kind in KINDS))
    for length in args.lengths:
        row = [found[kind][length] for kind in KINDS]
        print(f"  {length:6}" + "".join(f"{m.memory:11.2f}{1e3 * m.seconds:9.1f}" for m in row))
        for kind, m in zip(KINDS, row):
            metrics[f"memory_mib_{kind}_{length}"] = m.memory
            metrics[f"seconds_{kind}_{length}"] = m.seconds
    ratio = found["blockwise"][longest].memory / found["naive"][longest].memory
    metrics[f"memory_ratio_{longest}"] = ratio
    for dtype in (np.float32, np.float64):
        name = f"largest_gradient_difference_{longest}"
        name += "" if dtype is np.float32 else "_float64"
        metrics[name] = largest_difference(args, longest, dtype)
    single, double = (metrics[name] for name in metrics if name.startswith("largest"))
    print(
        f"\nAt {longest} tokens blockwise attention takes {ratio:.1%} of the naive memory; its "
        f"gradients differ\nby {single:.1e} of the largest in float32, {double:.1e} in float64"
    )
    cache, table = 2 * longest * size, size * (size + 1)
    metrics.update(numbers_remembered_softmax=cache, numbers_remembered_linear=table)
    print(f"To go on writing after {longest} tokens, softmax remembers {cache:,} numbers a head, "
          f"linear attention {table:,}")  # fmt: skip
    print(f"\nTwo GPTs of 2 layers of {args.width}, {args.steps} steps of {args.batch} texts of "
          f"{args.context} tokens")  # fmt: skip
    histories = learn(args, corpus)
    for name, history in histories.items():
        metrics[f"val_nll_{name}"] = history.evaluations[-1]["loss"]
        print(f"  {name:9} validation {metrics[f'val_nll_{name}']:.4f} nats a token")
    for quantity, label, file in (
        ("memory", "peak of memory (MiB)", "memory.png"),
        ("seconds", "time (seconds)", "seconds.png"),
    ):
        lines = {k: [getattr(m, quantity) for m in by.values()] for k, by in found.items()}
        title = f"Forward and backward, {args.heads} heads of {size}"
        save_figure(plot_by_length(args.lengths, lines, label, title), args.out / file)
    save_figure(plot_trainings(histories, "Softmax and linear attention"), args.out / "losses.png")
    write_metrics(args.out, metrics)
    print(f"\nMemory, time and losses are drawn in {args.out}/")


if __name__ == "__main__":
    main()
