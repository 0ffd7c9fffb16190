"""Normalisation as one node: what the mean and the variance send back, in one line.

With the normal values n = (x - mean) / std over N elements and dn their gradient, seven steps by
hand become dx = (dn - mean(dn) - n mean(dn n)) / std: whatever in the gradient would only shift or
stretch all N together is taken out, as the normalisation takes it out of x.
"""

from __future__ import annotations

import math

import numpy as np

import chapter_04_training_dynamics as chapter_04
from chapter_04_training_dynamics.batch_norm import along_channels
from utils import Tensor, kernel
from utils.primitives import ROWS_PER_BLOCK, total


@kernel(composed=chapter_04.layer_norm)
def layer_norm(x, weight=None, bias=None, eps=1e-5, dims=1):
    """x standardised over its last `dims` axes, then scaled and shifted element by element."""
    rows = as_rows(x, dims)
    scale, shift = (as_row(p, x, dims, missing) for p, missing in ((weight, 1), (bias, 0)))
    centred = rows - row_means(rows)[:, None]
    inverse_std = 1 / np.sqrt(row_mean_products(centred, centred) + eps)
    y = outer(inverse_std, scale)
    y *= centred
    y += shift

    def backward(g, wanted):
        g = g.reshape(rows.shape)
        dx, d_scale = through_scaling(g, centred, inverse_std, scale)
        if wanted[0]:
            dx -= (g @ scale * inverse_std / len(scale))[:, None]
        return _fitted(x, dims, wanted, dx, d_scale, g)

    return y.reshape(x.shape), backward


@kernel(composed=chapter_04.rms_norm)
def rms_norm(x, weight=None, eps=None, dims=1):
    """x over the root of its mean square along its last `dims` axes, times the weight."""
    rows, scale = as_rows(x, dims), as_row(weight, x, dims, 1)
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    inverse_rms = 1 / np.sqrt(row_mean_products(rows, rows) + eps)
    y = outer(inverse_rms, scale)
    y *= rows

    def backward(g, wanted):
        g = g.reshape(rows.shape)
        return _fitted(x, dims, wanted, *through_scaling(g, rows, inverse_rms, scale))

    return y.reshape(x.shape), backward


def through_scaling(g, rows, inverse, scale):
    """The gradients of rows and scale in y = rows inverse scale, inverse = 1 / rms(rows).

    The normal values rows * inverse are never made: their factors are numbers a row or a column,
    and go into products with vectors.
    """
    product = g * rows
    d_scale = weighted_sum(inverse, product)
    stretch = product @ scale
    stretch *= inverse * inverse * inverse
    stretch /= len(scale)
    np.multiply(rows, stretch[:, None], out=product)
    dx = outer(inverse, scale)
    dx *= g
    dx -= product
    return dx, d_scale


def batch_norm_composed(x, weight=None, bias=None, eps=1e-5, moments=None) -> Tensor:
    return chapter_04.batch_norm(x, weight, bias, eps)


@kernel(composed=batch_norm_composed)
def batch_norm(x, weight=None, bias=None, eps=1e-5, moments=None):
    """Each channel of x (B, C, ...) standardised over all other axes, then scaled and shifted.

    `moments` are the mean and variance of the channels, (C,) each, if they are known already.
    """
    mean, variance = channel_moments(x) if moments is None else moments
    inverse_std = along_channels(1 / np.sqrt(variance + eps), x.ndim)
    normal = x - along_channels(mean, x.ndim)
    normal *= inverse_std
    scale = 1 if weight is None else along_channels(weight, x.ndim)
    y = normal * scale
    if bias is not None:
        y += along_channels(bias, x.ndim)

    def backward(g, wanted):
        product = g * normal
        d_bias, d_weight = channel_sums(g), channel_sums(product)
        dx = None
        if wanted[0]:
            count = values_per_channel(x)
            dx = np.multiply(normal, along_channels(d_weight / -count, x.ndim), out=product)
            dx += g
            dx -= along_channels(d_bias / count, x.ndim)
            dx *= inverse_std * scale
        return tuple(found if want else None for found, want in zip((dx, d_weight, d_bias), wanted))

    return y, backward


