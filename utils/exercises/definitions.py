"""Holes in Python's source: a definition found by its name, emptied, or put in place of another.

The source is parsed to know where a definition is, and cut there as text, so that all the rest
stays as it was written, letter for letter.
"""

from __future__ import annotations

import ast
import io
import re
from typing import NamedTuple, NoReturn, Union

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Node = Union[ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr]
IMPORT = "from utils.exercises import unwritten\n"


class Span(NamedTuple):
    """Where something is in a text."""

    begin: int
    end: int


def unwritten(task: str) -> NoReturn:
    """What stands for a rule of a table that is still to be written."""
    raise NotImplementedError(task)


def definition(source: str, symbol: str) -> str:
    """The text of a definition: of `function`, `Class.method`, or of a row, `table[key]`.

    Raises ValueError where the source is no Python, or has no such definition.
    """
    span = whole(source, found(source, symbol))
    return source[span.begin : span.end]


def blanked(source: str, symbol: str, task: str) -> str:
    """The source with a definition that raises NotImplementedError(task).

    A function keeps its decorators, its signature and its docstring; a rule its parameters.
    """
    node = found(source, symbol)
    if isinstance(node, Function):
        return emptied(source, node, task)
    rules = [rule for rule in ast.walk(node) if isinstance(rule, ast.Lambda)]
    if not rules:
        raise ValueError(f"{symbol} has no rule that could be left out")
    for rule in sorted(rules, key=lambda rule: (rule.lineno, rule.col_offset), reverse=True):
        begin, end = place(source, rule.body)
        source = f'{source[:begin]}unwritten("{task}"){source[end:]}'
    return with_import(source)


def replaced(source: str, symbol: str, other: str) -> str:
    """The source with the definition that another source has of the same symbol."""
    begin, end = whole(source, found(source, symbol))
    source = source[:begin] + definition(other, symbol) + source[end:]
    if "unwritten(" in source:
        return with_import(source)
    return source.replace(IMPORT, "", 1)


def emptied(source: str, node: ast.FunctionDef, task: str) -> str:
    first = node.body[0]
    documented = ast.get_docstring(node, clean=False) is not None
    begin = place(source, first).end if documented else signature_end(source, node)
    indent = " " * (node.col_offset + 4)
    rest = source[place(source, node).end :]
    return f'{source[:begin]}\n{indent}raise NotImplementedError("{task}"){rest}'


def signature_end(source: str, node: ast.FunctionDef) -> int:
    """Behind the colon: comments between it and the first statement are part of the body."""
    begin = place(source, node.body[0]).begin
    return source.rindex(":", 0, code_before(source, begin)) + 1


def code_before(source: str, begin: int) -> int:
    """Where the comments and blanks that precede a place begin."""
    lines = list(io.StringIO(source[:begin]))
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        begin -= len(lines.pop())
    return begin


def with_import(source: str) -> str:
    """The source, which knows `unwritten` from now on."""
    if IMPORT in source:
        return source
    imports = [n for n in ast.parse(source).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    end = place(source, imports[-1]).end + 1 if imports else 0
    return source[:end] + IMPORT + source[end:]


def found(source: str, symbol: str) -> Node:
    """The node of a symbol; of a row of a table, the value."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} is not Python: {error.msg}") from None
    row = re.fullmatch(r"(\w+)\[(.+)\]", symbol)
    if row is not None:
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                (target, *_), table = node.targets, node.value
                if isinstance(target, ast.Name) and target.id == row[1]:
                    for key, value in zip(table.keys, table.values):
                        if key is not None and ast.get_source_segment(source, key) == row[2]:
                            return value
        raise ValueError(f"there is no row {symbol}")
    node: ast.AST = tree
    for name in symbol.split("."):
        named = [
            n for n in node.body if isinstance(n, (*Function, ast.ClassDef)) and n.name == name
        ]
        if not named:
            raise ValueError(f"there is no {symbol}")
        node = named[-1]
    return node


def whole(source: str, node: Node) -> Span:
    """Where a node is, with its decorators."""
    span = place(source, node)
    decorators = getattr(node, "decorator_list", [])
    if not decorators:
        return span
    begin = place(source, decorators[0]).begin
    return Span(source.rindex("@", 0, begin), span.end)


def place(source: str, node: ast.AST) -> Span:
    """Where a node is; columns are counted in bytes of UTF-8."""
    lines = list(io.StringIO(source))

    def offset(line: int, column: int) -> int:
        before = lines[line - 1].encode()[:column].decode()
        return sum(map(len, lines[: line - 1])) + len(before)

    return Span(offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset))
