"""Which layout for which model on which cluster, and where the time of a step goes.

python chapter_09_scaling/simulate_cluster.py
python chapter_09_scaling/simulate_cluster.py --layers 32 --width 4096 --heads 32 --nodes 4
python chapter_09_scaling/simulate_cluster.py --table megatron_lm_table_1.csv
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from chapter_07_attention import GPTConfig
from chapter_09_scaling.accounting import parameters
from chapter_09_scaling.cluster import CLUSTERS, Cluster
from chapter_09_scaling.published import Row, read_table
from chapter_09_scaling.simulator import Report, best_layout
from chapter_09_scaling.simulator_figures import plot_memory, plot_predictions, plot_step_parts
from utils.commandline import parse, parser, script, whole_number, write_metrics
from utils.plotting import save_figure


class Job(NamedTuple):
    """A model's sizes, and what it is trained with."""

    layers: int
    width: int
    heads: int
    gpus: int
    batch: int


# Those of Narayanan et al., 2021, arXiv:2104.04473, table 1, and a small one for small clusters.
JOBS = {
    "1.7B": Job(24, 2304, 24, 32, 512),
    "7.5B": Job(36, 4096, 32, 128, 512),
    "18B": Job(40, 6144, 48, 256, 1024),
    "39B": Job(48, 8192, 64, 512, 1536),
    "146B": Job(80, 12288, 96, 1536, 2304),
    "530B": Job(105, 20480, 128, 2520, 2520),
    "1T": Job(128, 25600, 160, 3072, 3072),
}
QUICK = ("1.7B", "18B")


def arguments(argv):
    flags = parser("simulate_cluster", "Simulate the training of GPTs on clusters of any size.")
    number = {"type": whole_number(1, 1_000_000), "metavar": "N"}
    flags.add_argument("--cluster", choices=CLUSTERS, default="a100", help="the kind of machine")
    flags.add_argument("--model", choices=JOBS, help="one of those simulated; else all")
    flags.add_argument("--layers", **number, help="your own model: its layers,")
    flags.add_argument("--width", **number, help="its width,")
    flags.add_argument("--heads", **number, help="and the heads of each layer")
    flags.add_argument("--vocabulary", **number, default=51_200, help="tokens it knows")
    flags.add_argument("--context", **number, default=2048, help="tokens of a text")
    flags.add_argument("--gpus", **number, help="how many GPUs; else the model's, or the cluster's")
    flags.add_argument("--nodes", **number, help="or how many nodes of them")
    flags.add_argument("--batch", **number, help="texts a step; else the model's, or 4 a GPU")
    flags.add_argument("--tensor", **number, help="GPUs that share each matrix; else the best")
    flags.add_argument("--pipeline", **number, help="stages; else the best")
    flags.add_argument("--table", type=Path, metavar="FILE.csv", help="published runs to compare")
    return parse(flags, argv)


def chosen(args) -> dict[str, Job]:
    """The models that are asked for, by name."""
    cluster = CLUSTERS[args.cluster]
    if args.gpus is not None and args.nodes is not None:
        raise ValueError("--gpus and --nodes say the same: give one of them")
    gpus = args.gpus if args.nodes is None else args.nodes * cluster.gpus_per_node
    own = {"layers": args.layers, "width": args.width, "heads": args.heads}
    given = {name: size for name, size in own.items() if size is not None}
    changed = {name: n for name, n in (("gpus", gpus), ("batch", args.batch)) if n is not None}
    if given and args.model is None:
        if len(given) < len(own):
            raise ValueError("a model of your own takes all of --layers, --width and --heads")
        gpus = gpus or cluster.gpus
        return {"yours": Job(**own, gpus=gpus, batch=args.batch or 4 * gpus)}
    names = [args.model] if args.model else QUICK if args.quick else JOBS
    return {name: JOBS[name]._replace(**given, **changed) for name in names}


def simulated(job: Job, cluster: Cluster, args, **fixed) -> Report:
    """The job in the fastest layout that fits."""
    # Dropout as the published runs have it.
    model = GPTConfig(args.vocabulary, args.context, job.layers, job.heads, job.width, dropout=0.1)
    return best_layout(model, cluster.of(job.gpus), job.batch, **fixed)


