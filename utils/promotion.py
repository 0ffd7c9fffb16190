"""The dtype of a result: arrays of floats decide, everything else follows.

Numbers, lists, 0-d and integer arrays never promote, whatever the version of NumPy: a float32
Tensor stays float32 beside a float64 scalar.
"""

from __future__ import annotations

import numbers
from typing import Any, Sequence

import numpy as np

from utils.primitives import astype


def is_tensor(x: Any) -> bool:
    return hasattr(x, "node")


def plain(x: Any) -> np.ndarray:
    """The array of a Tensor, or of anything else."""
    return x.array if is_tensor(x) else np.asarray(x)


def is_floating(x: Any) -> bool:
    return (isinstance(x, np.ndarray) or is_tensor(x)) and x.dtype.kind == "f"


def common_dtype(operands: Sequence) -> np.dtype | None:
    """The dtype of the floating operands with axes, else of the Tensors; None where NumPy decides.

    A Python float or list among integers makes float32.
    """
    floating = [x for x in operands if is_floating(x)]
    deciding = [x for x in floating if x.ndim] or [x for x in floating if is_tensor(x)]
    if deciding:
        return np.result_type(*(x.dtype for x in deciding))
    if floating or any(isinstance(x, (float, list, tuple, np.floating)) for x in operands):
        return np.dtype(np.float32)
    return None


def follow(x: Any, dtype: np.dtype | None) -> Any:
    """An operand as it is if it takes part in deciding the dtype, else an array of that dtype."""
    if dtype is None or x is None or (is_floating(x) and x.ndim):
        return x
    if is_tensor(x):
        return astype(x, dtype=dtype) if x.dtype != dtype else x
    array = np.asarray(float(x) if isinstance(x, numbers.Real) else x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a Tensor does not mix with {array.dtype}: it holds real numbers")
    return array.astype(dtype)


def alike(*operands: Any) -> list:
    """The operands of a compound function, those that do not decide the dtype cast to it."""
    dtype = common_dtype(operands)
    return [follow(x, dtype) for x in operands]
