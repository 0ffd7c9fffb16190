"""What a cache, a batch, chunks and shared pages are worth, in milliseconds.

python chapter_10_production/demo_latency.py
python chapter_10_production/demo_latency.py runs/train_gpt/model
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
from tqdm import tqdm

from chapter_07_attention import GPT, GPTConfig, from_pretrained
from chapter_10_production.decoder import Decoder
from chapter_10_production.engine import Engine
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.serving_figures import plot_by_number, plot_waits
from utils.commandline import parse, parser, script, whole_number, write_metrics
from utils.memory import keep_memory
from utils.plotting import save_figure

STREAMS = (1, 2, 4, 8, 16, 32)
GREEDY = {"temperature": 0}


def arguments(argv):
    flags = parser("demo_latency", "Measure the engine: cache, batches, chunks, shared pages.")
    flags.add_argument("folder", nargs="?", type=Path, metavar="FOLDER",
                       help="a model; without it, an untrained one, as time does not ask what is "
                       "written")  # fmt: skip
    flags.add_argument("--length", type=whole_number(8, 1 << 16), default=256,
                       help="tokens of the longest text")  # fmt: skip
    flags.add_argument("--repeats", type=whole_number(1), default=9,
                       help="times each is measured, of which the median counts")  # fmt: skip
    args = parse(flags, argv)
    if args.quick:
        args.length, args.repeats = min(args.length, 64), min(args.repeats, 3)
    return args


def model_of(args) -> GPT:
    """The model of a folder, or chapter 7's on fresh weights with a context for the lengths."""
    if args.folder is None:
        context = 2 * (args.length + args.repeats)
        return GPT(GPTConfig(65, context, n_layer=4, n_head=4, n_embd=128)).eval()
    model = from_pretrained(args.folder)
    most = model.config.block_size - 2 * args.repeats - 2  # each that is measured writes a token
    if args.length > most:
        raise ValueError(f"the model reads {model.config.block_size} tokens: give a --length of at "
                         f"most {most}, or fewer --repeats")  # fmt: skip
    return model


