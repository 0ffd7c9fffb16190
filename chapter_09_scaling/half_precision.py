"""Numbers of 16 bits: half the memory, and what is lost by rounding to them.

A float32 has 8 bits for its exponent and 23 for its digits. float16 has 5 and 10: three decimal
places, nothing above 65,504 and nothing below 6e-8. bfloat16, the upper half of a float32, has 8
and 7: float32's range with two decimal places. 16 bits are for storage and the wire; the arithmetic
here is float32's, as NumPy's products of float16 are hundreds of times slower, and graphics cards
add in float32 too.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from chapter_03_neural_nets import Module
from chapter_03_neural_nets.layers import check_features
from chapter_05_gradient_mastery import Linear
from chapter_05_gradient_mastery.activations import FUSED
from chapter_05_gradient_mastery.linear import fused_name
from chapter_07_attention import GPTConfig, MultiheadAttention, TransformerEncoderLayer
from chapter_09_scaling.accounting import norm_arrays, sizes
from utils import Tensor, grad
from utils.graph import Lift, Node
from utils.modes import mode
from utils.primitives import total
from utils.tensor import wrap
from utils.weights import from_bfloat16, to_bfloat16

KINDS = ("float16", "bfloat16")
SMALLEST_NORMAL = np.float32(2**-14)
SPACED = np.float32(0.75)  # around it, float32's numbers are 2^-24 apart


def pack(x: np.ndarray, kind: str = "float16") -> np.ndarray:
    """The array in 16 bits a number, to the nearest, ties to even: float16, or bfloat16's uint16.

    What is too large becomes infinity. Raises ValueError for a kind that is neither.
    """
    check_kind(kind)
    if kind == "bfloat16":
        return to_bfloat16(x)
    x = np.asarray(x)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return (without_underflow(x) if x.dtype == np.float32 else x).astype(np.float16)


def without_underflow(x: np.ndarray) -> np.ndarray:
    """x (float32) with what is below float16's normal range rounded to multiples of 2^-24.

    Those are the numbers that float16 has there. NumPy's conversion reports every number that it
    must round to them, which takes forty times as long as the conversion itself.
    """
    small = np.abs(x) < SMALLEST_NORMAL
    if not small.any():
        return x
    near = x + SPACED
    near -= SPACED
    np.copysign(near, x, out=near)
    np.copyto(near, x, where=~small)
    return near


def unpack(bits: np.ndarray, kind: str = "float16") -> np.ndarray:
    """The float32 numbers that `pack` made these of, rounded: exact, and a new array."""
    check_kind(kind)
    return from_bfloat16(bits) if kind == "bfloat16" else bits.astype(np.float32)


def rounded(x: np.ndarray, kind: str = "float16") -> np.ndarray:
    """The array, in its own dtype, with the numbers that 16 bits leave of it."""
    return unpack(pack(x, kind), kind).astype(np.asarray(x).dtype, copy=False)


def check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"numbers of 16 bits are {' or '.join(KINDS)}, not {kind!r}")


def half_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    kind: str = "float16",
) -> Tensor:
    """f(x weight^T + bias) of numbers rounded to 16 bits, with f of `linear_activation` if named.

    x (..., in), weight (out, in), bias (out): (..., out). Rounded are x and the weight, the sums,
    f of them, and backward the gradient that arrives, the one at the sums, and those of x and the
    weight. Kept for backward are x, and with f the sums, in 16 bits.
    Source: Micikevicius et al., 2017, arXiv:1710.03740.
    """
    if activation is not None and activation not in FUSED:
        raise ValueError(f"activation is one of {', '.join(FUSED)}, not {activation!r}")
    args = [a if isinstance(a, Tensor) or a is None else Tensor(a) for a in (x, weight, bias)]
    return HALF_LINEAR(args, activation, kind)


class HalfProduct:
    """The operation of `half_linear`: forward and backward.

    Not a kernel: a kernel's node keeps its arguments as they came, in 32 bits.
    """

    name = "half_linear"

    def __call__(self, args: list, activation: str | None, kind: str) -> Tensor:
        x, w, b = (None if a is None else a.array for a in args)
        x16 = pack(x, kind)
        z = rows(unpack(x16, kind)).astype(w.dtype, copy=False) @ rounded(w, kind).T
        if b is not None:
            z += b
        z16 = pack(z.reshape(*x.shape[:-1], len(w)), kind)
        del z
        y = unpack(z16, kind)
        if activation is None:
            z16 = None
        else:
            y = rounded(FUSED[activation].apply(y)[0], kind)
        y = y.astype(w.dtype, copy=False)
        node_class, parents = mode.node_class, tuple(getattr(a, "node", None) for a in args)
        if node_class is not None and node_class is not Node:
            node_class.inspect(self.name, [a for a in (x, w, b) if a is not None], y)
        if node_class is None or not any(parents):
            return wrap(y)
        saved, options = (x16, z16, w, b), {"activation": activation, "kind": kind}
        return wrap(y, node_class(self, parents, saved, options, y.shape, y.dtype))

    def gradients(
        self, node: Node, g: Any, wanted: set[Node], lift: Lift | None
    ) -> list[tuple[Node, Any]]:
        if lift is not None:
            return self.by_composition(node, g, wanted, lift)
        x16, z16, w, b = node.saved
        kind, activation = node.keywords["kind"], node.keywords["activation"]
        dz = rounded(g, kind)
        if activation is not None:
            slope_times = FUSED[activation].apply(unpack(z16, kind).astype(g.dtype, copy=False))[1]
            dz = rounded(slope_times(dz), kind)
        dz = rows(dz)
        products = (
            lambda: rounded(dz @ rounded(w, kind), kind).reshape(x16.shape),
            lambda: rounded(dz.T @ rows(unpack(x16, kind)).astype(w.dtype, copy=False), kind),
            lambda: total(dz, axis=0),
        )
        return [(p, product()) for p, product in zip(node.parents, products) if p in wanted]

    def by_composition(
        self, node: Node, g: Tensor, wanted: set[Node], lift: Lift
    ) -> list[tuple[Node, Tensor]]:
        """The gradients as a graph, in which rounding has slope 1 and gradients stay unrounded."""
        x16, _, *others = node.saved
        arrays = (unpack(x16, node.keywords["kind"]).astype(node.dtype, copy=False), *others)
        args = [
            None if a is None else np.positive(lift(a, p)) for a, p in zip(arrays, node.parents)
        ]
        y = half_linear_composed(*args, **node.keywords)
        pairs = [(x, p) for x, p in zip(args, node.parents) if p in wanted]
        found = grad(y, [x for x, _ in pairs], g, create_graph=True)
        return [(p, dx) for (_, p), dx in zip(pairs, found)]


HALF_LINEAR = HalfProduct()


def half_linear_composed(x, weight, bias=None, activation=None, kind="float16") -> Tensor:
    z = straight_through(x, kind) @ straight_through(weight, kind).T
    z = straight_through(z if bias is None else z + bias, kind)
    return z if activation is None else straight_through(FUSED[activation].composed(z), kind)


def straight_through(x: Tensor, kind: str) -> Tensor:
    """x rounded, with the gradient of x: rounding itself has slope 0 nearly everywhere.

    Source: Bengio et al., 2013, arXiv:1308.3432.
    """
    return x + (rounded(x.data, kind) - x.data)


def rows(a: np.ndarray) -> np.ndarray:
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


class HalfLinear(Linear):
    """Chapter 5's layer on 16-bit numbers; its parameters, which steps add up in, stay float32."""

    def __init__(self, *sizes: Any, kind: str = "float16", **options: Any) -> None:
        super().__init__(*sizes, **options)
        check_kind(kind)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        check_features(self, x, self.in_features)
        return half_linear(x, self.weight, self.bias, kind=self.kind)


