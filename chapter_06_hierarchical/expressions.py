"""Real trees: the expressions of Python's own standard library, and whether each is true.

A program is written as a chain of characters and meant as a tree. Here every expression made of
operators (and, or, not, comparisons, arithmetic, if-else) gives its tree, in which a variable
stands for the expression that was assigned to it; all else (calls, attributes, constants) is a
leaf. A leaf is set to 0 or 1 at random, and Python's operators say whether the whole is true. Which
numbers went in says little about that, and how they are nested says everything, so what was learnt
from small trees can be asked of deeper ones.
"""

from __future__ import annotations

import ast
import operator
import sysconfig
from pathlib import Path
from typing import Any, Callable, Sequence, Tuple, Union

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
DEEPEST = 12  # expressions a variable may stand for
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


def expressions_of(program: ast.AST) -> set[Expression]:
    """The different expressions of a program that are not part of a larger one."""
    reader = _Reader()
    reader.visit(program)
    return reader.found


class _Reader(ast.NodeVisitor):
    """Collects expressions in the order of the text, and what each variable stands for."""

    def __init__(self) -> None:
        self.found: set[Expression] = set()
        self.assigned: dict[str, Expression] = {}

    def visit(self, node: ast.AST) -> None:
        if not isinstance(node, ast.expr) or isinstance(node, ast.Lambda):
            super().visit(node)
            return
        leaves: list[ast.expr] = []
        expression = self.tree(node, leaves)
        if expression is not None and not isinstance(node, ast.Name):
            self.found.add(expression)
        for leaf in leaves:
            for part in ast.iter_child_nodes(leaf):
                self.visit(part)

    def tree(self, node: ast.expr, leaves: list[ast.expr]) -> Expression:
        """The operators below a node; its leaves are added to `leaves`."""
        if isinstance(node, ast.Name) and node.id in self.assigned:
            return self.assigned[node.id]
        name, operands = operation(node)
        if name not in SYMBOLS:
            leaves.append(node)
            return None
        return (name, *(self.tree(operand, leaves) for operand in operands))

    def visit_FunctionDef(self, node: ast.AST) -> None:
        """What was assigned outside is another variable inside."""
        outside, self.assigned = self.assigned, {}
        self.generic_visit(node)
        self.assigned = outside

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = visit_FunctionDef

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        value = self.tree(node.value, [])
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.assign(target.id, value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        name = type(node.op).__name__
        if isinstance(node.target, ast.Name) and name in SYMBOLS:
            before = self.assigned.get(node.target.id)
            value = (name, before, self.tree(node.value, []))
            self.found.add(value)
            self.assign(node.target.id, value)

    def assign(self, variable: str, expression: Expression) -> None:
        self.assigned.pop(variable, None)
        if expression is not None and depth(expression) <= DEEPEST:
            self.assigned[variable] = expression


def operation(node: ast.expr) -> tuple[str, list[ast.expr]]:
    """The name of a node's operator, and its operands."""
    if isinstance(node, ast.BoolOp):
        return type(node.op).__name__, node.values
    if isinstance(node, ast.BinOp):
        return type(node.op).__name__, [node.left, node.right]
    if isinstance(node, ast.UnaryOp):
        return type(node.op).__name__, [node.operand]
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return type(node.ops[0]).__name__, [node.left, *node.comparators]
    if isinstance(node, ast.IfExp):
        return "IfExp", [node.test, node.body, node.orelse]
    return type(node).__name__, []


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


def truth(expression: Expression) -> bool | None:
    """Whether its value counts as true; None where Python's operators raise an error."""
    try:
        return bool(value(expression))
    except (ZeroDivisionError, TypeError, OverflowError):
        return None


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
    found to be so in so many tries are left out, and others drawn. Raises ValueError where there is
    nothing to draw from, or nothing that is true, or false.
    """
    if not expressions:
        raise ValueError("there are no expressions to draw from")
    trees, truths = np.empty(count, object), rng.integers(2, size=count)
    for i, wanted in enumerate(truths):
        for _ in range(tries + 10 * len(expressions)):
            expression = expressions[rng.integers(len(expressions))]
            candidates = (filled(expression, rng) for _ in range(tries))
            trees[i] = next((c for c in candidates if truth(c) == bool(wanted)), None)
            if trees[i] is not None:
                break
        else:
            raise ValueError(f"of {len(expressions)} expressions none was found to be "
                             f"{str(bool(wanted)).lower()}")  # fmt: skip
    return trees, truths


def symbol_id(symbol: str, known: Sequence[str] = SYMBOLS) -> int:
    """The number of a symbol among those known; ValueError for another, such as an empty leaf."""
    if symbol not in known:
        raise ValueError(f"{symbol} is not one of the symbols {' '.join(known)}")
    return known.index(symbol)


def written(expression: Expression) -> list[str]:
    """As a chain of symbols with all its brackets, operators between their operands."""
    if not isinstance(expression, tuple):
        return [str(expression)]
    name, first, *others = (expression[0], *map(written, expression[1:]))
    if name == "IfExp":
        return ["(", *others[0], "IfExp", *first, "Else", *others[1], ")"]
    if not others:
        return ["(", name, *first, ")"]
    return ["(", *first, *(symbol for part in others for symbol in (name, *part)), ")"]
