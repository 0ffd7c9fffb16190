"""A GPT cut into stages: the same training as in one process, and where the stages wait.

python chapter_09_scaling/train_pipeline.py
python chapter_09_scaling/train_pipeline.py --data tinyshakespeare.txt --ranks 4
"""

from __future__ import annotations

from chapter_03_neural_nets import Batches, train
from chapter_05_gradient_mastery import AdamW
from chapter_07_attention import GPT
from chapter_09_scaling.backends import run
from chapter_09_scaling.communicator import Communicator, SingleProcess
from chapter_09_scaling.pipeline import Pipeline
from chapter_09_scaling.pipeline_figures import from_start, plot_timelines
from chapter_09_scaling.pipeline_schedules import (
    SCHEDULES,
    bubble_fraction,
    ideal_bubble,
    timeline,
)
from chapter_09_scaling.rank_scripts import (
    add_text_flag,
    add_training_flags,
    config_of,
    corpus_of,
    settings_of,
)
from utils import manual_seed
from utils.commandline import parse, parser, script, whole_number, write_metrics
from utils.plotting import save_figure


def work(comm: Communicator, settings: dict) -> dict:
    return {schedule: training(comm, schedule, settings) for schedule in SCHEDULES}


def training(comm: Communicator, schedule: str, settings: dict) -> dict:
    """Train as one of the stages: losses, and what this stage did and when, step by step."""
    manual_seed(settings["seed"])
    corpus = corpus_of(settings)
    config = config_of(settings, corpus.tokenizer.vocab_size)
    pipeline = Pipeline(comm, GPT(config), settings["micro_batches"], SCHEDULES[schedule])
    optimizer = AdamW(pipeline.stage.parameters(), 3e-3, betas=(0.9, 0.99), weight_decay=0.1)
    batches = Batches(*corpus.train, batch_size=settings["batch"], drop_last=True)
    steps = []
    history = train(pipeline.stage, optimizer, batches, settings["steps"], loss=pipeline.loss,
                    before_step=[lambda _: steps.append(pipeline.spans)],
                    description=schedule)  # fmt: skip
    return {"losses": history.losses, "steps": steps, "kept": pipeline.most_kept,
            "sent": pipeline.sent_bytes}  # fmt: skip


def quickest(ranks: list) -> list:
    """The spans of all stages in the step that took least time: the one least disturbed."""
    steps = [
        from_start([span for rank in ranks for span in rank["steps"][i]], 1000)
        for i in range(len(ranks[0]["steps"]))
    ]
    return min(steps, key=lambda spans: max(span.end for span in spans))


def arguments(argv):
    flags = parser("train_pipeline", "Train a GPT that is cut into stages.")
    add_training_flags(flags, steps=10, batch=16, layers=4, heads=2, width=128, context=64)
    add_text_flag(flags)
    flags.add_argument("--micro-batches", type=whole_number(1, 1024), default=8,
                       help="parts of a batch")  # fmt: skip
    args = parse(flags, argv)
    if args.quick:
        args.steps, args.width, args.context = min(args.steps, 3), 16, 16
    return args


@script
def main(argv=None) -> None:
    args = arguments(argv)
    # What is wrong is said once, before any rank starts.
    settings = settings_of(args)
    config_of(settings, corpus_of(settings).tokenizer.vocab_size)
    if args.backend == "local" and args.ranks > args.layers:
        raise ValueError(f"{args.layers} layers cannot be cut into {args.ranks} stages")
    told = run(work, args.backend, args.ranks, settings, patience=args.patience)
    if told is None:
        return  # a rank of MPI that is not the first
    results = {name: [rank[name] for rank in told] for name in SCHEDULES}
    single = training(SingleProcess(), "gpipe", {**settings, "micro_batches": 1})["losses"]
    stages = len(results["gpipe"])
    parts = min(args.micro_batches, args.batch)
    theory = ideal_bubble(stages, parts)
    print(f"A GPT of {args.layers} layers in {stages} stages, {parts} micro-batches a step\n")
    print(f"  {'':8}{'bubble':>8}{'measured':>10}{'kept':>10}{'sent (MB)':>16}{'last loss':>11}"
          f"{'off by':>9}")  # fmt: skip
    metrics, measured, predicted = {"bubble": theory, "last_loss_single": single[-1]}, {}, {}
    for name, ranks in results.items():
        measured[name] = quickest(ranks)
        predicted[name] = timeline([SCHEDULES[name](s, stages, parts) for s in range(stages)])
        waits, loss = bubble_fraction(measured[name]), ranks[0]["losses"][-1]
        off = max(abs(a - b) for a, b in zip(ranks[0]["losses"], single))
        kept, sent = ([rank[key] for rank in ranks] for key in ("kept", "sent"))
        print(f"  {name:8}{theory:8.1%}{waits:10.1%}{', '.join(map(str, kept)):>10}"
              f"{', '.join(f'{n / 1e6:.2f}' for n in sent):>16}{loss:11.6f}{off:9.0e}")  # fmt: skip
        metrics.update({f"measured_bubble_seconds_{name}": waits, f"kept_{name}": kept,
                        f"sent_bytes_{name}": sent, f"last_loss_{name}": loss,
                        f"largest_difference_{name}": off})  # fmt: skip
    print(f"  {'single':8}{'':44}{single[-1]:11.6f}")
    write_metrics(args.out, metrics)
    save_figure(plot_timelines(predicted), args.out / "timelines.png")
    save_figure(plot_timelines(measured, "milliseconds"), args.out / "timelines_seconds.png")
    print(f"\nLook at {args.out}/timelines.png (as planned) and timelines_seconds.png (as it went)")


if __name__ == "__main__":
    main()
