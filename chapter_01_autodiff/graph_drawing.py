"""Drawing the graph behind a Scalar: every number, its gradient, and the slope on every edge."""

from __future__ import annotations

from typing import Mapping

from utils import Scalar
from utils.plotting import COLOURS, Figure, new_figure, styled


def nodes_of(output: Scalar) -> list[Scalar]:
    """Every Scalar that `output` was computed from, parents first, and itself last."""
    order: list[Scalar] = []
    seen = set()
    stack = [(output, False)]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((parent, False) for parent, _ in reversed(node.edges))
    return order


def to_dot(output: Scalar, names: Mapping[str, Scalar] | None = None) -> str:
    """The graph in the DOT language, which Graphviz draws: `dot -Tsvg graph.dot`."""
    nodes = nodes_of(output)
    numbers = {node: i for i, node in enumerate(nodes)}
    lines = ["digraph {", "  rankdir=LR", "  node [shape=record]"]
    for node, i in numbers.items():
        fields = (_title(node, names), f"data {node.data:.4g}", f"grad {node.grad:.4g}")
        lines.append(f'  n{i} [label="{"|".join(map(_escaped, fields))}"]')
        lines += [
            f'  n{numbers[parent]} -> n{i} [label="{slope:.4g}"]' for parent, slope in node.edges
        ]
    return "\n".join([*lines, "}"]) + "\n"


@styled
def draw_graph(output: Scalar, names: Mapping[str, Scalar] | None = None) -> Figure:
    """The graph as a figure, from the inputs on the left to `output` on the right.

    Raises ValueError for more than 60 numbers, which no page can show.
    """
    nodes = nodes_of(output)
    if len(nodes) > 60:
        raise ValueError(f"a graph of {len(nodes)} numbers is too large to draw; 60 is the most")
    places = _places(nodes)
    columns = 1 + max(column for column, _ in places.values())
    rows = 1 + max(row for _, row in places.values())
    figure, axes = new_figure(2.1 * columns + 0.4, 1.25 * rows + 0.4)
    for node in nodes:
        for parent, slope in node.edges:
            _draw_edge(axes, places[parent], places[node], f"{slope:.4g}")
    for node, place in places.items():
        lines = [_title(node, names), f"data {node.data:.4g}", f"grad {node.grad:.4g}"]
        colour = COLOURS[0] if node.edges else COLOURS[2]
        box = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": colour, "lw": 1.6}
        axes.text(
            *place, "\n".join(lines), ha="center", va="center", fontsize=9, bbox=box, zorder=3
        )
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_axis_off()
    return figure


def _places(nodes: list[Scalar]) -> dict[Scalar, tuple[float, float]]:
    """A column right of all parents for each node; within a column, near the parents' height."""
    column: dict[Scalar, int] = {}
    for node in nodes:
        column[node] = 1 + max((column[parent] for parent, _ in node.edges), default=-1)
    tallest = max(list(column.values()).count(c) for c in set(column.values()))
    places: dict[Scalar, tuple[float, float]] = {}
    for c in sorted(set(column.values())):
        members = [node for node in nodes if column[node] == c]
        members.sort(key=lambda node: _mean([places[parent][1] for parent, _ in node.edges]))
        top = (tallest - len(members)) / 2
        places.update({node: (c, top + i) for i, node in enumerate(members)})
    return places


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _draw_edge(axes, start, end, label: str) -> None:
    arrow = {"arrowstyle": "-|>", "color": "#777777", "lw": 1.2, "shrinkA": 34, "shrinkB": 34}
    axes.annotate("", end, start, arrowprops=arrow)
    # Nearer to the start than to the end, where labels of crossing edges would meet.
    place = [a + 0.36 * (b - a) for a, b in zip(start, end)]
    backing = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.text(*place, label, ha="center", va="center", fontsize=8.5, color=COLOURS[1], bbox=backing)


def _title(node: Scalar, names: Mapping[str, Scalar] | None) -> str:
    own = " ".join(name for name, other in (names or {}).items() if other is node)
    return " = ".join(part for part in (own, node.operation) if part) or "input"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in '{}<>|"\\' else c for c in text)
