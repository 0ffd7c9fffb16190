"""Weights in 8 bits, or in 4: whole numbers, and a few scales that turn them back.

A trained weight w needs few of its 32 bits. With a scale s for the channel it belongs to, the code
c = round(w / s) stands for it, and s c is at most s / 2 away. The scale belongs to a whole output,
so it is multiplied last: the product itself is one of x and codes. With 4 bits one scale for a
channel is too coarse. There each group of inputs has a factor too, a whole number, and code times
factor is a number of 8 bits again.
"""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from chapter_07_attention.config import whole_number
from chapter_10_production.decoder import Decoder
from chapter_10_production.matrix import Matrix

BLOCK = 1 << 16  # weights made floats at once: a quarter of a megabyte, so that a cache holds them
HIGHEST = {8: 127, 4: 7}  # codes, by their bits; the lowest are as far from 0
FACTORS = 18  # the largest: 18 times 7 is the last product that 8 bits hold
FLOAT16 = np.finfo(np.float16)


class Int8Matrix(Matrix):
    """w = scale code: codes (in, out) from -127 to 127, float16 scales (out,)."""

    bits, parts = 8, ("codes", "scales")

    def __init__(self, codes: np.ndarray, scales: np.ndarray) -> None:
        self.codes, self.scales, self.inputs = codes, scales, len(codes)

    @classmethod
    def of(cls, array: np.ndarray) -> Int8Matrix:
        """The nearest to an array (out, in)."""
        scales, integers = scaled(array, HIGHEST[8])
        return cls(np.rint(integers).astype(np.int8), scales)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.scales), self.inputs

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.state("").values())

    def state(self, name: str) -> dict[str, np.ndarray]:
        return {f"{name}.{part}": getattr(self, part) for part in self.parts}

    def floats(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """w / scale, which are whole numbers of 8 bits, from these rows of codes: (in, out)."""
        return self.codes[start:stop].astype(np.float32)

    def apply(self, x: np.ndarray) -> np.ndarray:
        # At least as many inputs as x has rows: adding what they give to y is the smaller part.
        step = max(BLOCK // len(self.scales), len(x), 1)
        if step >= self.inputs:
            y = x @ self.floats()[: self.inputs]
        else:
            y = self.apply_in_blocks(x, step)
        y *= self.scales
        return y

    def apply_in_blocks(self, x: np.ndarray, step: int) -> np.ndarray:
        """x times the whole numbers, of which about `step` inputs are floats at a time."""
        y = np.zeros((len(x), len(self.scales)), np.float32)
        for start in range(0, self.inputs, step):
            y += x[:, start : start + step] @ self.floats(start, start + step)
        return y

    def rows(self, ids: Any) -> np.ndarray:
        return self.columns(ids).dense()

    def columns(self, ids: Any) -> Int8Matrix:
        """The matrix of these outputs alone."""
        return Int8Matrix(np.take(self.codes, ids, axis=1), self.scales[ids])

    def dense(self) -> np.ndarray:
        return np.ascontiguousarray(self.floats()[: self.inputs].T) * self.scales[:, None]


class Int4Matrix(Int8Matrix):
    """w = scale factor code: two codes a byte, and factors (groups, out) from 0 to 18.

    A byte of `codes` (in / 2, out) holds in its lower four bits the code, plus 8, of an input of
    the first half, in its upper four that of the second half, signed. With G groups, the inputs
    g, g + G, g + 2 G, ... share a factor, so that all factors side by side fit every G rows. Zeros
    fill the codes up where groups do not come out even; the `inputs` count.
    """

    bits, parts = 4, ("codes", "scales", "factors")

    def __init__(
        self, codes: np.ndarray, scales: np.ndarray, factors: np.ndarray, inputs: int
    ) -> None:
        self.codes, self.scales, self.factors, self.inputs = codes, scales, factors, inputs
        self.group_size = 2 * len(codes) // len(factors)

    @classmethod
    def of(cls, array: np.ndarray, group_size: int = 32) -> Int4Matrix:
        """The nearest to an array (out, in), by the squared error of each group."""
        outputs, inputs = array.shape
        scales, integers = scaled(array, HIGHEST[4] * FACTORS)
        filling = np.zeros((-inputs % group_size, outputs), np.float32)
        groups = np.concatenate([integers, filling]).reshape(group_size, -1, outputs)
        codes, factors = best_factors(groups)
        lower, upper = codes.view(np.uint8).reshape(2, -1, outputs)
        return cls((lower + 8) | (upper * 16), scales, factors, inputs)

    def floats(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        codes = self.codes[start:stop].view(np.int8).reshape(-1, self.factors.size)
        factors = self.factors.reshape(-1)
        floats = np.empty((2, *codes.shape), np.float32)
        half = codes & np.int8(15)
        half -= 8
        half *= factors
        floats[0] = half
        np.right_shift(codes, 4, out=half)  # the sign comes along
        half *= factors
        floats[1] = half
        return floats.reshape(-1, len(self.scales))

    def apply_in_blocks(self, x: np.ndarray, step: int) -> np.ndarray:
        rows, groups = len(self.codes), len(self.factors)
        step = max(step // 2 // groups, 1) * groups
        filled = np.pad(x, ((0, 0), (0, 2 * rows - self.inputs)))
        halves = filled.reshape(len(x), 2, rows)
        y = np.zeros((len(x), len(self.scales)), np.float32)
        for start in range(0, rows, step):
            part = self.floats(start, start + step)
            y += halves[:, :, start : start + step].reshape(len(x), len(part)) @ part
        return y

    def columns(self, ids: Any) -> Int4Matrix:
        codes, factors = (np.take(a, ids, axis=1) for a in (self.codes, self.factors))
        return Int4Matrix(codes, self.scales[ids], factors, self.inputs)


def scaled(array: np.ndarray, highest: int) -> tuple[np.ndarray, np.ndarray]:
    """An array (out, in) as scales (out,) and numbers (in, out) that are at most `highest`.

    The scales are the least ones of which float16 is capable. Raises ValueError for weights that
    are no numbers, or too large.
    """
    largest = np.abs(array).max(axis=1, initial=0)
    if not largest.max(initial=0) <= highest * float(FLOAT16.max):
        raise ValueError(f"no scale in float16 makes {largest.max()} a code of at most {highest}")
    scales = (largest / highest).astype(np.float16)
    low = scales.astype(np.float32) * highest < largest
    scales[low] = np.nextafter(scales[low], FLOAT16.max)
    divisors = np.where(scales > 0, scales, 1).astype(np.float32)
    return scales, np.ascontiguousarray(array.T, np.float32) / divisors


def best_factors(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes for numbers up to 126, (size, groups, out), and factors (groups, out), both int8.

    A small factor cuts the largest numbers off, a large one rounds the others more: all are tried.
    The least squared error of a group decides, and the smaller factor where two err alike.
    """
    codes = np.zeros(groups.shape, np.int8)
    factors = np.zeros(groups.shape[1:], np.int8)
    least = np.full(factors.shape, np.inf, np.float32)
    for factor in range(1, FACTORS + 1):
        tried = np.clip(np.rint(groups / factor), -HIGHEST[4], HIGHEST[4])
        error = np.square(tried * factor - groups).sum(axis=0)
        better = error < least
        least[better], factors[better] = error[better], factor
        np.copyto(codes, tried, where=better, casting="unsafe")
    return codes, factors


def quantize(array: np.ndarray, bits: int, group_size: int = 32) -> Int8Matrix:
    """A matrix (out, in) in codes of 8 bits, or of 4 in groups of so many inputs.

    Raises ValueError for other bits, odd groups, and numbers that no scale fits.
    """
    if isinstance(bits, bool) or bits not in HIGHEST:
        raise ValueError(f"codes have 8 bits or 4, not {bits}")
    if bits == 8:
        return Int8Matrix.of(array)
    if whole_number("group_size", group_size) % 2:
        raise ValueError(f"two codes share a byte: group_size is even, not {group_size}")
    return Int4Matrix.of(array, group_size)


def quantized(
    decoder: Decoder, bits: int, group_size: int = 32, exceptions: Mapping[str, int] | None = None
) -> Decoder:
    """The same network with its matrices in codes, each once, and its vectors in float16.

    `exceptions` give parts of names other bits: {"embedding": 8, "positions": 8}. Raises ValueError
    as `quantize` does, and for exceptions that no matrix is called by.
    """
    exceptions = exceptions or {}
    matrices = {n: w for n, w in decoder.weights.items() if isinstance(w, Matrix)}
    for part in exceptions:
        if not any(part in name for name in matrices):
            raise ValueError(f"no matrix has {part!r} in its name; there are {', '.join(matrices)}")
    done: dict[int, Any] = {}
    for name, weight in decoder.weights.items():
        if id(weight) in done:
            continue
        if name in matrices:
            own = next((b for part, b in exceptions.items() if part in name), bits)
            done[id(weight)] = quantize(weight.dense(), own, group_size)
        else:
            done[id(weight)] = in_half(name, weight)
    return Decoder(decoder.config, {n: done[id(w)] for n, w in decoder.weights.items()})


def in_half(name: str, vector: np.ndarray) -> np.ndarray:
    """A bias, or the weight of a norm, in float16."""
    if not np.abs(vector).max(initial=0) <= FLOAT16.max:
        raise ValueError(f"{name} holds numbers that float16 cannot")
    return vector.astype(np.float16)
