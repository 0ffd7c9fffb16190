"""Three readers of expressions, and what each of them can and cannot tell apart."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_06_hierarchical import BagReader, ChainReader, TreeReader, examples, plant
from chapter_06_hierarchical.expression_models import CHAIN_SYMBOLS
from chapter_06_hierarchical.expressions import OPERATORS, ORDER_MATTERS, SYMBOLS, value
from utils import Tensor

READERS = [TreeReader, ChainReader, BagReader]
EXPRESSIONS = [("And", ("Not", 1), 0, ("Or", 1, ("Lt", 0, 1))), 1, ("Sub", 1, ("USub", 0))]


def reader(kind, size=4):
    return kind(size, rng=np.random.default_rng(1))


def told_apart(kind, *expressions):
    y = reader(kind)(list(expressions)).data
    return not np.allclose(y[0], y[1], atol=1e-6)


def test_a_forest_by_hand():
    forest = plant([("Sub", 1, ("Not", 0)), 0])
    assert [SYMBOLS[i] for i in forest.symbols] == ["1", "0", "0", "Not", "Sub"]
    assert forest.heights.tolist() == [0, 0, 0, 1, 2]
    assert forest.parents.tolist() == [4, 3, -1, 4, -1]
    assert forest.trees.tolist() == [0, 0, 1, 0, 0]
    assert forest.places.tolist() == [1, 0, 0, 2, 0], "the order of operands matters to Sub only"
    assert forest.roots.tolist() == [4, 2]
    levels = [(nodes, children.tolist()) for nodes, children, _ in forest.levels()]
    assert levels == [(slice(0, 3), []), (slice(3, 4), [1]), (slice(4, 5), [0, 3])]


def test_order_matters_where_changing_sides_changes_the_value():
    def result(name, a, b):
        try:
            return value((name, a, b))
        except ZeroDivisionError:
            return "error"

    binary = [name for name in OPERATORS if name not in ("Not", "USub", "UAdd")]
    numbers = (-1, 0, 1, 2)
    differs = {
        n for n in binary for a in numbers for b in numbers if result(n, a, b) != result(n, b, a)
    }
    assert differs | {"IfExp"} == ORDER_MATTERS


@pytest.mark.parametrize("kind", READERS)
def test_gradients(kind, check_network):
    check_network(reader(kind), forward=lambda network: network(EXPRESSIONS))


@pytest.mark.parametrize("kind", READERS)
def test_two_logits_an_expression(kind):
    trees, _ = examples([("And", None, ("Not", None))], 6, np.random.default_rng(0))
    y = reader(kind)(trees)
    assert y.shape == (6, 2) and y.dtype == np.float32, "also of an array of objects"
    assert np.array_equal(y.data, reader(kind)(list(trees)).data)


def test_a_bag_knows_only_how_often():
    """Three ones, two zeros, And, And, Not: whatever is in what."""
    first, second = ("And", 1, ("Not", 0), ("And", 1, 1)), ("And", 1, ("And", ("Not", 1), 0), 1)
    assert not told_apart(BagReader, first, second)
    assert told_apart(ChainReader, first, second) and told_apart(TreeReader, first, second)
    assert told_apart(BagReader, ("And", 1, 1), ("And", 1, 0))
    assert told_apart(BagReader, ("And", 1, 1), ("And", 1, 1, 1)), "and how often is told"


def test_a_bag_by_hand():
    network = reader(BagReader)
    counts = np.zeros((1, len(SYMBOLS)), np.float32)
    for symbol, count in {"0": 2, "1": 3, "And": 1, "Not": 2}.items():
        counts[0, SYMBOLS.index(symbol)] = count
    y = network([("And", 1, ("Not", 0), 0, ("Not", 1), 1)])
    np.testing.assert_allclose(y.data, network.mlp(Tensor(counts)).data, atol=1e-6)


@pytest.mark.parametrize("kind", [TreeReader, ChainReader])
def test_sides_are_told_where_they_matter(kind):
    assert told_apart(kind, ("Sub", 1, 0), ("Sub", 0, 1))
    assert told_apart(kind, ("IfExp", 1, 0, 1), ("IfExp", 0, 1, 1))
    assert told_apart(kind, ("Lt", ("Not", 1), 0), ("Lt", 0, ("Not", 1)))


def test_sides_are_one_to_the_tree_where_they_do_not_matter():
    assert not told_apart(TreeReader, ("Mult", ("Not", 1), 0), ("Mult", 0, ("Not", 1)))


def test_a_chain_reads_what_is_written():
    network = reader(ChainReader)
    chain = ["(", "1", "IfExp", "(", "Not", "0", ")", "Else", "0", ")"]
    ids = np.array([[CHAIN_SYMBOLS.index(symbol)] for symbol in chain])
    _, (h, _) = network.lstm(network.symbols(ids))
    expected = network.head(h[-1]).data
    found = network([1, ("IfExp", ("Not", 0), 1, 0)]).data
    np.testing.assert_allclose(found[1:], expected, atol=1e-6)


def test_a_tree_answers_with_its_root():
    network = reader(TreeReader)
    forest = plant(EXPRESSIONS)
    x = network.symbols.weight.data[forest.symbols] + network.places.weight.data[forest.places]
    h = network.lstm(Tensor(x), forest)[forest.roots]
    np.testing.assert_allclose(network(EXPRESSIONS).data, network.head(h).data, atol=1e-6)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("expression", "named"),
    [(("And", 1, None), "None"), (("Pow", 1, 1), "Pow"), (("Not", 2), "2")],
    ids=str,
)
def test_a_symbol_that_there_is_not_is_named(kind, expression, named):
    """Among them a leaf that was not set to 0 or 1."""
    with pytest.raises(ValueError, match=named):
        reader(kind)([expression])


@pytest.mark.parametrize("kind", READERS)
def test_there_is_something_to_read(kind):
    with pytest.raises(ValueError, match="no "):
        reader(kind)([])


@pytest.mark.parametrize(
    "never",
    [("Mod", None, ("Mod", None, None)), ("Mod", None, None)],
    ids=["always an error", "never true"],
)
def test_expressions_that_are_never_true_do_not_keep_one_waiting(never):
    class Patience:
        """A generator that gives up."""

        def __init__(self):
            self.rng, self.left = np.random.default_rng(0), 50_000

        def integers(self, *args, **options):
            self.left -= 1
            if self.left < 0:
                pytest.fail("an endless search for an example that there is not")
            return self.rng.integers(*args, **options)

    with pytest.raises(ValueError, match="true|false"):
        examples([never], 4, Patience())
