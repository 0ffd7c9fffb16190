"""SwiGLU: one half of the hidden numbers decides, softly, how much of the other half passes."""

from __future__ import annotations

import numpy as np

from chapter_03_neural_nets import Module
from chapter_03_neural_nets import silu as silu_composed
from chapter_05_gradient_mastery.activations import apply_silu
from utils import Tensor, kernel


def swiglu_composed(x) -> Tensor:
    half = halves(x)
    return silu_composed(x[..., :half]) * x[..., half:]


@kernel(composed=swiglu_composed)
def swiglu(x):
    """silu(gate) up for x = (gate, up) side by side: (..., 2 H) to (..., H).

    Source: Shazeer, 2020, arXiv:2002.05202.
    """
    half = halves(x)
    gate, up = x[..., :half], x[..., half:]
    opened, slope_times = apply_silu(gate)

    def backward(g, wanted):
        dx = np.empty_like(x, order="C")
        dx[..., :half] = slope_times(g * up)
        np.multiply(g, opened, out=dx[..., half:])
        return (dx,)

    return opened * up, backward


class SwiGLU(Module):
    """The activation of Llama's feed-forward layer, whose first matrix is twice as high."""

    def forward(self, x: Tensor) -> Tensor:
        return swiglu(x)


def halves(x: Tensor) -> int:
    if x.ndim == 0 or x.shape[-1] % 2:
        raise ValueError(f"swiglu halves the last axis: its size must be even, not {x.shape}")
    return x.shape[-1] // 2
