"""The network of a GPT as a list of operators, in the words of ONNX.

A graph is data: nodes in the order in which they run, each with named inputs and outputs, and the
arrays that are there from the beginning. What stands here is chapter 7's forward pass once more;
only, nothing is computed: each line adds a node, and what it returns is the name of its output.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Union

import numpy as np

from chapter_07_attention import GPTConfig
from chapter_07_attention.alibi import slopes
from chapter_07_attention.family import joined_parts
from chapter_07_attention.gpt import INITIAL_STD
from chapter_07_attention.positions import sinusoids
from chapter_07_attention.rotary import tables

Value = Union[str, np.ndarray, np.generic]  # an earlier value by its name, or a constant


class Graph:
    """Nodes and arrays; `make_node` is that of `onnx.helper`."""

    def __init__(self, make_node: Callable[..., Any], arrays: Mapping[str, np.ndarray]) -> None:
        self.make_node, self.arrays = make_node, dict(arrays)
        self.nodes: list[Any] = []
        self.constants: dict[tuple, str] = {}
        self.scope = ""  # the part of the network that is being written, such as "layers.0."

    def add(
        self, operator: str, *inputs: Value, outputs: int = 1, name: str = "", **attributes: Any
    ) -> Any:
        """One node more: the name of its output, or a list of names where it has several."""
        read = [x if isinstance(x, str) else self.constant(np.asarray(x)) for x in inputs]
        node = f"{self.scope}{operator}_{len(self.nodes)}"
        made = [name or node] if outputs == 1 else [f"{node}.{i}" for i in range(outputs)]
        self.nodes.append(self.make_node(operator, read, made, node, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, array: np.ndarray) -> str:
        """The name of a fixed array; the same one has the same name."""
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = f"constant_{len(self.constants)}"
            self.arrays[self.constants[key]] = array
        return self.constants[key]


def whole(*numbers: int) -> np.ndarray:
    """Sizes and axes, as ONNX wants them: (n,)."""
    return np.array(numbers, np.int64)


class GPTGraph(Graph):
    """The nodes from `ids` (B, T) to `logits` (B, T, vocab_size), arrays by GPT's names.

    As in `decoder.py`, all but attention has a row a token: N = B T rows of width C. There are K
    heads of keys and values, each asked by G heads of queries, of D numbers.
    """

    def __init__(
        self,
        make_node: Callable[..., Any],
        config: GPTConfig,
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(make_node, arrays)
        self.config = config
        self.size = self.add("Shape", "ids")  # (B, T)
        time = self.add("Gather", self.size, np.int64(1))
        self.places = self.add("Range", np.int64(0), time, np.int64(1))
        self.turn = self.rotary() if config.positions == "rotary" else lambda heads: heads
        self.mask = self.visible()
        x = self.add("Reshape", self.embed(), whole(-1, config.n_embd))
        for i in range(config.n_layer):
            self.scope = f"layers.{i}."
            x = self.layer(x)
        self.scope = ""
        head = "embedding.weight" if config.tied else "head.weight"
        logits = self.add("Gemm", self.norm(x, "norm."), head, transB=1)
        self.add("Reshape", logits, self.shape(config.vocab_size), name="logits")

    def embed(self) -> str:
        """The vectors of tokens that know their places: (B, T, C)."""
        x = self.add("Gather", "embedding.weight", "ids")
        if self.config.positions == "sinusoidal":
            table = INITIAL_STD * sinusoids(self.config.block_size, self.config.n_embd)
            self.arrays["positions.weight"] = table.astype(np.float32)
        if "positions.weight" not in self.arrays:
            return x
        return self.add("Add", x, self.at_places("positions.weight"))

    def at_places(self, table: str) -> str:
        """The rows of a table that belong to the places: (T, ...)."""
        # Slice would do too, but end silently where the table does.
        return self.add("Gather", table, self.places)

    def visible(self) -> str:
        """What is added to the scores, (T, T) or (K, G, T, T): -infinity for the future."""
        query, key = (self.add("Unsqueeze", self.places, whole(axis)) for axis in (1, 0))
        distance = self.add("Sub", query, key)
        seen = self.add("GreaterOrEqual", distance, np.int64(0))
        if self.config.window is not None:
            near = self.add("Less", distance, np.int64(self.config.window))
            seen = self.add("And", seen, near)
        bias: Value = np.float32(0)
        if self.config.positions == "alibi":
            by_head = slopes(self.config.n_head).reshape(self.config.n_kv_head, -1, 1, 1)
            bias = self.times(self.add("CastLike", distance, bias), -by_head.astype(np.float32))
        return self.add("Where", seen, bias, np.float32(-np.inf))

    def rotary(self) -> Callable[[str], str]:
        """What turns heads (B, K, G, T, D) by their places."""
        size = self.config.head_dim
        # Tables, since an angle of a thousand turns has few digits left in float32.
        found = tables(self.config.block_size, size, self.config.rope_theta, "<f4")
        for name, table in zip(("cos", "sin"), found):
            self.arrays[f"positions.{name}"] = table.reshape(-1, size // 2)
        cos, sin = (self.at_places(f"positions.{name}") for name in ("cos", "sin"))

        def turn(heads: str) -> str:
            first, second = self.add("Split", heads, axis=-1, num_outputs=2, outputs=2)
            x = self.add("Sub", self.times(first, cos), self.times(second, sin))
            y = self.add("Add", self.times(second, cos), self.times(first, sin))
            return self.add("Concat", x, y, axis=-1)

        return turn

    def layer(self, x: str) -> str:
        """Attention, then a perceptron, each on the residual path past it: (N, C)."""
        packed = self.linear(self.norm(x, "norm1."), "self_attn.in_proj_")
        x = self.add("Add", x, self.linear(self.attention(packed), "self_attn.out_proj."))
        hidden = self.activate(self.linear(self.norm(x, "norm2."), "linear1."))
        return self.add("Add", x, self.linear(hidden, "linear2."))

    def attention(self, packed: str) -> str:
        """Queries, keys and values side by side, (N, (K G + 2 K) D), to answers (N, K G D)."""
        config = self.config
        widths = joined_parts("self_attn.in_proj_weight", config)
        q, k, v = self.add("Split", packed, whole(*widths), axis=1, outputs=3)
        q, k, v = self.heads(q, config.n_head // config.n_kv_head), self.heads(k), self.heads(v)
        q, k = self.turn(self.times(q, np.float32(config.head_dim**-0.5))), self.turn(k)
        keys = self.add("Transpose", k, perm=[0, 1, 2, 4, 3])
        scores = self.add("Add", self.add("MatMul", q, keys), self.mask)  # (B, K, G, T, T)
        answers = self.add("MatMul", self.add("Softmax", scores, axis=-1), v)
        in_order = self.add("Transpose", answers, perm=[0, 3, 1, 2, 4])
        return self.add("Reshape", in_order, whole(-1, widths[0]))

    def heads(self, rows: str, group: int = 1) -> str:
        """(N, K G D) as (B, K, G, T, D)."""
        shape = self.shape(self.config.n_kv_head, group, self.config.head_dim)
        return self.add("Transpose", self.add("Reshape", rows, shape), perm=[0, 2, 3, 1, 4])

    def shape(self, *last: int) -> str:
        """(B, T, ...), which is known only when the graph runs."""
        return self.add("Concat", self.size, whole(*last), axis=0)

    def linear(self, x: str, name: str) -> str:
        """x W^T + b."""
        return self.add("Gemm", x, *self.parts(name), transB=1)

    def norm(self, x: str, name: str) -> str:
        parts, eps = self.parts(name), self.config.norm_eps
        if self.config.norm == "layer":
            return self.add("LayerNormalization", x, *parts, epsilon=eps, axis=-1)
        square = self.add("ReduceMean", self.times(x, x), whole(-1))
        root = self.add("Sqrt", self.add("Add", square, np.float32(eps)))
        return self.times(self.add("Div", x, root), *parts)

    def activate(self, x: str) -> str:
        kind = self.config.activation
        if kind == "relu":
            return self.add("Relu", x)
        if kind == "swiglu":
            gate, up = self.add("Split", x, axis=-1, num_outputs=2, outputs=2)
            return self.times(self.silu(gate), up)
        if kind == "silu":
            return self.silu(x)
        return self.add("Gelu", x, approximate="tanh" if kind == "gelu_tanh" else "none")

    def silu(self, x: str) -> str:
        return self.times(x, self.add("Sigmoid", x))

    def times(self, a: Value, b: Value) -> str:
        return self.add("Mul", a, b)

    def parts(self, name: str) -> list[str]:
        """The names of a part's weight, and of its bias where it has one."""
        names = [f"{self.scope}{name}{kind}" for kind in ("weight", "bias")]
        return [name for name in names if name in self.arrays]
