"""The layers of a multilayer perceptron: a matrix, a table of vectors, forgetting on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_03_neural_nets.initialization import kaiming_uniform_, normal_, uniform_
from chapter_03_neural_nets.module import Module, Parameter
from utils import Tensor
from utils.promotion import plain
from utils.seeding import generator


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) to (..., out_features).

    Both begin uniform within 1 / sqrt(in_features) of 0, as PyTorch's do. Raises ValueError where
    the last axis of x is not in_features long.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.empty((out_features, in_features), np.float32))
        self.bias = Parameter(np.empty(out_features, np.float32)) if bias else None
        self.reset_parameters(rng)

    def reset_parameters(self, rng: np.random.Generator | None = None) -> None:
        kaiming_uniform_(self.weight, a=5**0.5, rng=rng)
        if self.bias is not None:
            bound = max(self.in_features, 1) ** -0.5
            uniform_(self.bias, -bound, bound, rng)

    def forward(self, x: Tensor) -> Tensor:
        check_features(self, x, self.in_features)
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Embedding(Module):
    """A table of vectors, looked up by id: ids (...) to (..., embedding_dim).

    `padding_idx` is an id whose vector begins as zeros and gets no gradient. Raises ValueError for
    ids that are not whole numbers from 0 to num_embeddings - 1.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not 0 <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx={padding_idx} is not an id below {num_embeddings}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx
        self.weight = Parameter(np.empty((num_embeddings, embedding_dim), np.float32))
        self.reset_parameters(rng)

    def reset_parameters(self, rng: np.random.Generator | None = None) -> None:
        normal_(self.weight, rng=rng)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, ids: Any) -> Tensor:
        ids = check_ids(self, ids, self.num_embeddings)
        vectors = self.weight[ids]
        if self.padding_idx is None:
            return vectors
        return np.where(ids[..., None] == self.padding_idx, vectors.detach(), vectors)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Dropout(Module):
    """In training, each element is 0 with probability p, and the others grow by 1 / (1 - p).

    The expected output is the input, so that nothing needs to change when the dropping stops.
    Source: Srivastava et al., 2014, JMLR 15.
    """

    def __init__(self, p: float = 0.5, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p is a probability from 0 to 1, not {p}")
        self.p, self.rng = p, rng

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * dropout_mask(x, self.p, generator(self.rng))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """(B, ...) to (B, everything else)."""

    def forward(self, x: Tensor) -> Tensor:
        return np.reshape(x, (len(x), int(np.prod(x.shape[1:]))))


class Identity(Module):
    """Returns what it is given; it takes the place of a part that is left out."""

    def forward(self, x: Any) -> Any:
        return x


def dropout_mask(x: Tensor, p: float, rng: np.random.Generator) -> np.ndarray:
    """1 / (1 - p) with probability 1 - p, else 0; in the shape and dtype of x."""
    kept = rng.random(x.shape, np.float32) >= p
    return kept * x.dtype.type(1 / (1 - p) if p < 1 else 0)


def check_sizes(**sizes: int) -> None:
    """Raise ValueError for a size that is no whole number from 0 up."""
    for name, size in sizes.items():
        if not (isinstance(size, (int, np.integer)) and size >= 0):
            raise ValueError(f"{name} is a whole number from 0 up, not {size}")


def check_features(module: Module, x: Tensor, features: int, axis: int = -1) -> None:
    """Raise ValueError unless x has floats and so many features along an axis."""
    shape = x.shape if isinstance(x, Tensor) else np.shape(x)
    if len(shape) < abs(axis) or shape[axis] != features:
        raise ValueError(f"{module!r} needs {features} features in axis {axis}, not {shape}")


def check_ids(module: Module, ids: Any, count: int) -> np.ndarray:
    """The ids as an array; ValueError unless all are whole numbers from 0 to count - 1."""
    ids = plain(ids)
    if ids.dtype.kind not in "iu" and ids.size:
        raise ValueError(f"{module!r} takes ids, which are whole numbers, not {ids.dtype}")
    if ids.size and not (ids.min() >= 0 and ids.max() < count):
        outside = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(f"{module!r} has ids from 0 to {count - 1}, not {outside}")
    return ids.astype(np.int64, copy=False)
