"""NumPy's array methods, by NumPy's names, for `Tensor` to inherit."""

from __future__ import annotations

import numpy as np

from utils.compositions.reductions import mean
from utils.operation import operations
from utils.primitives import astype, cumsum, relu, reshape, total, transpose


class ArrayMethods:
    """Methods in terms of `self.call(operation)`, which applies a function of one array."""

    __slots__ = ()

    def sum(self, axis=None, keepdims=False):
        return self.call(operations[total], axis=axis, keepdims=keepdims)

    def mean(self, axis=None, keepdims=False):
        return mean(self, axis, keepdims=keepdims)

    def var(self, axis=None, ddof=0, keepdims=False):
        return np.var(self, axis=axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis=None, ddof=0, keepdims=False):
        return np.std(self, axis=axis, ddof=ddof, keepdims=keepdims)

    def prod(self, axis=None, keepdims=False):
        return np.prod(self, axis=axis, keepdims=keepdims)

    def max(self, axis=None, keepdims=False):
        return self.call(operations[np.max], axis=axis, keepdims=keepdims)

    def min(self, axis=None, keepdims=False):
        return self.call(operations[np.min], axis=axis, keepdims=keepdims)

    def cumsum(self, axis=None):
        return self.call(operations[cumsum], axis=axis)

    def argmax(self, axis=None):
        return np.argmax(self, axis=axis)

    def argmin(self, axis=None):
        return np.argmin(self, axis=axis)

    def exp(self):
        return self.call(operations[np.exp])

    def log(self):
        return self.call(operations[np.log])

    def sqrt(self):
        return self.call(operations[np.sqrt])

    def tanh(self):
        return self.call(operations[np.tanh])

    def relu(self):
        """max(x, 0), with derivative 0 at 0."""
        return self.call(operations[relu])

    def clip(self, min=None, max=None):
        return np.clip(self, min, max)

    def dot(self, other):
        return np.dot(self, other)

    def reshape(self, *shape):
        return self.call(operations[reshape], shape[0] if len(shape) == 1 else shape)

    def ravel(self):
        return self.call(operations[reshape], -1)

    flatten = ravel

    def squeeze(self, axis=None):
        return self.call(operations[np.squeeze], axis=axis)

    def transpose(self, *axes):
        axes = axes[0] if len(axes) == 1 else axes
        return self.call(operations[transpose], axes=axes or None)

    def swapaxes(self, axis1, axis2):
        return self.call(operations[np.swapaxes], axis1=axis1, axis2=axis2)

    def repeat(self, repeats, axis=None):
        return np.repeat(self, repeats, axis)

    def take(self, indices, axis=None):
        return np.take(self, indices, axis)

    def astype(self, dtype):
        """In another dtype; the gradient, for floating ones only, comes back in this one."""
        if np.dtype(dtype).kind != "f":
            self._outside_the_graph("a cast to integers")
        return self.call(operations[astype], dtype=np.dtype(dtype))