def median_seconds(repeats: int, job: Callable[[], Any]) -> float:
    """The median time of a call, the first not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def random_text(model: GPT | Decoder, length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(model.config.vocab_size, size=length).tolist()


def seconds_by_length(model: GPT, lengths: list[int], repeats: int) -> dict[str, list[float]]:
    """Of a token behind texts of these lengths: all of the text read again, or from the cache."""
    found: dict[str, list[float]] = {"without cache": [], "with cache": []}
    decoder = Decoder.from_model(model)
    for length in tqdm(lengths, desc="cache", disable=None):
        text = random_text(model, length)
        found["without cache"].append(median_seconds(repeats, lambda t=text: model.next_logits(t)))
        engine = Engine(decoder, most_running=1, most_tokens=length)
        engine.add(text[:-1], SamplingParameters(**GREEDY))
        engine.step()  # reads the text
        found["with cache"].append(median_seconds(repeats, engine.step))
    return found


def seconds_by_streams(decoder: Decoder, streams: tuple, length: int, repeats: int) -> list[float]:
    """Of a step that writes a token to each of so many texts of a quarter of the length."""
    found = []
    for count in tqdm(streams, desc="batches", disable=None):
        engine = Engine(decoder, most_running=count, most_tokens=count * length)
        for i in range(count):
            engine.add(random_text(decoder, length // 4, i), SamplingParameters(**GREEDY))
        engine.step()
        found.append(median_seconds(2 * repeats, engine.step))
    return found


def waits_beside_a_prompt(decoder: Decoder, length: int, chunk: int) -> list[float]:
    """Milliseconds before each of 24 tokens of a text; after eight, a long prompt arrives."""
    engine, waits = Engine(decoder, most_running=2, most_tokens=chunk), []
    text = engine.add(random_text(decoder, 8), SamplingParameters(max_tokens=25, **GREEDY))
    engine.step()
    for i in range(24):
        if i == 8:
            engine.add(random_text(decoder, length - 1), SamplingParameters(max_tokens=1, **GREEDY))
        before, start = text.written, time.perf_counter()
        while text.written == before:
            if not engine.busy:
                raise ValueError("the model gives no token: its weights are damaged")
            engine.step()
        waits.append((time.perf_counter() - start) * 1e3)
    return waits


def first_token_seconds(decoder: Decoder, length: int) -> tuple[float, float]:
    """Until the first token behind a long prompt: when it is new, and when all of it is known."""
    engine, found = Engine(decoder, most_running=1, most_tokens=length), []
    prompt = random_text(decoder, length - 1)
    for last in (0, 1):
        start = time.perf_counter()
        engine.generate([[*prompt[:-1], last]], SamplingParameters(max_tokens=1, **GREEDY))
        found.append(time.perf_counter() - start)
    return found[0], found[1]


@script
def main(argv=None) -> None:
    args = arguments(argv)
    keep_memory()
    model = model_of(args)
    decoder, config, length = Decoder.from_model(model), model.config, args.length
    print(f"A GPT of {config.n_layer} layers of width {config.n_embd} that reads up to "
          f"{config.block_size} tokens.\n")  # fmt: skip

    lengths = [
        n for n in (length >> 5, length >> 4, length >> 3, length >> 2, length >> 1) if n > 1
    ]
    lengths.append(length)
    by_length = seconds_by_length(model, lengths, args.repeats)
    plain, cached = (times[-1] for times in by_length.values())
    print(
        f"A token behind {length} others: {plain * 1e3:.2f} ms without the cache, "
        f"{cached * 1e3:.2f} ms with it: {plain / cached:.1f} times the tokens a second."
    )

    steps = seconds_by_streams(decoder, STREAMS, length, args.repeats)
    rates = [count / seconds for count, seconds in zip(STREAMS, steps)]
    print("\nTexts at once   ms a step   tokens a second   for each")
    for count, seconds, rate in zip(STREAMS, steps, rates):
        print(f"{count:13}   {seconds * 1e3:9.2f}   {rate:15,.0f}   {rate / count:8,.0f}")

    chunk = max(length // 8, 2)
    waits = {
        "the prompt as a whole": waits_beside_a_prompt(decoder, length, length),
        f"{chunk} tokens a step": waits_beside_a_prompt(decoder, length, chunk),
    }
    whole, chunked = (max(times) for times in waits.values())
    print(
        f"\nWhile a prompt of {length - 1} tokens is read, somebody else waits for a token at most "
        f"{whole:.1f} ms,\nor {chunked:.1f} ms if it is read in chunks."
    )

    new, known = first_token_seconds(decoder, length)
    print(f"Its first token comes after {new * 1e3:.1f} ms, and after {known * 1e3:.1f} ms if its "
          "pages are shared.")  # fmt: skip

    as_rates = {name: [1 / t for t in times] for name, times in by_length.items()}
    save_figure(
        plot_by_number(lengths, as_rates, ("length of the text (tokens)", "tokens a second"),
                       "One text: the cache makes length cheap"),
        args.out / "cache_seconds.png",
    )  # fmt: skip
    by_streams = {"all together": rates, "each text": [r / n for r, n in zip(rates, STREAMS)]}
    save_figure(
        plot_by_number(STREAMS, by_streams, ("texts at once", "tokens a second"),
                       "Many texts: one reading of the weights"),
        args.out / "batches_seconds.png",
    )  # fmt: skip
    save_figure(
        plot_waits(waits, "A long prompt arrives at token 9"), args.out / "waits_seconds.png"
    )
    write_metrics(args.out, {
        "length": length,
        "plain_tokens_per_second": 1 / plain,
        "cached_tokens_per_second": 1 / cached,
        "cache_speedup": plain / cached,
        "streams": STREAMS,
        "tokens_per_second": rates,
        "batch_speedup_8": rates[STREAMS.index(8)] / rates[0],
        "longest_wait_whole_seconds": whole / 1e3,
        "longest_wait_chunked_seconds": chunked / 1e3,
        "first_token_seconds": new,
        "first_token_shared_seconds": known,
    })  # fmt: skip
    print(f"\nThe figures are in {args.out}.")


if __name__ == "__main__":
    main()
