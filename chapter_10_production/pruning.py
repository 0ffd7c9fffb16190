"""Pruning: weights near zero become zero, and stay so while the others learn to do without them.

Which weights matter least? The plainest answer, the smallest, works well (LeCun's second-order one
is exercise enough). A threshold for the whole model takes more where much is small, one for each
matrix takes the same share of all. What is left is the same arithmetic with many zeros in it: a
file can leave them out, a dense product cannot.
"""

from __future__ import annotations

from typing import Mapping

import numpy as np

from chapter_03_neural_nets import Module, Optimizer
from chapter_08_optimization import Combined, hidden_matrices

SCOPES = ("global", "layer")


def prune_(model: Module, share: float, scope: str = "global") -> dict[str, np.ndarray]:
    """Set this share of the hidden matrices' weights to zero, the smallest, in place.

    Returns masks by name, True where a weight is kept. With the scope "global" all weights are
    compared with each other, with "layer" those of each matrix; embeddings, positions and the head
    stay whole. Zeros of an earlier call count among the smallest. Raises ValueError for a share
    that is not from 0 to below 1. Source: Han, Pool, Tran, Dally, 2015, arXiv:1506.02626.
    """
    if isinstance(share, bool) or not 0 <= share < 1:
        raise ValueError(f"share is from 0 to below 1, not {share}")
    if scope not in SCOPES:
        raise ValueError(f"scope is one of {', '.join(SCOPES)}, not {scope!r}")
    matrices = hidden_matrices(model, getattr(model, "head", None))
    if not matrices:
        raise ValueError("the model has no matrices between its first layer and its last")
    sizes = {name: np.abs(p.data) for name, p in matrices.items()}
    if scope == "global":
        everything = np.concatenate([size.ravel() for size in sizes.values()])
        bounds = np.cumsum([size.size for size in sizes.values()])[:-1]
        kept = np.split(largest(everything, share), bounds)
    else:
        kept = [largest(size.ravel(), share) for size in sizes.values()]
    masks = {n: mask.reshape(sizes[n].shape) for n, mask in zip(sizes, kept)}
    for name, p in matrices.items():
        p.data[...] *= masks[name]
    return masks


def largest(sizes: np.ndarray, share: float) -> np.ndarray:
    """True for all numbers (n,) but this share of them, the smallest."""
    kept = np.ones(len(sizes), bool)
    count = round(share * len(sizes))
    if count:
        kept[np.argpartition(sizes, count - 1)[:count]] = False
    return kept


class Masked(Combined):
    """Another optimiser, after each of whose steps pruned weights are zero again."""

    def __init__(
        self, optimizer: Optimizer, model: Module, masks: Mapping[str, np.ndarray]
    ) -> None:
        super().__init__([optimizer])
        params = dict(model.named_parameters())
        unknown = sorted(set(masks) - set(params))
        if unknown:
            raise ValueError(f"there are masks for what the model does not have: {unknown[0]}")
        self.masked = [(params[name], mask) for name, mask in masks.items()]

    def step(self) -> None:
        super().step()
        for p, mask in self.masked:
            p.data[...] *= mask


def without_zeros(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays for a file: a bit for each number of a matrix, and those that are not zero.

    A matrix that this would not make smaller stays as it is.
    """
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        bits, values = np.packbits(array != 0), array[array != 0]
        if array.ndim == 2 and bits.nbytes + values.nbytes < array.nbytes:
            found[f"{name}.kept"], found[f"{name}.values"] = bits, values
        else:
            found[name] = array
    return found


def with_zeros(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """What `without_zeros` was given, whose arrays had these shapes."""
    found: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        if name in arrays:
            found[name] = arrays[name]
            continue
        bits, values = arrays[f"{name}.kept"], arrays[f"{name}.values"]
        found[name] = np.zeros(shape, values.dtype)
        found[name][np.unpackbits(bits, count=found[name].size).reshape(shape) == 1] = values
    return found
