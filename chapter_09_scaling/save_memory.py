"""What a training step remembers, and three ways to remember less: parts, checkpoints, 16 bits.

python chapter_09_scaling/save_memory.py
python chapter_09_scaling/save_memory.py --data tinyshakespeare --layers 8 --width 256
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import Any, Callable, NamedTuple

import numpy as np

from chapter_03_neural_nets import Batches, train
from chapter_05_gradient_mastery import AdamW
from chapter_07_attention import GPT, Corpus, GPTConfig, TransformerEncoderLayer, text_corpus
from chapter_09_scaling.accounting import activation_bytes
from chapter_09_scaling.accumulation import accumulated
from chapter_09_scaling.checkpointing import checkpointed
from chapter_09_scaling.half_precision import half_activation_bytes, half_precision
from chapter_09_scaling.limits import check_training
from chapter_09_scaling.loss_scaling import LossScaler, with_scaled_gradient
from chapter_09_scaling.memory_figures import plot_memory, plot_trainings
from chapter_09_scaling.shared_batches import next_token_loss
from utils import Tensor, manual_seed
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_text
from utils.plotting import save_figure

FRUGAL = {"layer": checkpointed(TransformerEncoderLayer)}
MIB = 2**20
LAST = 20  # steps whose mean loss is told


class Method(NamedTuple):
    """How a step saves memory: what the model is made of, and in how many parts its batch goes."""

    options: dict[str, Any]
    parts: int = 1


class Step(NamedTuple):
    """Bytes of activations of one part, the most at any time, seconds, and the gradients."""

    kept: int
    most: int
    seconds: float
    gradients: list[np.ndarray]


def arguments(argv):
    flags = parser("save_memory", "Compare ways to train a GPT in less memory.")
    known = ", ".join(known_names("text"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or a text; else Python's reference"
    )
    flags.add_argument("--layers", type=whole_number(1, 1000), default=4)
    flags.add_argument("--width", type=whole_number(1, 16_384), default=128,
                       help="a multiple of --heads")  # fmt: skip
    flags.add_argument("--heads", type=whole_number(1, 1000), default=4)
    flags.add_argument("--context", type=whole_number(1, 65_536), default=64, help="tokens a text")
    flags.add_argument("--batch", type=whole_number(1, 65_536), default=16, help="texts a step")
    flags.add_argument("--parts", type=whole_number(2, 65_536), default=4, help="parts of a batch")
    flags.add_argument("--steps", type=whole_number(1), default=150, help="steps a training")
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="AdamW's rate")
    flags.add_argument(
        "--divisor",
        type=number(least=1),
        default=1024,
        help="the trainings' losses are divided by it, as those of a part of so many would be",
    )
    args = parse(flags, argv)
    args.training = (2, 2, 64, 32)  # layers, heads, width, context
    if args.quick:
        args.layers, args.width, args.context, args.batch, args.steps = 2, 32, 32, 8, 4
        args.heads, args.training = 2, (1, 2, 16, 16)
    return args


def methods(parts: int) -> dict[str, Method]:
    return {
        "plain": Method({}),
        "accumulated": Method({}, parts),
        "checkpointed": Method(FRUGAL),
        "both": Method(FRUGAL, parts),
        "float16": Method(half_precision("float16")),
    }


def predicted_bytes(name: str, config: GPTConfig, rows: int) -> int:
    """What a method keeps of so many rows between forward and backward, by formula."""
    if name == "float16":
        return half_activation_bytes(config, rows, config.block_size)
    frugal = name in ("checkpointed", "both")
    return activation_bytes(config, rows, config.block_size, checkpointing=frugal)


def one_step(config: GPTConfig, method: Method, batch: tuple, repeats: int) -> Step:
    """Measure a step: twice its memory, and then its time, the shortest of `repeats`."""
    manual_seed(0)
    model = GPT(config, **method.options)
    loss = accumulated(next_token_loss, method.parts)
    loss(model, *batch).backward()  # what is made once only, such as the mask
    model.zero_grad()
    rows = part_of(batch, method)
    kept, _ = allocated(lambda: next_token_loss(model, batch[0][:rows], batch[1][:rows]))
    _, most = allocated(lambda: loss(model, *batch).backward())
    gradients = [p.grad for p in model.parameters()]
    seconds = []
    for _ in range(repeats):
        model.zero_grad()
        begun = time.perf_counter()
        loss(model, *batch).backward()
        seconds.append(time.perf_counter() - begun)
    return Step(kept, most, min(seconds), gradients)


def part_of(batch: tuple, method: Method) -> int:
    """The rows of the largest part."""
    return -(-len(batch[0]) // method.parts)


def allocated(function: Callable[[], Any]) -> tuple[int, int]:
    """Bytes that exist because of a call while its result does, and the most during it."""
    gc.collect()  # or it might happen inside
    tracemalloc.start()
    try:
        result = function()
        sizes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del result
    return sizes


def farthest(gradients: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The largest difference of two models' gradients, of the largest number of its parameter."""
    pairs = zip(gradients, others)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs if b.any())


