"""Let many clients use a server at once, and see whether it stays fast, honest and small.

python chapter_10_production/load_test.py
python chapter_10_production/load_test.py http://127.0.0.1:8000 --clients 64 --seconds 60

Without an address, a server of a tiny untrained model is started for the time of the test: how long
a token takes does not depend on whether it makes sense. A server that asks for a key gets that in
the environment variable DLFP_API_KEY.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import numpy as np
from tqdm import tqdm

from chapter_02_text_generation import CharacterTokenizer
from chapter_07_attention import GPT, GPTConfig, save_pretrained
from chapter_10_production.load_client import Connection, Record, use, wish
from chapter_10_production.load_figures import plot_course, plot_waits_of_all
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.plotting import save_figure

LETTERS = "abcdefghijklmnopqrstuvwxyz ."
SERVER = Path(__file__).with_name("serve.py")
FIRST_ANSWER = 10.0  # seconds for the server's first answers
NOT_OURS = (KeyError, IndexError, TypeError, AttributeError, ValueError, asyncio.LimitOverrunError)
SETTLING = 10.0  # seconds in which all counters have to come back to zero
GROWTH = 16 * 2**20  # bytes that the server may grow by while it is doing the same all the time
PERCENTILES = (50, 95, 99)


def arguments(argv):
    flags = parser("load_test", "Let many clients use a server at once, and measure.")
    flags.add_argument("url", nargs="?", metavar="URL",
                       help="of a server; without it, one is started")  # fmt: skip
    flags.add_argument("--clients", type=whole_number(1, 4096), default=64,
                       help="that ask for text after text")  # fmt: skip
    flags.add_argument("--seconds", type=number(above=0), default=60.0,
                       help="during which new texts are asked for")  # fmt: skip
    args = parse(flags, argv)
    if args.quick:
        args.clients, args.seconds = min(args.clients, 8), min(args.seconds, 1.5)
    return args


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[str, int]]:
    """A server of a tiny model: its address and process; ValueError where it does not start."""
    config = GPTConfig(len(LETTERS), 256, n_layer=2, n_head=4, n_embd=64)
    save_pretrained(GPT(config), folder / "tiny", CharacterTokenizer.train(LETTERS))
    command = [str(SERVER), str(folder / "tiny"), "--port", "0", "--out", str(folder / "serve")]
    with open(folder / "log.txt", "w+") as log:
        server = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            line = server.stdout.readline()
            found = re.search(r"http://\S+", line)
            if found is None:
                server.wait()
                log.seek(0)
                *_, said = ["it says nothing", *log.read().splitlines()]
                raise ValueError(f"the server did not start: {said}")
            yield found[0], server.pid
            server.send_signal(signal.SIGTERM)
            if server.wait(60) != 0 and os.name == "posix":
                raise ValueError(f"the server ended with status {server.returncode}")
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


class Reading(NamedTuple):
    """What the server said about itself at a moment."""

    time: float
    waiting: float
    running: float
    cache: float
    submitted: float
    finished: float
    resident: float | None  # bytes


class Monitor:
    """Reads a server's /metrics, and from /proc the memory of one that runs here."""

    def __init__(self, url: str, pid: int | None) -> None:
        self.connection, self.pid = Connection(url), pid

    async def read(self) -> Reading:
        values: dict[str, float] = {}
        try:
            await self.connection.ask("GET", "/metrics")
            for line in (await self.connection.whole()).decode().splitlines():
                name, _, value = line.rpartition(" ")
                if not line.startswith("#"):
                    name = name.partition("{")[0]  # all labels together
                    values[name] = values.get(name, 0.0) + float(value)
        except BaseException:
            self.connection.close()
            raise
        return Reading(
            time.monotonic(),
            values["texts_waiting"],
            values["texts_running"],
            values["cache_use_ratio"],
            values["texts_submitted_total"],
            values.get("texts_finished_total", 0.0),
            self.resident() or values.get("process_resident_memory_bytes"),
        )

    def resident(self) -> int | None:
        with contextlib.suppress(OSError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * page_size()
        return None


def page_size() -> int:
    return os.sysconf("SC_PAGE_SIZE")


async def served_model(url: str, key: str | None) -> tuple[str, int]:
    """The name of the model that a server has, and how many tokens it reads."""
    asking = Connection(url, key)
    try:
        status, _ = await asking.ask("GET", "/v1/models")
        answer = json.loads(await asking.whole())
    finally:
        asking.close()
    if status != 200:
        raise ConnectionError(f"{url} answers with {status}: {answer['error']['message']}")
    return answer["data"][0]["id"], answer["data"][0].get("max_model_len", 128)


async def attack(
    args, url: str, pid: int | None
) -> tuple[list[Record], list[Reading], Reading | None]:
    """All clients at once: what they met, readings meanwhile, and the last one, after they left.

    There is no last one where the server has gone away: then the clients end with it.
    """
    key = os.environ.get("DLFP_API_KEY")
    records: list[Record] = []
    monitor = Monitor(url, pid)
    try:
        model, context = await asyncio.wait_for(served_model(url, key), FIRST_ANSWER)
        readings = [await asyncio.wait_for(monitor.read(), FIRST_ANSWER)]
    except asyncio.TimeoutError:
        raise ValueError(f"{url} has not answered for {FIRST_ANSWER:g} s") from None
    except NOT_OURS:
        raise ValueError(f"{url} does not answer as a server of this chapter does") from None
    begin = readings[0].time
    clients = []
    for seed in np.random.SeedSequence(args.seed).spawn(args.clients):
        rng = np.random.default_rng(seed)
        wishes = lambda rng=rng: wish(rng, model, context)
        client = use(Connection(url, key), wishes, rng, records, begin + args.seconds)
        clients.append(asyncio.ensure_future(client))
    with tqdm(total=args.seconds, bar_format="{desc}", disable=None) as bar:
        while not all(client.done() for client in clients):
            await asyncio.wait(clients, timeout=0.25)
            try:
                readings.append(await monitor.read())
            except (OSError, *NOT_OURS):
                for client in clients:
                    client.cancel()
                await asyncio.wait(clients)
                return records, readings, None
            bar.set_description_str(live(records, readings[-1].time - begin))
    await asyncio.gather(*clients)
    try:
        last = await settled(monitor)
    except (OSError, *NOT_OURS):
        return records, readings, None
    monitor.connection.close()
    return records, readings, last


async def settled(monitor: Monitor) -> Reading:
    """The first reading in which nothing runs, or one after a long wait for it."""
    last = await monitor.read()
    end = last.time + SETTLING
    while not is_idle(last) and last.time < end:
        await asyncio.sleep(0.1)
        last = await monitor.read()
    return last


def is_idle(reading: Reading) -> bool:
    return reading.waiting == reading.running == reading.cache == 0


def first_waits(records: list[Record]) -> list[float]:
    return [r.pieces[0] - r.sent for r in records if r.pieces]


def gaps(records: list[Record]) -> list[float]:
    return [gap for r in records for gap in np.diff(r.pieces)]


def percentiles(seconds: list[float]) -> dict[str, float]:
    found = np.percentile(seconds, PERCENTILES) if seconds else [float("nan")] * 3
    return {f"p{p}": float(value) for p, value in zip(PERCENTILES, found)}


def live(records: list[Record], passed: float) -> str:
    """One line on how it goes; the last thousand texts stand for all."""
    recent = records[-1000:]
    first, between = (list(percentiles(w(recent)).values()) for w in (first_waits, gaps))
    refused = sum(r.status == 429 for r in records)
    wrong = sum(r.error is not None for r in records)
    rate = sum(r.tokens for r in records) / passed
    return (f"{passed:4.0f} s: {len(records):,} requests, {rate:,.0f} tokens/s, first token "
            f"{'/'.join(f'{s:.2f}' for s in first)} s, next {1e3 * between[0]:.0f} ms, "
            f"{refused} refused, {wrong} errors")  # fmt: skip


def measured(records: list[Record], readings: list[Reading]) -> dict[str, Any]:
    """The figures of the test, in seconds, texts and tokens."""
    answered = [r for r in records if r.status == 200]
    passed = readings[-1].time - readings[0].time
    finished = [r for r in answered if not r.cancelled and r.error is None]
    mean = sum(r.ended - r.sent for r in answered) / max(len(answered), 1)
    tokens = sum(r.tokens for r in answered)
    inside = statistics.fmean(r.waiting + r.running for r in readings)
    return {
        "passed": passed,
        "requests": len(records),
        "finished": len(finished),
        "cancelled": sum(r.cancelled for r in answered),
        "refused": sum(r.status == 429 for r in records),
        "errors": sum(r.error is not None for r in records),
        "tokens": tokens,
        "tokens_per_second": tokens / passed,
        "first_token": percentiles(first_waits(answered)),
        "between_tokens": percentiles(gaps(answered)),
        "whole_text": percentiles([r.ended - r.sent for r in finished]),
        "arrivals_per_second": len(answered) / passed,
        "mean_time": mean,
        "texts_by_littles_law": len(answered) / passed * mean,
        "texts_in_the_server": inside,
    }


def growth(readings: list[Reading]) -> float | None:
    """Bytes that the server grew by from the second quarter of the test to the last."""
    sizes = [r.resident for r in readings]
    quarter = len(sizes) // 4
    if quarter == 0 or None in sizes:
        return None
    return statistics.median(sizes[-quarter:]) - statistics.median(sizes[quarter : 2 * quarter])


def checks_of(
    records: list[Record], readings: list[Reading], last: Reading | None
) -> dict[str, bool]:
    """What a server under load must be; all are to be True."""
    begin, more = readings[0], growth(readings)
    checks = {
        "some text was finished": any(r.status == 200 and not r.cancelled for r in records),
        "no errors but refusals": not any(r.error for r in records),
    }
    if last is None:
        checks["the server is there to the end"] = False
    else:
        taken, ended = last.submitted - begin.submitted, last.finished - begin.finished
        checks["every text taken in has ended"] = taken == ended
        checks["nothing runs or waits, no page of the cache is held"] = is_idle(last)
    if more is not None:
        checks["memory stays flat"] = more <= GROWTH
    return checks


def course(records: list[Record], readings: list[Reading]) -> Any:
    """The figure of tokens a second and of texts over time."""
    begin, passed = readings[0].time, readings[-1].time - readings[0].time
    edges = np.linspace(0, passed, min(60, max(4, int(passed))) + 1)
    pieces = np.concatenate([np.array(r.pieces) - begin for r in records] or [[]])
    # A piece of text is mostly one token, but may be several.
    weights = [r.tokens / len(r.pieces) for r in records for _ in r.pieces]
    counts, _ = np.histogram(pieces, edges, weights=weights)
    middles = (edges[1:] + edges[:-1]) / 2
    times = [r.time - begin for r in readings]
    texts = {name: np.interp(middles, times, [getattr(r, name) for r in readings])
             for name in ("running", "waiting")}  # fmt: skip
    return plot_course(middles, counts / np.diff(edges), texts)


def report(found: dict[str, Any], readings: list[Reading], more: float | None) -> None:
    print(f"{found['requests']:,} requests in {found['passed']:.1f} s: {found['finished']:,} "
          f"finished, {found['cancelled']:,} cancelled midway, {found['refused']:,} refused "
          f"(429), {found['errors']:,} errors.")  # fmt: skip
    print(f"{found['tokens']:,} tokens, {found['tokens_per_second']:,.0f} a second.\n")
    print("milliseconds           p50        p95        p99")
    for name in ("first_token", "between_tokens", "whole_text"):
        row = "   ".join(f"{1e3 * seconds:8,.1f}" for seconds in found[name].values())
        print(f"{name.replace('_', ' '):15}{row}")
    print(f"\nLittle's law: {found['arrivals_per_second']:.1f} texts a second that stay "
          f"{found['mean_time']:.3f} s make {found['texts_by_littles_law']:.1f} at once;\nthe "
          f"server itself counted {found['texts_in_the_server']:.1f}.")  # fmt: skip
    if more is None:
        print("The server's memory is not known here.")
    else:
        sizes = ", ".join(f"{r.resident / 2**20:.1f}" for r in spread(readings))
        print(f"The server's memory over the test: {sizes} MiB; grown by {more / 2**20:+.1f} MiB "
              "since\nthe second quarter.")  # fmt: skip


def spread(readings: list[Reading], count: int = 6) -> list[Reading]:
    return [readings[i] for i in np.linspace(0, len(readings) - 1, count).astype(int)]


@script
def main(argv=None) -> None:
    args = arguments(argv)
    with contextlib.ExitStack() as stack:
        url, pid = args.url, None
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            url, pid = stack.enter_context(started(Path(folder)))
        print(f"{args.clients} clients ask {url} for {args.seconds:g} s.\n")
        checks = conclude(args, *asyncio.run(attack(args, url, pid)))
    if not all(checks.values()):
        raise SystemExit(1)


def conclude(
    args, records: list[Record], readings: list[Reading], last: Reading | None
) -> dict[str, bool]:
    """Print and write what was measured; returns the checks."""
    found, more = measured(records, readings), growth(readings)
    report(found, readings, more)
    checks = checks_of(records, readings, last)
    print()
    for name, passed in checks.items():
        print(f"{'yes' if passed else 'NO '}  {name}")
    for error in sorted({r.error for r in records if r.error})[:5]:
        print(f"     {error}")
    waits = {"first token": first_waits(records), "between tokens": gaps(records)}
    if all(waits.values()):
        save_figure(plot_waits_of_all(waits), args.out / "waits_seconds.png")
        save_figure(course(records, readings), args.out / "course_seconds.png")
    write_metrics(args.out, {
        "clients": args.clients,
        "checks": checks,
        "measured_over_the_seconds": {**found, "memory_growth": more},
    })  # fmt: skip
    print(f"\nThe figures are in {args.out}.")
    return checks


if __name__ == "__main__":
    main()
