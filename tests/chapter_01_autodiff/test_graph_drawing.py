"""The graph behind a Scalar: its nodes in order, as DOT text that a parser accepts, as a figure."""

from __future__ import annotations

import io
import re

import pytest
from matplotlib.figure import Figure

from chapter_01_autodiff.graph_drawing import draw_graph, nodes_of, to_dot
from utils import Scalar

TOKEN = re.compile(r'\s+|"(?:[^"\\]|\\.)*"|->|[\[\]{}=;,]|-?[\w.]+', re.DOTALL)


def parse_dot(text):
    """The nodes {id: attributes} and edges [(tail, head, attributes)] of a graph in DOT."""
    tokens, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, f"DOT cannot be read from {text[at : at + 20]!r}: is a quote not escaped?"
        if not match[0].isspace():
            tokens.append(match[0])
        at = match.end()
    start = tokens.index("{")
    assert tokens[0] == "digraph" and start in (1, 2), "DOT begins with: digraph [name] {"
    assert tokens[-1] == "}" and tokens.count("{") == tokens.count("}") == 1
    nodes, edges = {}, []
    tokens = tokens[start + 1 : -1]
    while tokens:
        ends = [tokens.pop(0)]
        if ends == [";"]:
            continue
        if tokens[:1] == ["="]:
            del tokens[:2]
            continue
        while tokens[:1] == ["->"]:
            ends.append(tokens[1])
            del tokens[:2]
        attributes = {}
        if tokens[:1] == ["["]:
            close = tokens.index("]")
            body = [token for token in tokens[1:close] if token not in ",;"]
            assert body[1::3] == ["="] * (len(body) // 3), f"attributes are name=value, not {body}"
            attributes = {name: value.strip('"') for name, value in zip(body[::3], body[2::3])}
            del tokens[: close + 1]
        if len(ends) == 2:
            edges.append((*ends, attributes))
        elif ends[0] not in ("node", "edge", "graph"):
            nodes[ends[0]] = attributes
    return nodes, edges


def worked_example():
    inputs = {name: Scalar(value) for name, value in zip("abc", (2.0, -3.0, 10.0))}
    a, b, c = inputs.values()
    output = (a * b + c) * (a + b * c)
    output.backward()
    return output, {**inputs, "f": output}


def long_chain(length):
    x = Scalar(0.0)
    for _ in range(length):
        x = x + 1.0
    return x


def test_nodes_come_after_what_they_were_made_from():
    output, names = worked_example()
    nodes = nodes_of(output)
    assert len(nodes) == 8, "three inputs, a*b, a*b + c, b*c, a + b*c, and the product: each once"
    place = {node: i for i, node in enumerate(nodes)}
    assert set(names.values()) <= set(nodes) and nodes[-1] is output
    for node in nodes:
        for parent, _ in node.edges:
            assert place[parent] < place[node], "a node stands before one that it was made from"


def test_shared_nodes_are_visited_once():
    x = Scalar(1.0)
    for _ in range(60):
        x = x * x
    assert len(nodes_of(x)) == 61, "60 squares: as paths they would be 2**60"


def test_a_long_chain_needs_no_recursion():
    assert len(nodes_of(long_chain(100_000))) == 100_001


def test_dot_has_every_node_and_every_edge():
    output, names = worked_example()
    nodes, edges = parse_dot(to_dot(output, names))
    assert len(nodes) == 8
    assert len(edges) == 10, "five operations with two arguments each"
    for tail, head, _ in edges:
        assert tail in nodes and head in nodes, f"the edge {tail} -> {head} has an end nowhere"


def test_dot_shows_data_gradients_and_slopes():
    output, names = worked_example()
    nodes, edges = parse_dot(to_dot(output, names))
    sink = {head for _, head, _ in edges} - {tail for tail, _, _ in edges}
    assert len(sink) == 1, "edges point from the arguments to the result, and all end in f"
    sink = sink.pop()
    assert "-112" in nodes[sink]["label"] and "f" in nodes[sink]["label"]
    slopes = sorted(float(edge["label"]) for _, head, edge in edges if head == sink)
    assert slopes == [-28, 4], "the slopes on the edges of u * v are v = -28 and u = 4"
    for name, data, gradient in (("a", "2", "88"), ("b", "-3", "-16"), ("c", "10", "-40")):
        found = [node["label"] for node in nodes.values() if node["label"].startswith(name)]
        assert len(found) == 1, f"{name} labels one node, and comes first in its label"
        numbers = re.findall(r"-?\d+", found[0])
        assert numbers == [data, gradient], f"the label of {name} reads {found[0]!r}"


def test_dot_draws_both_edges_of_a_square():
    x = Scalar(3.0)
    nodes, edges = parse_dot(to_dot(x * x))
    assert len(nodes) == 2 and len(edges) == 2, "x * x has two edges from x, each of slope 3"


def test_dot_of_a_single_number():
    nodes, edges = parse_dot(to_dot(Scalar(1.5)))
    assert len(nodes) == 1 and edges == []


@pytest.mark.parametrize("name", ['"', "\\", "a\\", "{a}", "<a>", "a|b", "a]", 'x"]; y [label="'])
def test_dot_escapes_names(name):
    x = Scalar(3.0)
    output = x + 1.0
    plain, _ = parse_dot(to_dot(output, {"name": x}))
    nodes, edges = parse_dot(to_dot(output, {name: x}))
    assert len(nodes) == 2 and len(edges) == 1, f"the name {name!r} breaks out of its label"
    # In a record, { } | < > shape the box unless a backslash stands before them.
    shape = lambda label: re.findall(r"[{}|<>]", re.sub(r"\\.", "", label))
    for node, attributes in nodes.items():
        assert shape(attributes["label"]) == shape(plain[node]["label"]), (
            f"the name {name!r} changes the fields of its record, "
            f"put a backslash before it: {attributes['label']!r}"
        )


def test_dot_of_a_deep_graph_needs_no_recursion():
    assert to_dot(long_chain(5000)).count("->") == 5000


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_figure_shows_every_number_once():
    output, names = worked_example()
    figure = draw_graph(output, {"first": names["a"], "result": output})
    assert isinstance(figure, Figure)
    shown = texts(figure)
    assert sum("first" in text and "88" in text for text in shown) == 1, "a, with its gradient"
    assert sum("result" in text and "-112" in text for text in shown) == 1
    assert "-28" in shown, "the local derivative df/d(a*b + c) = -28 belongs on its edge"
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    "make",
    [lambda x: x, lambda x: x * x, lambda x: (x + 1).tanh(), lambda x: x * x + x * x * x],
    ids=["a single number", "a square", "a chain", "shared"],
)
def test_figures_of_small_graphs(make):
    figure = draw_graph(make(Scalar(0.5)))
    figure.savefig(io.BytesIO(), format="png")


def test_nothing_is_computed_by_drawing():
    output, names = worked_example()
    before = [(node.data, node.grad) for node in nodes_of(output)]
    draw_graph(output, names)
    to_dot(output, names)
    assert [(node.data, node.grad) for node in nodes_of(output)] == before


@pytest.mark.parametrize("length", [70, 100_000])
def test_a_graph_too_large_for_a_page_is_an_error(length):
    with pytest.raises(ValueError, match=str(length + 1)):
        draw_graph(long_chain(length))
