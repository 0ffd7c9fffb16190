"""Real trees: the expressions of Python's own standard library, and whether each is true.

A program is written as a chain of characters and meant as a tree. Here every expression made of
operators (and, or, not, comparisons, arithmetic, if-else) gives its tree, with all else (names,
calls, attributes, constants) as leaves. A leaf is set to 0 or 1 at random, and Python's operators
say whether the whole is true. Which numbers went in says little about that; how they are nested
says everything, so what was learnt from small trees can be asked of deeper ones.
"""

from __future__ import annotations

import ast
import operator
import sysconfig
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence, Tuple, Union

import numpy as np
from tqdm import tqdm

# A leaf is None, or its value; else the operator's name in `ast`, then the operands.
Expression = Union[None, int, Tuple[Any, ...]]

OPERATORS: dict[str, Callable] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Mod": operator.mod,
    "FloorDiv": operator.floordiv, "Div": operator.truediv,
    "Eq": operator.eq, "NotEq": operator.ne, "Is": operator.eq, "IsNot": operator.ne,
    "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt, "GtE": operator.ge,
    "Not": operator.not_, "USub": operator.neg, "UAdd": operator.pos,
}  # fmt: skip
CHOICES = ("And", "Or", "IfExp")  # their value is the value of one of their operands
SYMBOLS = ("0", "1", *OPERATORS, *CHOICES)
ORDER_MATTERS = {"Sub", "Mod", "FloorDiv", "Div", "Lt", "LtE", "Gt", "GtE", "IfExp"}


def library_expressions(files: int | None = None) -> list[Expression]:
    """The different expressions of the standard library's first so many files, tests left out.

    The library belongs to the Python that runs this, so another version has others.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    modules = sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix())
    skipped = ("site-packages", "dist-packages", "test", "tests")
    modules = [m for m in modules if not set(skipped) & set(m.relative_to(root).parts)]
    found = set()
    for module in tqdm(modules[:files], desc="reading the library", disable=None):
        try:
            tree = ast.parse(module.read_bytes())
        except (SyntaxError, ValueError):  # some are written for other versions
            continue
        found.update(expressions_of(tree))
    return sorted(found, key=repr)


def expressions_of(program: ast.AST) -> Iterator[Expression]:
    """Every expression of a program that is not part of a larger one."""
    waiting = [program]
    while waiting:
        leaves: list[ast.AST] = []
        expression = as_expression(waiting.pop(), leaves)
        if expression is not None:
            yield expression
        for leaf in leaves:
            waiting.extend(ast.iter_child_nodes(leaf))


def as_expression(node: ast.AST, leaves: list[ast.AST]) -> Expression:
    """The tree of operators below a node, None at its leaves, which are added to `leaves`."""
    kind, parts = None, []
    if isinstance(node, ast.BoolOp):
        kind, parts = node.op, node.values
    elif isinstance(node, ast.BinOp):
        kind, parts = node.op, [node.left, node.right]
    elif isinstance(node, ast.UnaryOp):
        kind, parts = node.op, [node.operand]
    elif isinstance(node, ast.IfExp):
        kind, parts = node, [node.test, node.body, node.orelse]
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        kind, parts = node.ops[0], [node.left, *node.comparators]
    name = type(kind).__name__
    if name not in SYMBOLS:
        leaves.append(node)
        return None
    return (name, *(as_expression(part, leaves) for part in parts))


def depth(expression: Expression) -> int:
    """How many operators are inside one another: 0 for a leaf."""
    return 1 + max(map(depth, expression[1:])) if isinstance(expression, tuple) else 0


def value(expression: Expression) -> Any:
    """What Python's operators make of it; ZeroDivisionError where they raise that."""
    if not isinstance(expression, tuple):
        return expression
    name, *parts = expression
    if name == "IfExp":
        return value(parts[1] if value(parts[0]) else parts[2])
    if name in CHOICES:
        for part in parts:
            result = value(part)
            if bool(result) == (name == "Or"):
                break
        return result
    return OPERATORS[name](*map(value, parts))


def filled(expression: Expression, rng: np.random.Generator) -> Expression:
    """The same tree with 0 or 1 at random at every leaf."""
    if isinstance(expression, tuple):
        return (expression[0], *(filled(part, rng) for part in expression[1:]))
    return int(rng.integers(2))


def examples(
    expressions: Sequence[Expression], count: int, rng: np.random.Generator, tries: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    """So many expressions with numbers in them, and their truth: objects (N,) and 0 or 1 (N,).

    Half of them are asked to be true, so that the answer cannot be guessed; those that are never
    found to be so in so many tries are left out, and others drawn.
    """
    if not expressions:
        raise ValueError("there are no expressions to draw from")
    trees, truths = np.empty(count, object), rng.integers(2, size=count)
    for i, truth in enumerate(truths):
        while trees[i] is None:
            expression = expressions[rng.integers(len(expressions))]
            trees[i] = _with_truth(expression, bool(truth), rng, tries)
    return trees, truths


def _with_truth(expression, truth: bool, rng, tries: int) -> Expression:
    for _ in range(tries):
        candidate = filled(expression, rng)
        try:
            if bool(value(candidate)) == truth:
                return candidate
        except (ZeroDivisionError, TypeError, OverflowError):
            continue
    return None


def written(expression: Expression) -> list[str]:
    """As a chain of symbols with all its brackets, operators between their operands."""
    if not isinstance(expression, tuple):
        return [str(expression)]
    name, *parts = expression
    if name == "IfExp":
        parts = [parts[1], parts[0], parts[2]]  # a if test else b
    if len(parts) == 1:
        return ["(", name, *written(parts[0]), ")"]
    chain = written(parts[0])
    for part in parts[1:]:
        chain += [name, *written(part)]
    return ["(", *chain, ")"]
