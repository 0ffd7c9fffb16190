"""A GPT that only reads and writes: the forward pass of chapter 7 on bare arrays, a row a token.

Training looks at whole texts; serving looks at whatever tokens are new, of any number of texts, one
below the other. All parts of the network but one work on each row by itself. The one is attention,
which is handed in: it knows which row belongs to which text, and where the older tokens' keys and
values are (`paged_attention.py`).
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Union

import numpy as np

from chapter_05_gradient_mastery.activations import FUSED
from chapter_07_attention import GPT, GPTConfig, attend, rotate, swiglu
from chapter_07_attention.config import shapes_of
from chapter_07_attention.gpt import INITIAL_STD
from chapter_07_attention.masks import rounded_up
from chapter_07_attention.positions import sinusoids
from chapter_10_production.matrix import Matrix
from chapter_10_production.paged_attention import mask_of

Weights = Mapping[str, Union[Matrix, np.ndarray]]
Rows = Callable[[np.ndarray], np.ndarray]  # (N, in) to (N, out)


class Decoder:
    """The network of a configuration with these weights, by the names that GPT gives them.

    Matrices are `Matrix` or a kind of it, vectors arrays. Raises ValueError for weights that do not
    fit the configuration.
    """

    def __init__(self, config: GPTConfig, weights: Weights) -> None:
        check_shapes(config, weights)
        self.config, self.embedding = config, weights["embedding.weight"]
        self.head = self.embedding if config.tied else weights["head.weight"]
        self.weights = {**weights, "head.weight": self.head}
        self.places = place_vectors(config, weights)
        self.layers = [Layer(config, weights, f"layers.{i}.") for i in range(config.n_layer)]
        self.norm = norm_of(config, weights, "norm.")

    @classmethod
    def from_model(cls, model: GPT) -> Decoder:
        """That of a trained model, in float32, as cached values are."""
        arrays = {n: np.asarray(a, np.float32) for n, a in model.state_dict().items()}
        return cls(model.config, {n: Matrix(a) if a.ndim == 2 else a for n, a in arrays.items()})

    @property
    def nbytes(self) -> int:
        """The memory of all weights, those that have two names counted once."""
        return sum(w.nbytes for w in {id(w): w for w in self.weights.values()}.values())

    def __call__(self, ids: np.ndarray, places: np.ndarray, attention: Callable) -> np.ndarray:
        """Tokens and their places in their texts, (N,) each, to what is known of them: (N, C).

        `attention(i, packed)` answers for layer i, from queries, keys and values side by side.
        """
        x = self.embedding.rows(ids)
        if self.places is not None:
            x = x + self.places(places)
        for i, layer in enumerate(self.layers):
            x = layer(x, places, lambda packed, i=i: attention(i, packed))
        return self.norm(x)

    def logits(self, ids: Any) -> np.ndarray:
        """Of the next token at every place of whole texts: (B, T) to (B, T, vocab_size).

        Raises ValueError for ids that are no tokens and texts that are longer than `block_size`.
        """
        ids, config = np.asarray(ids), self.config
        if ids.ndim != 2 or ids.size == 0 or ids.shape[1] > config.block_size:
            raise ValueError(f"ids (B, T) of 1 to {config.block_size} tokens a text are needed, "
                             f"not {ids.shape}")  # fmt: skip
        if ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= config.vocab_size:
            raise ValueError(f"tokens are whole numbers from 0 to {config.vocab_size - 1}")
        batch, time = ids.shape
        mask = mask_of(config, np.arange(time)[None], time)

        def attention(i: int, packed: np.ndarray) -> np.ndarray:
            texts = packed.reshape(batch, time, -1)
            y = attend(texts, heads=config.n_head, kv_heads=config.n_kv_head, mask=mask)
            return y.reshape(batch * time, -1)

        hidden = self(ids.reshape(-1), np.tile(np.arange(time), batch), attention)
        return self.head.apply(hidden).reshape(batch, time, -1)


class Layer:
    """Attention, then a perceptron, each on the residual path past it."""

    def __init__(self, config: GPTConfig, weights: Weights, prefix: str) -> None:
        def linear(name: str, separator: str = ".") -> Rows:
            name = f"{prefix}{name}{separator}"
            return affine(weights[name + "weight"], weights.get(name + "bias"))

        self.norm1 = norm_of(config, weights, f"{prefix}norm1.")
        self.norm2 = norm_of(config, weights, f"{prefix}norm2.")
        self.project, self.out = linear("self_attn.in_proj", "_"), linear("self_attn.out_proj")
        self.up, self.down = linear("linear1"), linear("linear2")
        self.activate = activation_of(config)
        self.turn = turn_of(config)

    def __call__(self, x: np.ndarray, places: np.ndarray, attention: Rows) -> np.ndarray:
        packed = self.turn(self.project(self.norm1(x)), places)
        x = x + self.out(attention(packed))
        return x + self.down(self.activate(self.up(self.norm2(x))))


def affine(matrix: Matrix, bias: np.ndarray | None) -> Rows:
    """x W^T + b."""
    if bias is None:
        return matrix.apply

    def apply(x: np.ndarray) -> np.ndarray:
        y = matrix.apply(x)
        y += bias
        return y

    return apply


def norm_of(config: GPTConfig, weights: Weights, prefix: str) -> Rows:
    """Chapter 4's norm of each row, its means being products with a column."""
    weight, bias = weights[prefix + "weight"], weights.get(prefix + "bias")
    mean = np.full((config.n_embd, 1), 1 / config.n_embd, np.float32)

    def rms_norm(x: np.ndarray) -> np.ndarray:
        y = x / np.sqrt((x * x) @ mean + config.norm_eps)
        y *= weight
        return y

    def layer_norm(x: np.ndarray) -> np.ndarray:
        y = rms_norm(x - x @ mean)
        if bias is not None:
            y += bias
        return y

    return rms_norm if config.norm == "rms" else layer_norm


def activation_of(config: GPTConfig) -> Rows:
    if config.activation == "swiglu":
        return swiglu
    apply = FUSED[config.activation].apply
    return lambda z: apply(z)[0]


def turn_of(config: GPTConfig) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What places do to queries and keys."""
    if config.positions != "rotary":
        return lambda packed, places: packed
    turned = config.n_head + config.n_kv_head
    how = {"size": config.head_dim, "count": turned, "theta": config.rope_theta}
    return lambda packed, places: rotate(packed[None], places=places, **how)[0]


def place_vectors(config: GPTConfig, weights: Weights) -> Rows | None:
    """What places add to the tokens' vectors."""
    if config.positions == "learned":
        return weights["positions.weight"].rows
    if config.positions == "sinusoidal":
        table = INITIAL_STD * sinusoids(rounded_up(config.block_size), config.n_embd)
        return table.astype(np.float32).__getitem__
    return None


def check_shapes(config: GPTConfig, weights: Weights) -> None:
    needed = shapes_of(config)
    problems = [f"{name} is missing" for name in needed if name not in weights]
    problems += [f"{name} is not expected" for name in weights if name not in needed]
    problems += [
        f"{name} has shape {weights[name].shape} where {shape} is needed"
        for name, shape in needed.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    if problems:
        raise ValueError(
            f"the weights are not those of this configuration: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
        )
