"""What a GPT costs, by formula: its parameters, its arithmetic, and the memory of a training step.

Nearly all arithmetic is in a few matrix products, and nearly all memory in the arrays that backward
needs again. Both follow from the sizes alone, so they are known before anything is made or run.
"""

from __future__ import annotations

from typing import NamedTuple

from chapter_07_attention import GPTConfig
from chapter_07_attention.config import whole_number

# Arrays of (B T, hidden) that are kept from the first matrix of the perceptron to the second: what
# the activation's slope needs, and what the second matrix is multiplied by (chapters 5 and 7).
KEPT_BY_ACTIVATION = {"relu": 1, "silu": 2, "gelu": 3, "gelu_tanh": 3, "swiglu": 5}


class Product(NamedTuple):
    """`count` products of (rows, inner) by (inner, columns)."""

    name: str
    count: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for every number that is multiplied."""
        return 2 * self.count * self.rows * self.inner * self.columns


class StateBytes(NamedTuple):
    """Bytes a parameter, of the weights, their gradients, and what the optimiser remembers."""

    weights: int
    gradients: int
    optimizer: int


FLOAT32 = StateBytes(4, 4, 8)  # Adam's two averages
MIXED = StateBytes(2, 2, 12)  # 16 bits, and in float32: the averages, and the weights once more


def layer_parameters(config: GPTConfig) -> int:
    """The numbers that one layer learns."""
    width, asked, packed, first = sizes(config)
    matrices = width * (packed + asked + first + config.hidden)
    biases = packed + width + first + width if config.bias else 0
    return matrices + biases + 2 * norm_parameters(config)


def parameters(config: GPTConfig) -> int:
    """The numbers that a GPT learns; a table that serves at both ends counts once."""
    table = config.vocab_size * config.n_embd
    places = config.block_size * config.n_embd if config.positions == "learned" else 0
    layers = config.n_layer * layer_parameters(config)
    return table * (1 if config.tied else 2) + places + layers + norm_parameters(config)


def norm_parameters(config: GPTConfig) -> int:
    return config.n_embd * (2 if config.norm == "layer" and config.bias else 1)


def sizes(config: GPTConfig) -> tuple[int, int, int, int]:
    """The model's width, and those of all queries, of queries, keys and values, of what comes out
    of the perceptron's first matrix."""
    asked = config.n_head * config.head_dim
    packed = asked + 2 * config.n_kv_head * config.head_dim
    return config.n_embd, asked, packed, config.hidden * (2 if config.activation == "swiglu" else 1)


