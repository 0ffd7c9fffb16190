"""Where a model's parameters are: a table, one row a parameter."""

from __future__ import annotations

from chapter_03_neural_nets.module import Module


def count_parameters(model: Module, trainable_only: bool = False) -> int:
    """The number of numbers in all parameters; shared ones count once."""
    return sum(p.size for p in model.parameters() if p.requires_grad or not trainable_only)


def summary(model: Module) -> str:
    """A table of all parameters (frozen ones say so), with their shapes, and the total.

    >>> from chapter_03_neural_nets import Linear
    >>> print(summary(Linear(3, 2)))
    weight    2 x 3                6
    bias      2                    2
    Linear                         8 parameters
    """
    rows = []
    for name, p in model.named_parameters():
        shape = " x ".join(map(str, p.shape)) or "1"
        rows.append((name, shape, f"{p.size:,}" + ("" if p.requires_grad else "  frozen")))
    kind = type(model).__name__
    left = max(len(text) for text in [kind, *(name for name, _, _ in rows)]) + 4
    middle = max([12, *(len(shape) + 2 for _, shape, _ in rows)])
    lines = [f"{name:{left}}{shape:{middle}}{_right(count)}" for name, shape, count in rows]
    total = f"{kind:{left}}{'':{middle}}{_right(f'{count_parameters(model):,}')} parameters"
    return "\n".join([*lines, total])


def _right(count: str) -> str:
    """The number ends in column 10, whatever is said after it."""
    number, space, rest = count.partition("  ")
    return f"{number:>10}{space}{rest}"
