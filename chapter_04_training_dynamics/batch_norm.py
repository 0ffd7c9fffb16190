"""Batch normalisation: every channel gets mean 0 and variance 1, measured on the batch itself.

However the layers below change, what the next layer sees keeps its scale, so signals neither fade
nor saturate on their way through many layers, and neither do gradients. A learned weight and bias
let each channel choose another scale. The price: an example's output depends on its companions.
In evaluation, running means of what was measured in training take the place of the batch.
"""

from __future__ import annotations

import numpy as np

from chapter_03_neural_nets import Module, Parameter
from chapter_03_neural_nets.optimizers import in_range
from utils import Tensor


def standardize(x: Tensor, axis: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + eps) over some axes; then the mean and the variance.

    The mean of squared deviations never loses digits, as E[x^2] - mean^2 does far from 0.
    """
    mean = np.mean(x, axis=axis, keepdims=True)
    centred = x - mean
    variance = np.mean(np.square(centred), axis=axis, keepdims=True)
    return centred / np.sqrt(variance + eps), mean, variance


def along_channels(values: Tensor, ndim: int) -> Tensor:
    """A number a channel, in a shape that broadcasts along axis 1: (1, C, 1, ...)."""
    return np.reshape(values, (1, -1) + (1,) * (ndim - 2))


def scale_and_shift(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """x * weight + bias, each a number a channel; None is left out."""
    x = x if weight is None else x * along_channels(weight, x.ndim)
    return x if bias is None else x + along_channels(bias, x.ndim)


def batch_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`batch_norm` of x, and the means and (biased) variances that it found: (1, C, 1, ...)."""
    y, mean, variance = standardize(x, (0, *range(2, x.ndim)), eps)
    return scale_and_shift(y, weight, bias), mean, variance


def batch_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Standardise each channel of x (B, C, ...) over all other axes, then scale and shift it.

    Source: Ioffe, Szegedy, 2015, arXiv:1502.03167.
    """
    return batch_statistics(x, weight, bias, eps)[0]


class BatchNorm(Module):
    """What batch norms of all shapes share; `shapes` says which a subclass takes.

    `momentum` is the share of each new batch in the running statistics; None makes them the means
    over all batches. Without `track_running_stats` there are none, and evaluation measures its
    batch as well. Raises ValueError for other shapes, and where a channel has fewer than two
    values to measure a variance on.
    """

    shapes: dict[int, str] = {}

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        if not num_features >= 1:
            raise ValueError(f"num_features is a number of channels from 1 up, not {num_features}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum is a share from 0 to 1, or None, not {momentum}")
        self.num_features, self.eps, self.momentum = num_features, in_range("eps", eps), momentum
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_features, np.float32)) if affine else None
        self.track_running_stats = track_running_stats
        if track_running_stats:
            self.register_buffer("running_mean", np.zeros(num_features, np.float32))
            self.register_buffer("running_var", np.ones(num_features, np.float32))
            self.register_buffer("num_batches_tracked", np.array(0, np.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        if self.track_running_stats and not self.training:
            return self.normalize_by_running(x)
        count = x.size // self.num_features
        if count < 2:
            raise ValueError(
                f"{self!r} measures the variance of each channel: an input of shape {x.shape} has "
                f"{count} values a channel, and at least 2 are needed"
            )
        y, mean, variance = self.normalize(x)
        if self.track_running_stats:
            self.track(mean, variance, count)
        return y

    def normalize(self, x: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """The output, and the batch's means and biased variances, of C numbers in any shape."""
        y, mean, variance = batch_statistics(x, self.weight, self.bias, self.eps)
        return y, mean.data, variance.data

    def normalize_by_running(self, x: Tensor) -> Tensor:
        """The output by the running statistics: one line through each channel, fixed."""
        mean = along_channels(self.running_mean, x.ndim)
        std = along_channels(np.sqrt(self.running_var + self.eps), x.ndim)
        return scale_and_shift((x - mean) / std, self.weight, self.bias)

    def track(self, mean: np.ndarray, variance: np.ndarray, count: int) -> None:
        """Move the running statistics towards those of a batch of `count` values a channel."""
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1))
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            running *= 1 - share
            running += share * new.reshape(-1)

    def check(self, x: Tensor) -> None:
        if x.ndim not in self.shapes or x.shape[1] != self.num_features:
            known = " or ".join(self.shapes.values())
            raise ValueError(f"{self!r} takes {known} with C = {self.num_features}, not {x.shape}")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.weight is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(BatchNorm):
    """Batch normalisation of features (B, C), or of sequences (B, C, L) over all their places."""

    shapes = {2: "(B, C)", 3: "(B, C, L)"}


class BatchNorm2d(BatchNorm):
    """Batch normalisation of images (B, C, H, W), over all their pixels."""

    shapes = {4: "(B, C, H, W)"}
