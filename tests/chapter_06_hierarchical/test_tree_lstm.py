"""Trees: the forest's order, the Tree-LSTM by its composed form, and as an LSTM on a chain."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import agree, tensors

from chapter_06_hierarchical import (
    LSTM,
    BagReader,
    ChainReader,
    TreeLSTM,
    TreeReader,
    plant,
    tree_lstm,
)
from chapter_06_hierarchical.expressions import SYMBOLS
from utils import Tensor, check_gradients, grad

EXPRESSIONS = [
    ("And", ("Not", 1), 0, ("Or", 1, ("Lt", 0, 1), 0)),
    1,
    ("Sub", 1, ("USub", 0)),
    ("IfExp", ("Not", 1), ("Eq", 1, 0), ("Add", 0, ("Mult", 1, 1))),
]


def chain(length):
    expression = 1
    for _ in range(length - 1):
        expression = ("Not", expression)
    return expression


def test_nodes_come_after_their_children():
    forest = plant(EXPRESSIONS)
    inner = forest.parents >= 0
    assert (forest.parents[inner] > np.flatnonzero(inner)).all()
    assert (np.diff(forest.heights) >= 0).all()
    assert (forest.trees[forest.parents[inner]] == forest.trees[inner]).all()
    heads = [e[0] if isinstance(e, tuple) else str(e) for e in EXPRESSIONS]
    assert [SYMBOLS[i] for i in forest.symbols[forest.roots]] == heads


def test_every_child_is_met_once_at_the_height_of_its_parent():
    forest, met = plant(EXPRESSIONS), []
    for nodes, children, starts in forest.levels():
        bounds = [*starts, len(children)]
        for node, first, last in zip(range(nodes.start, nodes.stop), bounds, bounds[1:]):
            assert (forest.parents[children[first:last]] == node).all()
        met += children.tolist()
    assert sorted(met) == np.flatnonzero(forest.parents >= 0).tolist()


def test_places_are_told_where_order_matters():
    forest = plant([("Sub", 1, 0), ("Add", 1, 0)])
    assert sorted(forest.places[forest.trees == 0]) == [0, 1, 2]
    assert sorted(forest.places[forest.trees == 1]) == [0, 0, 0]


@pytest.mark.parametrize("expressions", [EXPRESSIONS, [1, 0], [chain(5)]], ids=len)
def test_fused_equals_composed(expressions, rng):
    forest = plant(expressions)
    args = [rng.normal(size=s) for s in [(len(forest.symbols), 12), (12, 3)]]
    agree(tree_lstm, tensors(args), forest=forest)
    for i in range(2):
        mixed = [Tensor(a, requires_grad=True) if i == j else a for j, a in enumerate(args)]
        agree(tree_lstm, mixed, forest=forest)


def test_every_gate_has_its_gradient(rng):
    """By hand as by the engine, from the roots down."""
    forest, gates = plant(EXPRESSIONS), ("in", "forget", "new", "out")
    leaves = tensors([rng.normal(size=s) for s in [(len(forest.symbols), 12), (12, 3)]])
    arriving = rng.normal(size=(len(forest.symbols), 3))
    found, expected = (
        [np.split(g.data, 4, axis) for axis, g in zip((1, 0), grad(y, leaves, arriving))]
        for y in (way(*leaves, forest=forest) for way in (tree_lstm, tree_lstm.composed))
    )
    for height in reversed(range(max(forest.heights) + 1)):
        nodes = forest.heights == height
        for gate, own, by_engine in zip(gates, found[0], expected[0]):
            at = f"x: the gate {gate} of nodes at height {height}"
            assert np.allclose(own[nodes], by_engine[nodes]), at
    for gate, own, by_engine in zip(gates, found[1], expected[1]):
        assert np.allclose(own, by_engine), f"the weight's rows for the gate {gate}"


def test_second_derivatives(rng):
    forest = plant([("And", 1, ("Not", 0))])
    args = [rng.normal(size=s) for s in [(4, 8), (8, 2)]]
    check_gradients(lambda *a: tree_lstm(*a, forest=forest), args, order=2, tolerance=1e-6)


def test_on_a_chain_it_is_an_lstm(rng):
    forest, x = plant([chain(6)]), rng.normal(size=(6, 3)).astype(np.float32)
    tree, sequence = TreeLSTM(3, 4), LSTM(3, 4)
    weights = tree.state_dict()
    sequence.load_state_dict(
        {
            "weight_ih_l0": weights["weight_ih"],
            "weight_hh_l0": weights["weight_hh"],
            "bias_ih_l0": weights["bias"],
            "bias_hh_l0": np.zeros(16),
        }
    )
    y, _ = sequence(x[:, None])
    np.testing.assert_allclose(tree(x, forest).data, y.data[:, 0], atol=1e-6)


def test_the_order_of_children_is_not_seen_but_by_their_places(rng):
    tree, table = TreeLSTM(3, 4), rng.normal(size=(len(SYMBOLS), 3)).astype(np.float32)

    def root(expression):
        forest = plant([expression])
        return tree(table[forest.symbols], forest).data[forest.roots]

    np.testing.assert_allclose(
        root(("And", 1, ("Not", 0))), root(("And", ("Not", 0), 1)), atol=1e-6
    )


@pytest.mark.parametrize("reader", [TreeReader, ChainReader, BagReader])
def test_in_company_as_alone(reader):
    model = reader(8)
    together = model(EXPRESSIONS).data
    assert together.shape == (4, 2)
    for i, expression in enumerate(EXPRESSIONS):
        np.testing.assert_allclose(model([expression]).data[0], together[i], atol=1e-6)


def test_as_many_vectors_as_nodes():
    with pytest.raises(ValueError, match="3 nodes needs as many vectors, not 2"):
        TreeLSTM(3, 4)(np.ones((2, 3)), plant([("Add", 1, 0)]))
