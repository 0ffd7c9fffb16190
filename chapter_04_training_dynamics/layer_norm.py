"""Layer normalisation: every example gets mean 0 and variance 1 over its own features.

No example depends on its companions, so there are no running statistics, training and evaluation
do the same, and a batch of one is as good as any. RMS normalisation leaves the mean alone: most of
what helps is the scale.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from chapter_03_neural_nets import Module, Parameter
from chapter_03_neural_nets.optimizers import in_range
from chapter_04_training_dynamics.batch_norm import standardize
from utils import Tensor


def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    dims: int = 1,
) -> Tensor:
    """Standardise x over its last `dims` axes, then scale and shift every element there.

    Source: Ba, Kiros, Hinton, 2016, arXiv:1607.06450.
    """  # fmt: skip
    y, _, _ = standardize(x, tuple(range(-dims, 0)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    x: Tensor, weight: Tensor | None = None, eps: float | None = None, dims: int = 1
) -> Tensor:
    """x over the root of its mean square along the last `dims` axes, times the weight.

    `eps` None is the dtype's own, the distance from 1 to the next number.
    Source: Zhang, Sennrich, 2019, arXiv:1910.07467.
    """
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    square = np.mean(np.square(x), axis=tuple(range(-dims, 0)), keepdims=True)
    y = x / np.sqrt(square + eps)
    return y if weight is None else y * weight


class LayerNorm(Module):
    """Layer normalisation of (..., *normalized_shape); a whole number is one axis.

    Raises ValueError where the last axes of x are others.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps = as_shape(normalized_shape), in_range("eps", eps)
        ones, zeros = (f(self.normalized_shape, np.float32) for f in (np.ones, np.zeros))
        self.weight = Parameter(ones) if elementwise_affine else None
        self.bias = Parameter(zeros) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        check_last_axes(self, x)
        return self.normalize(x)

    def normalize(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, self.eps, len(self.normalized_shape))

    def extra_repr(self) -> str:
        affine = self.weight is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}"


class RMSNorm(Module):
    """RMS normalisation of (..., *normalized_shape); a whole number is one axis.

    Raises ValueError where the last axes of x are others.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        self.normalized_shape = as_shape(normalized_shape)
        self.eps = None if eps is None else in_range("eps", eps)
        ones = np.ones(self.normalized_shape, np.float32)
        self.weight = Parameter(ones) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        check_last_axes(self, x)
        return self.normalize(x)

    def normalize(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps, len(self.normalized_shape))

    extra_repr = LayerNorm.extra_repr


def as_shape(sizes: int | Sequence[int]) -> tuple[int, ...]:
    """The sizes as a tuple; ValueError unless there are some, all from 1 up."""
    shape = tuple(np.atleast_1d(sizes).tolist())
    if not shape or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise ValueError(f"normalized_shape is one or more sizes from 1 up, not {sizes}")
    return shape


def check_last_axes(module: LayerNorm | RMSNorm, x: Tensor) -> None:
    shape = module.normalized_shape
    if x.shape[-len(shape) :] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{module!r} takes (..., {wanted}), not {x.shape}")
