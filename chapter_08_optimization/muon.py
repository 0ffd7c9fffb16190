"""Muon: a matrix is not a list of numbers, so its step is made as even as a rotation.

The momentum of a weight matrix has few large singular values and many small ones: most of its
directions hardly move. Muon sets all of them to about 1 and keeps the directions. A polynomial of
the matrix does so without finding them: X becomes a X + (b X X^T + c (X X^T)^2) X, which does
a s + b s^3 + c s^5 to each singular value s and leaves the singular vectors alone.
"""

from __future__ import annotations

import math
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from chapter_03_neural_nets import Optimizer
from chapter_03_neural_nets.optimizers import LearningRate, in_range
from chapter_03_neural_nets.training import check_count

# Chosen by K. Jordan for a steep rise at 0; what has risen wanders from 0.68 to 1.13.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
RATES = {
    "original": lambda rows, columns: math.sqrt(max(1, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}


def orthogonalize(
    g: np.ndarray,
    steps: int = 5,
    coefficients: Sequence[float] = COEFFICIENTS,
    eps: float = 1e-7,
) -> np.ndarray:
    """The matrices g (..., n, m) with all singular values near 1, by Newton-Schulz iteration.

    Each is first divided by its Frobenius norm, or by `eps` where that is more. Raises ValueError,
    which names the shape, for fewer than two axes.
    Source: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/; the iteration:
    Björck, Bowie, 1971, doi:10.1137/0708036.
    """
    if g.ndim < 2:
        raise ValueError(f"what is made orthogonal is a matrix (..., n, m), not {g.shape}")
    a, b, c = coefficients
    tall = g.shape[-2] > g.shape[-1]
    x = g.swapaxes(-1, -2) if tall else g  # products of the short sides are the smaller ones
    x = x / np.maximum(np.linalg.norm(x, axis=(-2, -1), keepdims=True), eps)
    for _ in range(steps):
        gram = x @ x.swapaxes(-1, -2)
        factor = gram @ gram
        factor *= c
        factor += b * gram
        step = factor @ x
        x *= a
        x += step
    return x.swapaxes(-1, -2) if tall else x


class Muon(Optimizer):
    """m = momentum m + (1 - momentum) g; p -= lr weight_decay p + lr r orthogonalize(m).

    Nesterov's variant takes (1 - momentum) g + momentum m for m. `adjust_lr_fn` says how the step
    depends on the shape (n, m) of p: r = sqrt(max(1, n / m)) is "original", and "match_rms_adamw"
    makes steps as large as AdamW's, r = 0.2 sqrt(max(n, m)). For matrices of hidden layers only:
    embeddings, the head, biases and norms go to another optimiser (`Combined`). A packed matrix
    of queries, keys and values is `parts` = 3 matrices, one below the other.
    PyTorch's rounds what it orthogonalises to bfloat16; in full precision its steps are these.
    Source: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/; "match_rms_adamw":
    Liu et al., 2025, arXiv:2502.16982.
    """

    state_names = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: Sequence[float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        parts: int = 1,
    ) -> None:
        super().__init__(
            params,
            lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_coefficients=tuple(ns_coefficients),
            eps=eps,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            parts=parts,
        )

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        in_range("momentum", options["momentum"])
        in_range("eps", options["eps"])
        check_count("ns_steps", options["ns_steps"], least=0)
        check_count("parts", options["parts"], least=1)
        if (
            len(options["ns_coefficients"]) != 3
            or not np.isfinite(options["ns_coefficients"]).all()
        ):
            raise ValueError(f"ns_coefficients are three, not {options['ns_coefficients']}")
        if options["adjust_lr_fn"] not in (None, *RATES):
            raise ValueError(
                f"adjust_lr_fn is {' or '.join(RATES)}, not {options['adjust_lr_fn']!r}"
            )
        for p in options.get("params", ()):
            if p.ndim != 2 or len(p) % options["parts"]:
                parts = f" of {options['parts']} equal parts" if options["parts"] > 1 else ""
                raise ValueError(
                    f"Muon is for matrices{parts}, not for a parameter of shape {p.shape}: give "
                    "that to another optimiser"
                )

    def update(self, p, g, state, lr, group):
        if not state:
            state["momentum_buffer"] = np.zeros_like(g)
        momentum, mean = group["momentum"], state["momentum_buffer"]
        mean += (1 - momentum) * (g - mean)
        direction = g + momentum * (mean - g) if group["nesterov"] else mean
        parts = direction.reshape(group["parts"], -1, g.shape[1])
        even = orthogonalize(parts, group["ns_steps"], group["ns_coefficients"], group["eps"])
        rate = lr * RATES[group["adjust_lr_fn"] or "original"](*parts.shape[1:])
        if group["weight_decay"]:
            p.data *= 1 - lr * group["weight_decay"]
        p.data -= rate * even.reshape(g.shape)
