"""Expressions: read from a program, valued by Python's operators, written as chains."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from chapter_06_hierarchical import depth, examples, expressions_of, value, written
from chapter_06_hierarchical.expressions import filled, library_expressions, truth

PROGRAM = """
def f(a, b):
    if a and not b or a.x < len(b + 1):
        return [i * 2 for i in b if i % 2 == 0]
    return -a if a == b else a < b < 3
"""


def test_the_expressions_of_a_program():
    assert expressions_of(ast.parse(PROGRAM)) == {
        ("Or", ("And", None, ("Not", None)), ("Lt", None, None)),
        ("Add", None, None),
        ("Mult", None, None),
        ("Eq", ("Mod", None, None), None),
        ("IfExp", ("Eq", None, None), ("USub", None), None),  # a chained comparison is a leaf
    }


def test_a_variable_stands_for_what_was_assigned_to_it():
    program = """
total = a + b
def f(total, x):
    return not total      # another variable
scaled = total * 2
scaled -= 1
if scaled < c:
    scaled = g(d)
return scaled == e
"""
    total = ("Add", None, None)
    less = ("Sub", ("Mult", total, None), None)
    assert expressions_of(ast.parse(program)) == {
        total,
        ("Not", None),
        ("Mult", total, None),
        less,
        ("Lt", less, None),
        ("Eq", None, None),
    }


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("1 and 0", ("And", 1, 0)),
        ("(1 - 1) or (1 + 1)", ("Or", ("Sub", 1, 1), ("Add", 1, 1))),
        ("(1 + 1) and 0 and 1", ("And", ("Add", 1, 1), 0, 1)),
        ("1 if 0 else -1", ("IfExp", 0, 1, ("USub", 1))),
        ("(not 1) < (1 * 1)", ("Lt", ("Not", 1), ("Mult", 1, 1))),
        ("(1 / 1) % (1 + 1) == 1", ("Eq", ("Mod", ("Div", 1, 1), ("Add", 1, 1)), 1)),
    ],
)
def test_values_are_pythons(text, expression):
    assert value(expression) == eval(text)


def test_division_by_zero_is_neither_true_nor_false():
    with pytest.raises(ZeroDivisionError):
        value(("Mod", 1, 0))
    assert truth(("Mod", 1, 0)) is None and truth(("Or", 1, ("Mod", 1, 0))) is True


def test_depth():
    assert [depth(e) for e in (1, ("Not", 1), ("And", 1, ("Not", ("Or", 1, 0))))] == [0, 1, 3]


def test_written_with_all_brackets():
    assert " ".join(written(("And", 1, ("Not", 0), 1))) == "( 1 And ( Not 0 ) And 1 )"
    assert " ".join(written(("IfExp", 0, 1, ("Lt", 1, 0)))) == "( 1 IfExp 0 Else ( 1 Lt 0 ) )"


def test_examples_are_half_true_and_the_same_from_the_same_seed():
    kinds = [("And", None, None, None), ("Mod", None, None), ("Div", None, ("Sub", None, None))]
    trees, truths = examples(kinds, 300, np.random.default_rng(1))
    again, _ = examples(kinds, 300, np.random.default_rng(1))
    assert trees.tolist() == again.tolist()
    assert [bool(value(tree)) for tree in trees] == truths.astype(bool).tolist()
    assert 0.4 < truths.mean() < 0.6


def test_what_is_never_true_is_left_out():
    never = ("Sub", ("Mult", None, ("Not", ("Add", 1, 1))), ("Not", ("Add", 1, 1)))
    trees, _ = examples([never, ("Not", None)], 20, np.random.default_rng(0), tries=2)
    assert any(tree[0] == "Not" for tree in trees)
    with pytest.raises(ValueError, match="no expressions"):
        examples([], 3, np.random.default_rng(0))


def test_filling_keeps_the_tree():
    tree = filled(("And", None, ("Not", None)), np.random.default_rng(0))
    assert tree[0] == "And" and tree[1] in (0, 1) and tree[2][0] == "Not" and tree[2][1] in (0, 1)


def test_the_library_has_expressions_in_the_same_order_every_time():
    found = library_expressions(files=25)
    assert len(found) > 20 and found == library_expressions(files=25)
    assert len(set(found)) == len(found) and all(depth(e) >= 1 for e in found)
