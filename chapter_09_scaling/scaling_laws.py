"""A scaling law fitted to small models, and a prediction made before the large one is trained.

python chapter_09_scaling/scaling_laws.py
python chapter_09_scaling/scaling_laws.py --data tinyshakespeare.txt
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

import numpy as np
from tqdm import tqdm

from chapter_07_attention import Corpus, text_corpus
from chapter_09_scaling.power_law import (
    PowerLaw,
    bootstrap,
    compute_optimal,
    fit_power_law,
    interval,
)
from chapter_09_scaling.scaling_figures import (
    by_size,
    in_short,
    plot_iso_flops,
    plot_loss_against_compute,
    plot_predictions,
)
from chapter_09_scaling.small_models import (
    Run,
    Size,
    Training,
    parameters_of,
    small_gpt,
    tokens_of,
    trained,
)
from utils.commandline import parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_text
from utils.files import atomic_write, open_regular
from utils.plotting import save_figure


class Grid(NamedTuple):
    """The sizes and lengths (steps) that the law is fitted to, and the size that is left out."""

    sizes: Sequence[Size]
    lengths: Sequence[int]
    left_out: Size
    context: int
    training: Training


REAL = Grid(
    [Size(1, 16), Size(1, 32), Size(2, 32), Size(2, 48), Size(3, 64)],
    [500, 850, 1400, 2400, 4000],
    Size(4, 96),
    64,
    Training(),
)
BUILT_IN = Grid(
    [Size(1, 8), Size(1, 16), Size(1, 24), Size(1, 32)],
    [500, 1000, 2000],
    Size(1, 48),
    32,
    Training(),
)
QUICK = Grid(
    [Size(1, 16), Size(1, 32), Size(2, 32)],
    [5, 10, 20],
    Size(2, 48),
    16,
    Training(batch=4, rise=2),
)


class Finished:
    """The finished runs, in a file that is whole at every moment: what crashes loses one size."""

    def __init__(self, path: Path, setting: dict, resume: bool) -> None:
        self.path, self.setting = path, setting
        self.runs = self.read() if resume and path.exists() else []

    def read(self) -> list[Run]:
        """The runs in the file; ValueError where there are none, or those of another setting."""
        try:
            with open_regular(self.path) as file:
                saved = json.loads(file.read())
            runs = [Run(Size(*size), *rest) for size, *rest in saved["runs"]]
            setting = dict(saved["setting"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.path} holds no runs to go on from ({error})") from None
        other = [name for name, value in self.setting.items() if setting.get(name) != value]
        if other:
            raise ValueError(f"{self.path} is of another {', '.join(other)}: go without --resume")
        return runs

    def write(self) -> None:
        saved = {"setting": self.setting, "runs": self.runs}
        with atomic_write(self.path) as file:
            file.write(json.dumps(saved).encode() + b"\n")

    def trained(
        self, size: Size, corpus: Corpus, lengths: Sequence[int], training: Training, seed: int
    ) -> Iterator[Run]:
        """The runs of a size: those in the file if all are there, else trained now."""
        wanted = [tokens_of(steps, corpus, training) for steps in lengths]
        found = [run for run in self.runs if run.size == size]
        if [run.tokens for run in found] == wanted:
            yield from found
            return
        self.runs = [run for run in self.runs if run.size != size]
        for run in trained(size, corpus, lengths, training, seed):
            self.runs.append(run)
            self.write()
            yield run


def arguments(argv):
    flags = parser("scaling_laws", "Fit a scaling law to small GPTs and try it on a larger one.")
    known = ", ".join(known_names("text"))
    flags.add_argument("--data", metavar="NAME|FILE",
                       help=f"{known}, or a text; else Python's reference, and less")  # fmt: skip
    flags.add_argument("--resume", action="store_true", help="go on from the runs in --out")
    flags.add_argument("--resamples", type=whole_number(20, 100_000), default=1000,
                       help="fits from which the intervals are taken")  # fmt: skip
    return parse(flags, argv)


def report_runs(runs: Sequence[Run]) -> None:
    rows = by_size(runs).values()
    tokens = "".join(f"{in_short(n):>9}" for n in sorted({run.tokens for run in runs}))
    print("The loss on what was not learnt from, by tokens seen\n")
    print(f"  {'layers x width':15}{'parameters':>11}{tokens}")
    for row in rows:
        losses = "".join(f"{run.loss:9.4f}" for run in row)
        print(f"  {str(row[0].size):15}{row[0].parameters:11,}{losses}")


def report_law(law: PowerLaw, laws: PowerLaw, runs: Sequence[Run]) -> dict:
    """Print the constants with their intervals, and how far the runs are from the law."""
    errors = [law(run.parameters, run.tokens) / run.loss - 1 for run in runs]
    mean = float(np.mean(np.abs(errors)))
    print("\nL(N, D) = E + A / N^alpha + B / D^beta, nearest to these runs\n")
    constants = {}
    for name, value in law._asdict().items():
        low, high = interval(getattr(laws, name))
        print(f"  {name:6}{value:10.4g}   90 % of the resamples: {low:.4g} to {high:.4g}")
        constants[name] = {"value": value, "low": low, "high": high}
    print(f"\n  It misses the runs it was fitted to by {mean:.2%} on average.")
    return {"constants": constants, "mean_error_of_fit": mean}


def columns(runs: Sequence[Run]) -> tuple[list, list, list]:
    return ([r.parameters for r in runs], [r.tokens for r in runs], [r.loss for r in runs])


def predict(law: PowerLaw, laws: PowerLaw, planned: Run, runs: Sequence[Run]) -> dict:
    """Say what the model will reach that has not been trained yet."""
    at = planned.parameters, planned.tokens
    low, high = interval(laws(*at))
    best = min(runs, key=lambda run: run.loss)
    times = planned.flops / max(run.flops for run in runs)
    print(
        f"\nLeft out: {planned.size}, {planned.parameters:,} parameters, "
        f"{in_short(planned.tokens)} tokens: {planned.flops:.2g} FLOPs,\n{times:.1f} times as many "
        f"as any run had that the law has seen. The best of those is {best.loss:.4f}.\n"
    )
    print(
        f"  predicted {law(*at):8.4f}   90 % of the resamples: {low:.4f} to {high:.4f}", flush=True
    )
    said = {"predicted": law(*at), "predicted_low": low, "predicted_high": high}
    return {**said, "best_yet": best.loss, "times_the_flops": times}


def recommend(law: PowerLaw, left_out: Run) -> dict:
    """Print how the left-out model's compute would best have been spent."""
    parameters, tokens = (float(x) for x in compute_optimal(law, left_out.flops))
    loss = law(parameters, tokens)
    print(
        f"\nThe law would spend the same {left_out.flops:.2g} FLOPs on {in_short(parameters)} "
        f"parameters and\n{in_short(tokens)} tokens, and expects {loss:.4f} of them."
    )
    return {"optimal": {"parameters": parameters, "tokens": tokens, "loss": loss}}


