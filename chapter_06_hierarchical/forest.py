"""Many trees in one batch: all nodes of one height at once, whatever tree they belong to.

A node can be worked on when its children are done, so the leaves of all trees come first, then the
nodes above leaves, and so on; as many steps as the highest tree is high. Nodes are numbered in this
order, and a tree is no more than the number of each node's parent.
"""

from __future__ import annotations

from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from chapter_06_hierarchical.expressions import ORDER_MATTERS, symbol_id


class Forest(NamedTuple):
    """Nodes by height: each one's symbol, its place among its siblings, its parent, its tree.

    `parents` are -1 at a root; `heights` rise from 0, the leaves'. All have a number a node, (N,).
    """

    symbols: np.ndarray
    places: np.ndarray
    parents: np.ndarray
    heights: np.ndarray
    trees: np.ndarray

    @property
    def roots(self) -> np.ndarray:
        """The root of each tree, in the order of the trees: (trees,)."""
        roots = np.flatnonzero(self.parents < 0)
        return roots[np.argsort(self.trees[roots])]

    def levels(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """From the leaves up: a level's nodes, their children, and where each one's begin.

        The children are sorted by their parents, and `starts` are the places in `children` where
        the first, second, ... node's begin.
        """
        children = np.argsort(self.parents, kind="stable")
        parents = self.parents[children]
        bounds = np.searchsorted(self.heights, np.arange(self.heights[-1] + 2))
        for first, last in zip(bounds, bounds[1:]):
            own = slice(*np.searchsorted(parents, [first, last]))
            starts = np.searchsorted(parents[own], np.arange(first, last))
            yield slice(first, last), children[own], starts


def plant(expressions: Sequence[Any]) -> Forest:
    """The forest of expressions; the place of an operand is told where its order matters.

    Raises ValueError where there are none, and for what is no symbol.
    """
    if len(expressions) == 0:
        raise ValueError("there are no expressions to plant")
    symbols: list[int] = []
    places: list[int] = []
    parents: list[int] = []
    heights: list[int] = []
    trees: list[int] = []

    def add(expression: Any, place: int, parent: int, tree: int) -> int:
        node = len(symbols)
        name, *parts = expression if isinstance(expression, tuple) else (str(expression),)
        symbols.append(symbol_id(name))
        places.append(place)
        parents.append(parent)
        trees.append(tree)
        heights.append(0)
        ordered = name in ORDER_MATTERS
        below = [add(part, i + 1 if ordered else 0, node, tree) for i, part in enumerate(parts)]
        heights[node] = 1 + max(below) if below else 0
        return heights[node]

    for tree, expression in enumerate(expressions):
        add(expression, 0, -1, tree)
    order = np.argsort(heights, kind="stable")
    number = np.append(np.argsort(order), -1)  # the last is the parent of roots
    columns = (np.array(column)[order] for column in (symbols, places, parents, heights, trees))
    forest = Forest(*columns)
    return forest._replace(parents=number[forest.parents])
