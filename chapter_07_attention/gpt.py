"""GPT: a stack of layers that may not look ahead, and a guess at the next token at every place.

One pass over a text of T tokens is T examples, each with all that came before it as its context.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Sequence

import numpy as np

from chapter_03_neural_nets import Module, ModuleList, evaluating, normal_, zeros_
from chapter_05_gradient_mastery import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from chapter_07_attention.alibi import ALiBi
from chapter_07_attention.config import GPTConfig
from chapter_07_attention.layers import TransformerEncoderLayer
from chapter_07_attention.masks import as_bias, causal_mask, rounded_up, sliding_window_mask
from chapter_07_attention.positions import LearnedPositions, Positions, SinusoidalPositions
from chapter_07_attention.rotary import Rotary
from utils import Tensor

INITIAL_STD = 0.02
ADDING = ("out_proj.weight", "linear2.weight")  # what they make is added to the residual path


class GPT(Module):
    """Logits of the next token at every place: ids (B, T) to (B, T, vocab_size).

    Raises ValueError for ids that are no tokens and texts longer than `block_size`. `layer` makes
    the layers and `linear` the last matrix; `options` go to the layers.
    """

    def __init__(
        self,
        config: GPTConfig,
        layer: Callable[..., Module] = TransformerEncoderLayer,
        linear: Callable[..., Module] = Linear,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.config = config
        norm = norm_of(config)
        self.embedding = Embedding(config.vocab_size, config.n_embd, rng=rng)
        self.positions = positions_of(config, rng)
        self.dropout = Dropout(config.dropout, rng)
        self.layers = ModuleList(
            layer(
                config.n_embd,
                config.n_head,
                config.hidden,
                config.dropout,
                config.activation,
                norm_first=True,
                bias=config.bias,
                norm=norm,
                linear=linear,
                num_kv_heads=config.n_kv_head,
                head_dim=config.head_dim,
                positions=self.positions,
                rng=rng,
                **options,
            )
            for _ in range(config.n_layer)
        )
        self.norm = norm(config.n_embd)
        self.head = linear(config.n_embd, config.vocab_size, bias=False, rng=rng)
        if config.tied:
            self.head.weight = self.embedding.weight
        self.reset_parameters(rng)

    def reset_parameters(self, rng: np.random.Generator | None = None) -> None:
        """Small normal weights; smaller where 2 n_layer parts add to the residual path.

        What swapped-in layers call otherwise than `weight` and `bias` stays as they began it.
        """
        for name, p in self.named_parameters():
            own = name.rpartition(".")[2]
            if own in ("bias", "in_proj_bias"):
                zeros_(p)
            elif own in ("weight", "in_proj_weight") and p.ndim == 2:
                adds = 2 * self.config.n_layer if name.endswith(ADDING) else 1
                normal_(p, std=INITIAL_STD / adds**0.5, rng=rng)

    def forward(self, ids: Any) -> Tensor:
        return self.head(self.hidden_states(ids))

    def hidden_states(self, ids: Any) -> Tensor:
        """What the last layer says at every place: (B, T, n_embd)."""
        x = self.embed(ids)
        mask = self.mask(x.shape[1], x.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)

    def embed(self, ids: Any) -> Tensor:
        """The vectors of tokens that know their places: (B, T, n_embd)."""
        ids = np.asarray(ids)
        if ids.ndim != 2 or ids.shape[1] > self.config.block_size:
            raise ValueError(
                f"ids (B, T) of at most {self.config.block_size} tokens a text are needed, "
                f"not {ids.shape}"
            )
        return self.dropout(self.positions.embed(self.embedding(ids)))

    def mask(self, time: int, dtype: Any) -> np.ndarray:
        """What is added to the scores, (T, T) or (heads, T, T): -infinity for the future."""
        bias = no_future(rounded_up(time), self.config.window)[:time, :time]
        own = self.positions.bias(time, time)
        return as_bias(bias if own is None else bias + own, dtype)

    def next_logits(self, ids: Sequence[int]) -> np.ndarray:
        """The logits after a text, of which the last `block_size` tokens count: (vocab_size,).

        Raises ValueError for no tokens at all: begin with a boundary.
        """
        if len(ids) == 0:
            raise ValueError("a text of no tokens has no next one: begin with a boundary")
        with evaluating(self):
            last = self.hidden_states(np.array([ids[-self.config.block_size :]]))[:, -1]
            return self.head(last).data[0]


@functools.lru_cache(maxsize=4)
def no_future(time: int, window: int | None) -> np.ndarray:
    """-infinity where a place may not look: (T, T)."""
    mask = causal_mask(time) if window is None else sliding_window_mask(window, time)
    bias = as_bias(mask, np.float32)
    bias.flags.writeable = False
    return bias


def positions_of(config: GPTConfig, rng: np.random.Generator | None = None) -> Positions:
    """The scheme that a configuration names."""
    return {
        "learned": lambda: LearnedPositions(config.block_size, config.n_embd, rng),
        "sinusoidal": lambda: SinusoidalPositions(INITIAL_STD),
        "rotary": lambda: Rotary(config.rope_theta),
        "alibi": lambda: ALiBi(config.n_head),
        "none": Positions,
    }[config.positions]()


def norm_of(config: GPTConfig) -> Callable[[int], Module]:
    """What makes the norms that a configuration names."""
    if config.norm == "rms":
        return functools.partial(RMSNorm, eps=config.norm_eps)
    return functools.partial(LayerNorm, eps=config.norm_eps, bias=config.bias)
