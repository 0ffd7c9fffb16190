"""Looking far back in few layers: a tree over the last tokens, and that tree for every token.

`HierarchicalNet` joins neighbours two by two, level by level, so eight tokens take three layers and
each layer is small. Moved on by one token, almost all of its work would be done again.
`WaveNet` keeps it: its layers look at a token and one that is 1, 2, 4, 8, ... places back, which is
the same tree, computed for every place at once, each part only once.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from chapter_03_neural_nets import Module, ModuleList, evaluating, relu, sigmoid
from chapter_05_gradient_mastery import BatchNorm1d, Dropout, Embedding, Linear
from chapter_06_hierarchical.convolution_layers import Conv1d
from utils import Tensor


class FlattenConsecutive(Module):
    """Joins every n neighbours in time: (B, T, C) to (B, T / n, n C)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"neighbours are joined 1 by 1, 2 by 2, ..., not {n}")
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3:
            raise ValueError(f"{self!r} takes (B, T, C), not {x.shape}")
        batch, time, channels = x.shape
        if time % self.n:
            raise ValueError(f"{self!r} joins {self.n} by {self.n}, which {time} are not")
        return np.reshape(x, (batch, time // self.n, self.n * channels))

    def extra_repr(self) -> str:
        return str(self.n)


class HierarchicalNet(Module):
    """Logits of the next token from the last `context`, a power of 2: (B, context) to (B, vocab).

    Source: A. Karpathy, github.com/karpathy/nn-zero-to-hero, lecture 6.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int = 8,
        embedding_dim: int = 24,
        hidden: int = 128,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        levels = int(context).bit_length() - 1
        if context < 2 or context != 2**levels:
            raise ValueError(f"a tree of pairs has 2, 4, 8, ... leaves, not {context}")
        self.context, self.flatten = context, FlattenConsecutive(2)
        self.embedding = Embedding(vocab_size, embedding_dim, rng=rng)
        sizes = [embedding_dim, *[hidden] * levels]
        self.linears = ModuleList(
            Linear(2 * size, hidden, bias=False, rng=rng) for size in sizes[:-1]
        )
        self.norms = ModuleList(BatchNorm1d(hidden) for _ in self.linears)
        self.head = Linear(hidden, vocab_size, rng=rng)

    def forward(self, ids: Any) -> Tensor:
        if np.ndim(ids) != 2 or np.shape(ids)[1] != self.context:
            raise ValueError(
                f"{self.context} tokens are seen, (B, {self.context}), not {np.shape(ids)}"
            )
        x = self.embedding(ids)
        for linear, norm in zip(self.linears, self.norms):
            x = linear(self.flatten(x))
            batch, time, hidden = x.shape
            x = np.tanh(norm(np.reshape(x, (batch * time, hidden))))
            x = np.reshape(x, (batch, time, hidden))
        return self.head(x[:, 0])

    def next_logits(self, ids: Sequence[int], boundary: int = 0) -> np.ndarray:
        """The logits after a document's first tokens `ids`: (vocab_size,)."""
        window = ([boundary] * self.context + list(ids))[len(ids) :]
        with evaluating(self):
            return self(np.array([window])).data[0]


class CausalConv1d(Conv1d):
    """Convolution that sees no later token: (B, C, T) to (B, O, T), as padding is in front only."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        rng: np.random.Generator | None = None,
    ) -> None:
        before = dilation * (kernel_size - 1)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            padding=[(before, 0)],
            dilation=dilation,
            rng=rng,
        )


class GatedBlock(Module):
    """x + W (tanh(what is seen) * sigmoid(how much of it counts)); what is said besides x.

    A token and the one `dilation` places back: (B, C, T) to x and skip, (B, C, T) each.
    """

    def __init__(
        self,
        channels: int,
        dilation: int,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.seen = CausalConv1d(channels, 2 * channels, 2, dilation, rng=rng)
        self.dropout = Dropout(dropout, rng)
        self.mix = Conv1d(channels, 2 * channels, 1, rng=rng)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.seen(x)
        channels = x.shape[1]
        y = np.tanh(seen[:, :channels]) * sigmoid(seen[:, channels:])
        mixed = self.mix(self.dropout(y))
        return x + mixed[:, :channels], mixed[:, channels:]


class WaveNet(Module):
    """Logits of the next token at every place: ids (B, T) to (B, T, vocab_size).

    It sees sum(dilations) + 1 tokens. Source: van den Oord et al., 2016, arXiv:1609.03499.
    """

    def __init__(
        self,
        vocab_size: int,
        channels: int = 64,
        dilations: Sequence[int] = (1, 2, 4, 8),
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(dilations) == 0:
            raise ValueError("dilations is empty: WaveNet has a layer for each of them")
        self.embedding = Embedding(vocab_size, channels, rng=rng)
        self.blocks = ModuleList(GatedBlock(channels, d, dropout, rng) for d in dilations)
        self.hidden = Linear(channels, channels, rng=rng)
        self.head = Linear(channels, vocab_size, rng=rng)

    def forward(self, ids: Any) -> Tensor:
        x = np.swapaxes(self.embedding(ids), 1, 2)  # (B, C, T)
        said: Any = 0
        for block in self.blocks:
            x, skip = block(x)
            said = said + skip
        said = np.swapaxes(relu(said), 1, 2)  # (B, T, C)
        return self.head(relu(self.hidden(said)))

    def next_logits(self, ids: Sequence[int], boundary: int = 0) -> np.ndarray:
        """The logits after a document's first tokens `ids`: (vocab_size,)."""
        with evaluating(self):
            return self(np.array([[boundary, *ids]])).data[0, -1]
