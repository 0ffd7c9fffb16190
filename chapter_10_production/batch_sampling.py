"""Chapter 2's drawing of a token, for many texts at once, each in its own way.

Each text brings the random number of its own next token. Which token that number means depends on
the text's own logits alone, so that nobody's words depend on who else is being served.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from chapter_10_production.sampling_parameters import SamplingParameters

NO_TOKEN = -1


class TokenLogprob(NamedTuple):
    """A token, its log-probability, and the likeliest tokens in its place with theirs."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def draw(
    logits: np.ndarray, parameters: Sequence[SamplingParameters], uniforms: Sequence[float]
) -> np.ndarray:
    """A token for each row of logits (N, vocab_size), by a number in [0, 1) each: (N,).

    The same tokens as `next_token` draws with a generator that gives these numbers: the first up to
    which the probabilities, in float64, add up to more than the number; the likeliest where the
    temperature is 0. NO_TOKEN where the logits hold NaN or infinity, or allow no token.
    """
    likeliest = logits.argmax(axis=1)
    top = logits[np.arange(len(logits)), likeliest][:, None]
    tokens = likeliest
    if any(p.temperature > 0 for p in parameters):
        drawn = np.array([p.temperature > 0 for p in parameters])
        with np.errstate(invalid="ignore", over="ignore"):
            p = probabilities(logits - top.astype(np.float64), parameters)
            share = np.cumsum(p, axis=1)
            share /= share[:, -1:]
            below = (share <= np.array(uniforms)[:, None]).sum(axis=1)
        tokens = np.where(drawn, below, likeliest)
    return np.where(np.isfinite(top[:, 0]), tokens, NO_TOKEN)


def probabilities(shifted: np.ndarray, parameters: Sequence[SamplingParameters]) -> np.ndarray:
    """Of logits less their largest, after temperature and filters; rows sum to some number."""
    temperature = column([p.temperature or 1.0 for p in parameters])
    p = np.exp(shifted / temperature)
    if not any(p.top_k or p.top_p or p.min_p for p in parameters):
        return p
    vocab = p.shape[1]
    order = np.argsort(-shifted, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)  # the likeliest first
    ranked[np.arange(vocab) >= column([p.top_k or vocab for p in parameters])] = 0
    reached = np.cumsum(ranked, axis=1)
    top_p = column([1.0 if p.top_p is None else p.top_p for p in parameters])
    enough = (reached - ranked >= top_p * reached[:, -1:]) & (top_p < 1)
    unlikely = ranked < column([p.min_p or 0.0 for p in parameters]) * ranked[:, :1]
    ranked[enough | unlikely] = 0
    np.put_along_axis(p, order, ranked, axis=1)
    return p


def column(values: Sequence[float]) -> np.ndarray:
    return np.array(values)[:, None]


def log_probabilities(logits: np.ndarray, token: int, top: int) -> TokenLogprob:
    """Those of one row of logits (vocab_size,), as the model has them: before any filter."""
    shifted = logits.astype(np.float64) - logits.max()
    found = shifted - np.log(np.exp(shifted).sum())
    best = np.argsort(-found, kind="stable")[:top]
    return TokenLogprob(token, float(found[token]), [(int(i), float(found[i])) for i in best])
