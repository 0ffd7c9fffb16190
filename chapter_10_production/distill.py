"""The same small GPT learns twice: from a text alone, and with a large one that has read it.

python chapter_10_production/distill.py
python chapter_10_production/distill.py runs/train_gpt/model --data tinyshakespeare.txt
"""

from __future__ import annotations

from pathlib import Path

from chapter_03_neural_nets import count_parameters, evaluate
from chapter_07_attention import GPT, Corpus, GPTConfig, fit, save_pretrained, written_by
from chapter_07_attention.language_training import JUDGED_AT_ONCE
from chapter_10_production.compress import trained_model
from chapter_10_production.compression_figures import plot_students
from chapter_10_production.distillation import distill
from utils import manual_seed
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names
from utils.plotting import save_figure


def arguments(argv):
    flags = parser("distill", "Teach a small GPT by a large one, and let it learn alone.")
    flags.add_argument("folder", nargs="?", type=Path, metavar="FOLDER",
                       help="a saved model, the teacher; without it, one is trained")  # fmt: skip
    flags.add_argument("--data", metavar="NAME|FILE",
                       help=f"text for all: {', '.join(known_names('text'))}, or a file; else "
                       "Python's reference")  # fmt: skip
    flags.add_argument("--teacher-steps", type=whole_number(1), default=800, dest="steps",
                       help="of training, if any")  # fmt: skip
    flags.add_argument("--student-steps", type=whole_number(1), default=400, help="each time")
    flags.add_argument("--layers", type=whole_number(1), default=2, help="of the student")
    flags.add_argument("--heads", type=whole_number(1), default=2, help="of the student")
    flags.add_argument("--width", type=whole_number(1), default=48, help="of the student")
    flags.add_argument("--temperature", type=number(above=0), default=2.0, help="of both logits")
    flags.add_argument("--alpha", type=number(least=0, most=1), default=0.1,
                       help="share of the text's own loss")  # fmt: skip
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="the student's rate")
    flags.add_argument("--threads", type=whole_number(1), default=2, help="parts of every batch")
    args = parse(flags, argv)
    args.sizes = (64, 2, 4, 128)  # context, layers, heads, width
    if args.quick:
        args.sizes, args.layers, args.width = (16, 2, 2, 32), 1, 16
        args.steps, args.student_steps = min(args.steps, 4), min(args.student_steps, 4)
    return args


def new_student(teacher: GPT, corpus: Corpus, args) -> GPT:
    """The same one each time."""
    manual_seed(args.seed + 1)
    sizes = corpus.tokenizer.vocab_size, corpus.block_size, args.layers, args.heads, args.width
    return GPT(GPTConfig(*sizes))


@script
def main(argv=None) -> None:
    args = arguments(argv)
    teacher, corpus = trained_model(args)
    best = evaluate(teacher, *corpus.validation, batch_size=JUDGED_AT_ONCE)["loss"]
    shared = {"steps": args.student_steps, "lr": args.lr, "threads": args.threads,
              "judged": 2 if args.quick else 8}  # fmt: skip
    alone = new_student(teacher, corpus, args)
    histories = {"alone": fit(alone, corpus, description="alone", **shared)}
    taught = new_student(teacher, corpus, args)
    histories["taught"] = distill(taught, teacher, corpus, temperature=args.temperature,
                                  alpha=args.alpha, description="taught", **shared)  # fmt: skip
    losses = {name: history.evaluations[-1]["loss"] for name, history in histories.items()}
    sizes = [count_parameters(model) for model in (teacher, taught)]
    print(f"A teacher of {sizes[0]:,} parameters, a student of {sizes[1]:,} that learns for "
          f"{args.student_steps} steps;\ntemperature {args.temperature:g}, "
          f"{args.alpha:.0%} of the loss from the text\n")  # fmt: skip
    print(f"  {'':18}{'held-out loss':>14}")
    print(f"  {'student, alone':18}{losses['alone']:14.4f}")
    print(f"  {'student, taught':18}{losses['taught']:14.4f}")
    print(f"  {'teacher':18}{best:14.4f}")
    gained = losses["alone"] - losses["taught"]
    metrics = {
        "teacher_parameters": sizes[0],
        "student_parameters": sizes[1],
        "teacher_loss": best,
        "alone_loss": losses["alone"],
        "taught_loss": losses["taught"],
        "gained": gained,
        "share_of_gap_closed": gained / (losses["alone"] - best),
        "sample": written_by(taught, corpus, 20 if args.quick else 200, temperature=0.8),
    }
    print(f"\nTaught, it is {gained:.4f} nats better: {metrics['share_of_gap_closed']:.0%} of what "
          "it lacked to the teacher.")  # fmt: skip
    save_pretrained(taught, args.out / "model", corpus.tokenizer)
    write_metrics(args.out, metrics)
    save_figure(plot_students(histories, best), args.out / "students.png")
    print(f"The student is in {args.out}/model/, the losses on the way in {args.out}/students.png")


if __name__ == "__main__":
    main()
