"""A network trained with no autodiff at all, every gradient by hand and held against the engine's.

python chapter_05_gradient_mastery/manual_backprop.py
python chapter_05_gradient_mastery/manual_backprop.py --data names.txt
"""

from __future__ import annotations

import numpy as np

from chapter_02_text_generation import CharacterTokenizer, context_windows
from chapter_03_neural_nets import SGD, Batches, ContextMLP, cross_entropy, evaluate, train
from chapter_04_training_dynamics import BatchNorm1d
from chapter_05_gradient_mastery import (
    backward,
    forward,
    loss_and_gradients,
    plot_differences,
    plot_two_trainings,
    train_by_hand,
)
from utils import Tensor, grad
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_names, split_names
from utils.plotting import save_figure

BOUNDARY = "\n"


def arguments(argv):
    flags = parser("manual_backprop", "Backpropagation by hand, line by line and compact.")
    known = ", ".join(known_names("names"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or a file of one name a line; else colours"
    )
    flags.add_argument("--steps", type=whole_number(1), default=2000, help="training steps")
    flags.add_argument("--context", type=whole_number(1), default=3, help="characters it sees")
    flags.add_argument("--embedding", type=whole_number(1), default=10, help="numbers a character")
    flags.add_argument("--hidden", type=whole_number(1), default=64, help="hidden units")
    flags.add_argument("--batch", type=whole_number(2), default=64, help="examples a step")
    flags.add_argument("--lr", type=number(above=0), default=0.05, help="learning rate")
    return parse(flags, argv)


def build(args, vocab_size: int) -> ContextMLP:
    """The network that `by_hand` writes out, in float64, where 1e-12 can be told from 0."""
    model = ContextMLP(
        vocab_size, args.context, args.embedding, [args.hidden], normalization=BatchNorm1d
    )
    return model.astype(np.float64)


def differences_by_line(model, ids, targets) -> dict[str, float]:
    """How far each gradient by hand is from autodiff's, from the loss back to the parameters."""
    arrays = model.state_dict()
    tensors = {name: Tensor(array, requires_grad=True) for name, array in arrays.items()
               if array.dtype.kind == "f"}  # fmt: skip
    values = forward(tensors, ids, targets)
    by_hand = backward(arrays, forward(arrays, ids, targets), ids, targets)
    asked = {name: tensors.get(name, values.get(name)) for name in by_hand}
    found = grad(values["loss"], list(asked.values()))
    return {name: difference(by_hand[name], g.data) for name, g in zip(asked, found)}


def differences_of_compact(model, ids, targets) -> dict[str, float]:
    """The same for the compact formulas, against backward through the modules."""
    _, by_hand, _ = loss_and_gradients(model.state_dict(), ids, targets)
    model.zero_grad()
    cross_entropy(model(ids), targets).backward()
    return {name: difference(by_hand[name], p.grad) for name, p in model.named_parameters()}


def difference(by_hand: np.ndarray, by_engine: np.ndarray) -> float:
    if by_hand.shape != by_engine.shape:
        raise ValueError(f"a gradient by hand has shape {by_hand.shape}, not {by_engine.shape}")
    return float(np.abs(by_hand - by_engine).max())


def train_both(args, model, data) -> tuple[dict, list[float], list[float]]:
    """Two trainings from the same start on the same batches; returns the state made by hand."""
    state = {name: array.copy() for name, array in model.state_dict().items()}
    seed = int(np.random.default_rng(args.seed).integers(2**31))

    def batches():
        rng = np.random.default_rng(seed)
        return Batches(*data, batch_size=min(args.batch, len(data[0])), drop_last=True, rng=rng)

    by_hand = train_by_hand(state, batches(), args.steps, args.lr)
    optimizer = SGD(model.parameters(), args.lr, momentum=0.9)
    by_engine = train(model, optimizer, batches(), args.steps).losses
    return state, by_hand, by_engine


@script
def main(argv=None) -> None:
    args = arguments(argv)
    args.steps = min(args.steps, 200) if args.quick else args.steps
    names = load_names(args.data)
    tokenizer = CharacterTokenizer.train("".join(names), [BOUNDARY])
    parts = [[tokenizer.encode(name) for name in part] for part in split_names(names)]
    data, validation = (context_windows(part, args.context) for part in parts[:2])
    model = build(args, tokenizer.vocab_size)
    ids, targets = (a[: args.batch] for a in data)

    by_line = differences_by_line(model, ids, targets)
    compact = differences_of_compact(model, ids, targets)
    print("Largest difference between the gradient by hand and the engine's, in float64:\n")
    print("  line by line")
    for name, value in by_line.items():
        print(f"    {name:20} {value:.1e}")
    print("  compact")
    for name, value in compact.items():
        print(f"    {name:20} {value:.1e}")
    worst = max([*by_line.values(), *compact.values()])
    print(f"  the largest of all: {worst:.1e}")

    print(f"\nTraining twice, {args.steps} steps on {len(names)} names:")
    state, by_hand, by_engine = train_both(args, model, data)
    val_engine = evaluate(model, *validation)["loss"]
    model.load_state_dict(state)
    val_hand = evaluate(model, *validation)["loss"]
    print(f"  {'':18}{'last loss':>14}{'validation':>14}")
    print(f"  {'by hand':18}{by_hand[-1]:14.10f}{val_hand:14.10f}")
    print(f"  {'with autodiff':18}{by_engine[-1]:14.10f}{val_engine:14.10f}")

    save_figure(plot_differences(by_line), args.out / "differences.png")
    save_figure(plot_two_trainings(by_hand, by_engine), args.out / "trainings.png")
    metrics = {
        "max_abs_difference": worst,
        "differences_line_by_line": by_line,
        "differences_compact": compact,
        "steps": args.steps,
        "last_loss_by_hand": by_hand[-1],
        "last_loss_autodiff": by_engine[-1],
        "val_nll_by_hand": val_hand,
        "val_nll_autodiff": val_engine,
    }
    write_metrics(args.out, metrics)
    print(f"\nThe differences and both loss curves are drawn in {args.out}/")


if __name__ == "__main__":
    main()
