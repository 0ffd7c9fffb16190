"""Is this expression true? Asked of a tree, a chain and a bag of the same symbols.

python chapter_06_hierarchical/train_trees.py
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from chapter_03_neural_nets import (
    Batches,
    count_parameters,
    evaluate,
    evaluating,
    predict,
    rise_and_fall,
    sigmoid,
    train,
)
from chapter_05_gradient_mastery import AdamW, cross_entropy
from chapter_06_hierarchical import (
    BagReader,
    ChainReader,
    TreeReader,
    depth,
    examples,
    library_expressions,
    plot_accuracy_by_depth,
    plot_expression,
    plot_validation,
    written,
)
from chapter_06_hierarchical.figures import SHOWN
from utils import manual_seed
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.plotting import save_figure

READERS = {"tree": TreeReader, "chain": ChainReader, "bag": BagReader}
FEWEST = 20  # different expressions of a depth that say anything about it


def arguments(argv):
    flags = parser("train_trees", "Whether expressions are true: a tree, a chain and a bag.")
    flags.add_argument("--steps", type=whole_number(1), default=3000, help="training steps")
    flags.add_argument("--examples", type=whole_number(100), default=60_000, help="to learn from")
    flags.add_argument("--learnt-depth", type=whole_number(1), default=3,
                       help="the deepest expressions to learn from")  # fmt: skip
    flags.add_argument("--size", type=whole_number(1), default=64, help="numbers a memory")
    flags.add_argument("--batch", type=whole_number(1), default=64, help="expressions a step")
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="the highest learning rate")
    flags.add_argument("--weight-decay", type=number(least=0), default=0.01, help="of AdamW")
    return parse(flags, argv)


def fit(reader, args, data, validation, steps: int, name: str):
    return train(
        reader,
        AdamW(reader.parameters(), rise_and_fall(args.lr, steps), weight_decay=args.weight_decay),
        Batches(*data, batch_size=min(args.batch, len(data[0]))),
        steps,
        loss=lambda reader, trees, truths: cross_entropy(reader(trees), truths),
        evaluate=lambda reader: evaluate(reader, *validation),
        evaluate_every=max(steps // 10, 1),
        description=name,
    )


def parted(expressions, learnt_depth: int, rng):
    """Expressions to learn from, a tenth of them held back, and those that are deeper."""
    if not expressions:
        raise ValueError("no expressions: this Python came without its library's sources")
    shallow = [e for e in expressions if depth(e) <= learnt_depth]
    deeper = [e for e in expressions if depth(e) > learnt_depth]
    order = rng.permutation(len(shallow))
    held = max(len(shallow) // 10, 1)
    if len(shallow) < 2 or not deeper:
        raise ValueError(
            f"--learnt-depth {learnt_depth} leaves nothing to learn from or nothing deeper: the "
            f"deepest expression has {max(map(depth, expressions))}"
        )
    return [shallow[i] for i in order[held:]], [shallow[i] for i in order[:held]], deeper


def belief(reader: TreeReader, expression) -> float:
    """How likely the reader holds an expression to be true."""
    with evaluating(reader):
        false, true = reader([expression]).data[0]
    return float(sigmoid(true - false))


@script
def main(argv=None) -> None:
    args = arguments(argv)
    steps, count = args.steps, args.examples
    if args.quick:
        steps, count = min(steps, 10), min(count, 300)
    rng = np.random.default_rng(args.seed)
    expressions = library_expressions(60 if args.quick else None)
    learnt, held, deeper = parted(expressions, args.learnt_depth, rng)
    data, validation = examples(learnt, count, rng), examples(held, count // 20, rng)
    frequent = {d for d, n in Counter(map(depth, deeper)).items() if n >= FEWEST}
    test = {
        d: examples([e for e in deeper if depth(e) == d], count // 100, rng)
        for d in sorted(frequent or {depth(deeper[0])})
    }
    print(f"{len(expressions)} different expressions in Python's library, to learn from "
          f"{len(learnt)} of depth {args.learnt_depth} or less;\nto be judged on others of that "
          f"depth, and on deeper ones, up to {max(test)}. For example:\n")  # fmt: skip
    for d, (trees, truths) in list(test.items())[:2]:
        shown = " ".join(SHOWN.get(symbol, symbol) for symbol in written(trees[0]))
        print(f"  depth {d}: {shown} is {bool(truths[0])}")
    depths = "".join(f"{d:>8}" for d in test)
    print(f"\n  {'right':8}{'parameters':>12}{f'depth <= {args.learnt_depth}':>12}{depths}"
          f"{'deeper':>10}")  # fmt: skip
    metrics, histories, by_depth = {"steps": steps, "expressions": len(expressions)}, {}, {}
    readers = {}
    for name, kind in READERS.items():
        manual_seed(args.seed)
        reader = readers[name] = kind(args.size)
        histories[name] = fit(reader, args, data, validation, steps, name)
        own = evaluate(reader, *validation)["accuracy"]
        right = {
            d: float(np.mean(predict(reader, trees).argmax(axis=1) == truths))
            for d, (trees, truths) in test.items()
        }
        mean = float(np.mean(list(right.values())))
        columns = "".join(f"{accuracy:8.1%}" for accuracy in right.values())
        print(f"  {name:8}{count_parameters(reader):12,}{own:12.2%}{columns}{mean:10.2%}")
        by_depth[name] = {args.learnt_depth: own, **right}
        metrics.update({f"accuracy_{name}": mean, f"accuracy_{name}_by_depth": right,
                        f"accuracy_{name}_learnt_depth": own})  # fmt: skip

    save_figure(plot_validation(histories, "Expressions"), args.out / "validation.png")
    figure = plot_accuracy_by_depth(by_depth, args.learnt_depth)
    save_figure(figure, args.out / "accuracy_by_depth.png")
    trees, _ = test[min(test)]
    shown = max(trees[:50], key=lambda tree: len(written(tree)) if len(written(tree)) < 40 else 0)
    figure = plot_expression(shown, lambda part: belief(readers["tree"], part))
    save_figure(figure, args.out / "expression.png")
    write_metrics(args.out, metrics)
    print(f"\nThe losses, accuracy by depth, and what the tree believes of each part of an "
          f"expression\nare drawn in {args.out}/")  # fmt: skip


if __name__ == "__main__":
    main()