def layer_products(config: GPTConfig, batch: int, time: int, ranks: int = 1) -> list[Product]:
    """One layer's matrix products, forward, of which each of `ranks` does its part.

    Masked scores count: they are computed all the same. Source of the division among ranks:
    Shoeybi et al., 2019, arXiv:1909.08053.
    """
    width, asked, packed, first = sizes(config)
    n, heads, head_dim = batch * time, batch * config.n_head // ranks, config.head_dim
    return [
        Product("queries, keys, values", 1, n, width, packed // ranks),
        Product("scores", heads, time, head_dim, time),
        Product("answers", heads, time, time, head_dim),
        Product("output", 1, n, asked // ranks, width),
        Product("hidden", 1, n, width, first // ranks),
        Product("from hidden", 1, n, config.hidden // ranks, width),
    ]


def head_product(config: GPTConfig, batch: int, time: int, ranks: int = 1) -> Product:
    """The logits, forward."""
    return Product("logits", 1, batch * time, config.n_embd, -(-config.vocab_size // ranks))


def forward_flops(config: GPTConfig, batch: int, time: int) -> int:
    """Floating-point operations in the matrix products of a forward pass over (batch, time)."""
    check_sizes(batch=batch, time=time)
    layer = sum(product.flops for product in layer_products(config, batch, time))
    return config.n_layer * layer + head_product(config, batch, time).flops


def training_flops(config: GPTConfig, batch: int, time: int, checkpointing: bool = False) -> int:
    """The same of a training step: backward takes two products for each of forward.

    y = x w sends g w^T to x and x^T g to w, each as large as the first. With `checkpointing` of
    every layer, the layers run forward twice. For GPT-2's shape that is 96 B T L C^2 (1 + T / (6 C)
    + V / (16 L C)): Narayanan et al., 2021, arXiv:2104.04473, equation 3.
    """
    forward = forward_flops(config, batch, time)
    return 3 * forward + (forward - head_product(config, batch, time).flops) * checkpointing


def layer_activation_bytes(config: GPTConfig, batch: int, time: int, itemsize: int = 4) -> int:
    """Bytes that one layer of this book keeps from forward for backward, its input among them.

    Every kernel keeps its arguments and what its slope needs:

    - two norms their inputs, and LayerNorm x - mean; a number a row each;
    - the matrices what they multiply: both norms' outputs, the answers, the activation's output;
    - attention queries, keys and values (turned ones beside the others), the queries once more,
      scaled, all exponentials, their row sums, and the answers by head;
    - the activation what `KEPT_BY_ACTIVATION` counts.

    For GPT-2's shape these are 24 B T C + B H T^2 numbers. Without dropout; ValueError with it.
    """
    check_sizes(batch=batch, time=time, itemsize=itemsize)
    if config.dropout:
        raise ValueError(f"what dropout keeps is not counted: it must be 0, not {config.dropout}")
    width, asked, packed, _ = sizes(config)
    norms = 2 * (width * norm_arrays(config) + 1)
    turned = packed if config.positions == "rotary" else 0
    attention = packed + turned + 3 * asked + config.n_head * (time + 1)
    hidden = config.hidden * KEPT_BY_ACTIVATION[config.activation]
    return itemsize * batch * time * (norms + attention + hidden)


def head_activation_bytes(config: GPTConfig, batch: int, time: int, itemsize: int = 4) -> int:
    """The same of what follows the layers: a norm, the logits, and the exponentials of the loss.

    The loss also keeps, for every row, their sum, its number, and its target twice (8 bytes each).
    """
    check_sizes(batch=batch, time=time, itemsize=itemsize)
    numbers = config.n_embd * norm_arrays(config) + 1 + 2 * config.vocab_size + 1
    return batch * time * (itemsize * numbers + 3 * 8)


def norm_arrays(config: GPTConfig) -> int:
    """Arrays of (B, T, C): what goes in, what comes out, and LayerNorm's x - mean."""
    return 3 if config.norm == "layer" else 2


def activation_bytes(
    config: GPTConfig, batch: int, time: int, itemsize: int = 4, checkpointing: bool = False
) -> int:
    """Bytes that a GPT and its loss keep between forward and backward.

    With `checkpointing` of every layer, of each only its input; backward then makes the rest
    again, `layer_activation_bytes` at a time, when the head's share is free already. The mask,
    which all layers share, is not counted.
    """
    layer = layer_activation_bytes(config, batch, time, itemsize)
    if checkpointing:
        layer = itemsize * batch * time * config.n_embd
    return config.n_layer * layer + head_activation_bytes(config, batch, time, itemsize)


def model_state_bytes(
    parameters: int, ranks: int = 1, zero_stage: int = 0, state: StateBytes = FLOAT32
) -> int:
    """Bytes a rank holds of weights, gradients and the optimiser's state.

    Stage 1 divides the optimiser's state among the ranks, 2 the gradients too, 3 also the weights.
    Where it does not come out even, the bytes of the rank that has most. Source: Rajbhandari et
    al., 2019, arXiv:1910.02054.
    """
    check_sizes(parameters=parameters, ranks=ranks)
    check_stage(zero_stage)
    share = -(-parameters // ranks)
    held = [share if zero_stage >= stage else parameters for stage in (3, 2, 1)]
    return sum(count * size for count, size in zip(held, state))


def check_stage(zero_stage: int) -> None:
    if zero_stage not in (0, 1, 2, 3) or isinstance(zero_stage, bool):
        raise ValueError(f"ZeRO has the stages 0, 1, 2 and 3, not {zero_stage!r}")


def check_sizes(**values: int) -> None:
    """ValueError where a size is no whole number from 1 up."""
    for name, value in values.items():
        whole_number(name, value)