def as_rows(x: np.ndarray, dims: int) -> np.ndarray:
    """The last `dims` axes as one, all others as another."""
    split = x.ndim - dims
    return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))


def as_row(parameter: np.ndarray | None, x: np.ndarray, dims: int, missing: float) -> np.ndarray:
    """A weight or bias of the last `dims` axes, or one that broadcasts to them, as one row."""
    shape = x.shape[x.ndim - dims :]
    if parameter is None:
        return np.full(math.prod(shape), missing, x.dtype)
    if parameter.shape == shape:
        return parameter.reshape(-1)
    own = parameter.reshape(parameter.shape[max(parameter.ndim - dims, 0) :])
    return np.broadcast_to(own, shape).ravel()


def row_means(a: np.ndarray) -> np.ndarray:
    """The mean of every row: (rows,)."""
    return total(a, axis=1) / a.shape[1]


def row_mean_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of every row of a * b, as products of rows and columns: (rows,)."""
    return np.matmul(a[:, None, :], b[:, :, None])[:, 0, 0] / a.shape[1]


def outer(column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Every product of the two: (rows, columns). As a matrix product it is written faster."""
    return np.dot(column[:, None], row[None])


def weighted_sum(weights: np.ndarray, a: np.ndarray) -> np.ndarray:
    """weights (rows) @ a (rows, columns), whose error does not grow with the number of rows."""
    if len(a) <= ROWS_PER_BLOCK:
        return weights @ a
    blocks = [slice(i, i + ROWS_PER_BLOCK) for i in range(0, len(a), ROWS_PER_BLOCK)]
    return total(np.array([weights[i] @ a[i] for i in blocks]), axis=0)


def channel_sums(a: np.ndarray) -> np.ndarray:
    """The sum of a (B, C, ...) over all axes but the channels': (C,)."""
    return total(a if a.ndim == 2 else a.sum(axis=tuple(range(2, a.ndim))), axis=0)


def values_per_channel(x: np.ndarray) -> int:
    return len(x) * math.prod(x.shape[2:])


def channel_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the (biased) variance of every channel of x (B, C, ...): (C,) each."""
    count = values_per_channel(x)
    mean = channel_sums(x) / count
    centred = x - along_channels(mean, x.ndim)
    centred *= centred
    return mean, channel_sums(centred) / count


def _fitted(x, dims, wanted, dx, d_scale, d_shift_by_row=None):
    """The gradients of x, and of the weight and the bias that were given, in their shapes."""
    shape = x.shape[x.ndim - dims :]
    found = [dx.reshape(x.shape) if wanted[0] else None, *(None for _ in wanted[1:])]
    if any(wanted[1:2]):
        found[1] = d_scale.reshape(shape)
    if any(wanted[2:3]):
        found[2] = total(d_shift_by_row, axis=0).reshape(shape)
    return tuple(found)


class _FusedBatchNorm:
    """Chapter 4's layer, on the kernel; the moments are measured once, for it and for tracking."""

    def normalize(self, x: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
        moments = channel_moments(x.data)
        y = batch_norm(x, self.weight, self.bias, eps=self.eps, moments=moments)
        return (y, *moments)


class BatchNorm1d(_FusedBatchNorm, chapter_04.BatchNorm1d):
    __doc__ = chapter_04.BatchNorm1d.__doc__


class BatchNorm2d(_FusedBatchNorm, chapter_04.BatchNorm2d):
    __doc__ = chapter_04.BatchNorm2d.__doc__


class LayerNorm(chapter_04.LayerNorm):
    """Chapter 4's layer, on the kernel."""

    def normalize(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, eps=self.eps, dims=len(self.normalized_shape))


class RMSNorm(chapter_04.RMSNorm):
    """Chapter 4's layer, on the kernel."""

    def normalize(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, eps=self.eps, dims=len(self.normalized_shape))