def compare_steps(args, corpus: Corpus, config: GPTConfig, metrics: dict[str, Any]) -> None:
    """The table of a step by each method, and its figure."""
    batch = tuple(array[: args.batch] for array in corpus.train)
    plain = None
    print(f"  {'':14}{'activations':>12}{'formula':>9}{'most':>8}{'seconds':>9}"
          f"{'gradients differ by':>21}")  # fmt: skip
    for name, method in methods(args.parts).items():
        step = one_step(config, method, batch, 1 if args.quick else 3)
        plain = plain or step
        expected = predicted_bytes(name, config, part_of(batch, method))
        # The most varies by some hundred bytes from run to run: more digits would not be the same.
        metrics[f"{name}_most_mib"] = round(step.most / MIB, 1)
        metrics[f"{name}_memory_ratio"] = round(step.most / plain.most, 2)
        metrics[f"{name}_activations_mib"] = round(step.kept / MIB, 2)
        metrics[f"{name}_predicted_mib"] = round(expected / MIB, 2)
        metrics[f"{name}_seconds"] = step.seconds
        metrics[f"{name}_gradient_difference"] = farthest(step.gradients, plain.gradients)
        print(f"  {name:14}{step.kept / MIB:12.2f}{expected / MIB:9.2f}{step.most / MIB:8.1f}"
              f"{step.seconds:9.3f}{metrics[f'{name}_gradient_difference']:21.1e}")  # fmt: skip
    print(f"\nIn MiB. At its most, a step with checkpoints takes "
          f"{metrics['checkpointed_memory_ratio']:.0%} of a plain one's memory, and in\n"
          f"{args.parts} parts besides {metrics['both_memory_ratio']:.0%}.")  # fmt: skip
    rows = len(batch[0])
    title = f"A step of a GPT, {args.layers} layers of {args.width}, {rows} texts of {args.context}"
    columns = [
        {name: metrics[f"{name}_{column}_mib"] for name in methods(args.parts)}
        for column in ("most", "activations", "predicted")
    ]
    save_figure(plot_memory(*columns, title), args.out / "memory.png")


def trained(
    args, corpus: Corpus, config: GPTConfig, kind: str, scaled: bool
) -> tuple[list[float], list[float], float, int]:
    """The losses of a training, the scale at every step, the share of gradients that are exactly
    0 in the last, and how many steps were skipped."""
    manual_seed(args.seed)
    model = GPT(config, **({} if kind == "float32" else half_precision(kind)))
    optimizer = AdamW(model.parameters(), args.lr, eps=1e-12)
    scaler = LossScaler(optimizer, growth_interval=max(args.steps // 5, 1))

    def small_loss(model: GPT, ids: Any, targets: np.ndarray) -> Tensor:
        return with_scaled_gradient(next_token_loss(model, ids, targets), scale=1 / args.divisor)

    loss: Callable = scaler.watch(small_loss) if scaled else small_loss
    scales: list[float] = []
    history = train(
        model,
        scaler if scaled else optimizer,
        Batches(*corpus.train, batch_size=min(16, len(corpus.train[0]))),
        args.steps,
        loss=loss,
        before_step=[lambda model: scales.append(scaler.scale)],
        description=f"{kind}, scaled" if scaled else kind,
    )
    gradients = [p.grad for p in model.layers.parameters()]
    zeros = sum(int((g == 0).sum()) for g in gradients) / sum(g.size for g in gradients)
    return history.losses, scales, zeros, scaler.skipped


def compare_trainings(args, text: str, metrics: dict[str, Any]) -> None:
    """Trainings on 16-bit numbers beside that on 32, and their figure."""
    layers, heads, width, context = args.training
    corpus = text_corpus(text, context)
    config = GPTConfig(corpus.tokenizer.vocab_size, context, layers, heads, width)
    print(f"\nTraining of {layers} layers of {width}, {args.steps} steps; a loss is divided by "
          f"{args.divisor:g},\nas that of one of so many parts of a batch\n")  # fmt: skip
    print(f"  {'':16}{'first loss':>11}{'last losses':>13}{'gradients of 0':>16}")
    runs = [("float32", False), ("float16", False), ("float16", True), ("bfloat16", False)]
    losses = {}
    for kind, scaled in runs:
        name = f"{kind}, scaled" if scaled else kind
        losses[name], scales, zeros, skipped = trained(args, corpus, config, kind, scaled)
        last = float(np.mean(losses[name][-LAST:]))
        print(f"  {name:16}{losses[name][0]:11.3f}{last:13.3f}{zeros:16.1%}")
        key = name.replace(", ", "_")
        metrics.update({f"{key}_first_loss": losses[name][0], f"{key}_last_loss": last,
                        f"{key}_zero_gradients": zeros})  # fmt: skip
        if scaled:
            found = scales
            metrics.update(final_scale=scales[-1], skipped_steps=skipped)
    print(f"\nThe scale went from {found[0]:g} to {found[-1]:g}; "
          f"{metrics['skipped_steps']} steps were skipped.")  # fmt: skip
    figure = plot_trainings(losses, found, "A GPT trained on numbers of 16 bits")
    save_figure(figure, args.out / "half_precision.png")


@script
def main(argv=None) -> None:
    args = arguments(argv)
    text = load_text(args.data)
    text = text[:20_000] if args.quick else text
    corpus = text_corpus(text, args.context)
    config = GPTConfig(
        corpus.tokenizer.vocab_size, args.context, args.layers, args.heads, args.width
    )
    check_training(config, args.batch)
    metrics: dict[str, Any] = {"steps": args.steps, "parts": args.parts}
    print(f"A step of a GPT of {args.layers} layers of {args.width}, {args.batch} texts of "
          f"{args.context} tokens, {args.parts} parts\n")  # fmt: skip
    compare_steps(args, corpus, config, metrics)
    compare_trainings(args, text, metrics)
    write_metrics(args.out, metrics)
    print(f"\nFigures: {args.out}/memory.png and half_precision.png")


if __name__ == "__main__":
    main()