def budgets(runs: Sequence[Run]) -> np.ndarray:
    """Five amounts of compute (FLOPs) within what was measured."""
    flops = [run.flops for run in runs]
    return np.geomspace(2 * min(flops), max(flops), 5)


@script
def main(argv=None) -> None:
    args = arguments(argv)
    grid = QUICK if args.quick else BUILT_IN if args.data is None else REAL
    text = load_text(args.data)
    text = text[:20_000] if args.quick else text
    corpus = text_corpus(text, grid.context)
    setting = {
        "text": f"{len(text)} characters, {zlib.crc32(text.encode()):08x}",
        "seed": args.seed,
        "context": grid.context,
        **grid.training._asdict(),
    }
    finished = Finished(args.out / "runs.json", setting, args.resume)
    runs: list[Run] = []
    with tqdm(total=len(grid.sizes) * len(grid.lengths), desc="runs", disable=None) as progress:
        for size in grid.sizes:
            for run in finished.trained(size, corpus, grid.lengths, grid.training, args.seed):
                runs.append(run)
                progress.update()
    report_runs(runs)
    law = fit_power_law(*columns(runs))
    resamples = min(args.resamples, 50) if args.quick else args.resamples
    laws = bootstrap(law, *columns(runs), resamples, rng=np.random.default_rng(args.seed))
    metrics = report_law(law, laws, runs)
    metrics["runs"] = [run._asdict() for run in runs]
    planned = Run(
        grid.left_out,
        parameters_of(small_gpt(grid.left_out, corpus)),
        tokens_of(grid.lengths[-1], corpus, grid.training),
        np.nan,
    )
    metrics.update(predict(law, laws, planned, runs))
    write_metrics(args.out, metrics)  # said before it is known

    (left_out,) = finished.trained(
        grid.left_out, corpus, grid.lengths[-1:], grid.training, args.seed
    )
    error = metrics["predicted"] / left_out.loss - 1
    print(f"  measured  {left_out.loss:8.4f}\n  error     {error:+8.2%}")
    metrics.update(measured=left_out.loss, error=error, left_out=left_out._asdict())
    metrics.update(recommend(law, left_out))
    write_metrics(args.out, metrics)
    figures = {
        "loss_against_compute": plot_loss_against_compute(runs, law, left_out),
        "iso_flops": plot_iso_flops(runs, law, budgets(runs)),
        "predicted_and_measured": plot_predictions(runs, law, left_out),
    }
    for name, figure in figures.items():
        save_figure(figure, args.out / f"{name}.png")
    print(f"\nThe runs, the budgets and the prediction are drawn in {args.out}/")


if __name__ == "__main__":
    main()