class HalfAttention(MultiheadAttention):
    """Attention whose projections are of 16-bit numbers; scores and softmax stay float32."""

    def __init__(self, *sizes: Any, kind: str = "float16", **options: Any) -> None:
        super().__init__(*sizes, **options)
        check_kind(kind)
        self.kind = kind

    def project(self, x: Tensor, rows: slice) -> Tensor:
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if rows != slice(None):
            weight, bias = weight[rows], None if bias is None else bias[rows]
        return half_linear(x, weight, bias, kind=self.kind)


class HalfEncoderLayer(TransformerEncoderLayer):
    """A layer of `HalfLinear`s, the first of which takes the activation in, so it is kept once."""

    def feed_forward(self, x: Tensor) -> Tensor:
        first = self.linear1
        name = fused_name_of_half(first, self.activation)
        if name is None:
            return super().feed_forward(x)
        check_features(first, x, first.in_features)
        hidden = half_linear(x, first.weight, first.bias, name, first.kind)
        return self.linear2(self.dropout(hidden))


def fused_name_of_half(layer: Module, following: Module) -> str | None:
    """What `half_linear` calls the activation, by the rules of chapter 5's `fused_name`."""
    if type(layer).forward is not HalfLinear.forward or layer.hooked:
        return None
    return fused_name(Linear(1, 1), following)


def half_precision(kind: str = "float16") -> dict[str, Any]:
    """The options that make a GPT compute on 16-bit numbers: GPT(config, **half_precision())."""
    check_kind(kind)
    return {
        "layer": HalfEncoderLayer,
        "linear": functools.partial(HalfLinear, kind=kind),
        "attention": functools.partial(HalfAttention, kind=kind),
    }


def half_activation_bytes(config: GPTConfig, batch: int, time: int) -> int:
    """What `accounting.activation_bytes` counts, of a GPT made with `half_precision`.

    In 16 bits are what the matrices multiply, and once more the activation's input. In 32 stay the
    norms' inputs, x - mean, all of attention but the answers, the logits and the loss.
    """
    width, asked, packed, first = sizes(config)
    n = batch * time
    norm = 4 * (width * (norm_arrays(config) - 1) + 1) + 2 * width
    attention = 4 * (packed + 2 * asked + config.n_head * (time + 1)) + 2 * asked
    head = norm + 4 * (2 * config.vocab_size + 1) + 3 * 8
    return n * (config.n_layer * (2 * norm + attention + 2 * (first + config.hidden)) + head)