def as_metrics(report: Report) -> dict:
    """All that is said of a simulated step."""
    return {
        "parameters": parameters(report.model),
        "gpus": report.cluster.gpus,
        "batch": report.global_batch,
        **vars(report.layout),
        "step_seconds": report.seconds,
        "tflops_per_gpu": report.flops_per_gpu / 1e12,
        "share_of_peak": report.flops_per_gpu / report.cluster.peak_flops,
        "useful_share_of_peak": report.utilization,
        "parts": {name: seconds / report.seconds for name, seconds in report.parts.items()},
        "memory_gb": {name: size / 1e9 for name, size in report.memory.items()},
        "memory_gb_in_all": report.memory_bytes / 1e9,
    }


def say_layouts(reports: dict[str, Report]) -> None:
    print(f"  {'model':7}{'GPUs':>5} = {'tensor x pipeline x data':24}{'pieces':>7}{'micro':>6}"
          f"{'again':>6}{'GB':>6}{'s a step':>10}{'TFLOP/s':>9}{'useful':>8}")  # fmt: skip
    for name, report in reports.items():
        layout = report.layout
        sizes = f"{layout.tensor:6} x {layout.pipeline:8} x {layout.data:4}"
        again = "yes" if layout.recompute else "no"
        print(f"  {name:7}{layout.gpus:5} = {sizes:24}{layout.interleaved:7}{layout.micro_batch:6}"
              f"{again:>6}{report.memory_bytes / 1e9:6.1f}{report.seconds:10.2f}"
              f"{report.flops_per_gpu / 1e12:9.2f}{report.utilization:8.1%}")  # fmt: skip


def say_parts(reports: dict[str, Report]) -> None:
    print("\nOf a step are spent on")
    print(f"  {'':18}" + "".join(f"{name:>8}" for name in reports))
    for part in next(iter(reports.values())).parts:
        shares = (report.parts[part] / report.seconds for report in reports.values())
        print(f"  {part:18}" + "".join(f"{share:8.1%}" for share in shares))


def explore(args) -> None:
    cluster = CLUSTERS[args.cluster]
    fixed = {"tensor": args.tensor, "pipeline": args.pipeline}
    bar = tqdm(chosen(args).items(), desc="layouts", disable=None)
    reports = {name: simulated(job, cluster, args, **fixed) for name, job in bar}
    print("The fastest layouts that fit into memory. A GPU has its layers in so many pieces, takes")
    print("so many texts at a time (micro), and runs layers forward again or not; useful is the")
    print("share of the peak that does not go into that.\n")
    say_layouts(reports)
    say_parts(reports)
    write_metrics(args.out, {name: as_metrics(report) for name, report in reports.items()})
    save_figure(plot_step_parts(reports), args.out / "time.png")
    save_figure(plot_memory(reports), args.out / "memory.png")
    print(f"\nFigures: {args.out}/time.png, {args.out}/memory.png")


def compare(args, rows: list[Row]) -> None:
    metrics, reports = {}, {}
    for row in tqdm(rows, desc="rows", disable=None):
        job = Job(row.layers, row.width, row.heads, row.gpus, row.batch)
        report = simulated(job, CLUSTERS[args.cluster], args, tensor=row.tensor,
                           pipeline=row.pipeline, recompute=True)  # fmt: skip
        reports[row.name] = report
        metrics[row.name] = {
            "published_tflops": row.flops / 1e12,
            "ratio": report.flops_per_gpu / row.flops,
            **as_metrics(report),
        }
    largest = max(abs(row["ratio"] - 1) for row in metrics.values())
    print(f"  {'billions':>8}{'GPUs':>6}{'micro':>7}{'pieces':>7}{'simulated':>11}{'published':>11}"
          f"{'ratio':>8}")  # fmt: skip
    for name, row in metrics.items():
        print(
            f"  {name:>8}{row['gpus']:6}{row['micro_batch']:7}{row['interleaved']:7}"
            f"{row['tflops_per_gpu']:11.1f}{row['published_tflops']:11.1f}{row['ratio']:8.3f}"
        )
    print(f"\nTFLOP/s a GPU; the largest error is {largest:.1%}")
    say_parts(reports)
    write_metrics(args.out, {"rows": metrics, "largest_error": largest})
    found = [report.flops_per_gpu for report in reports.values()]
    figure = plot_predictions(list(reports), found, [row.flops for row in rows])
    save_figure(figure, args.out / "published.png")
    print(f"\nFigure: {args.out}/published.png")


@script
def main(argv=None) -> None:
    args = arguments(argv)
    if args.table is None:
        explore(args)
    else:
        compare(args, read_table(args.table))


if __name__ == "__main__":
    main()
