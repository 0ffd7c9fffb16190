"""Writing with a language model: draw a token, append it, and ask again.

A model is here a function from the ids so far to the logits of the next token. The filters below
change what is drawn: the temperature sharpens or flattens, top-k, top-p and min-p take away the
unlikely. Beam search does not draw: it looks for the likeliest text as a whole.
"""

from __future__ import annotations

import math
from typing import Callable, Sequence

import numpy as np

from chapter_02_text_generation.likelihood import softmax
from utils.seeding import generator

NextLogits = Callable[[Sequence[int]], np.ndarray]


def keep_top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """The `k` largest logits; all others become -inf (Fan et al., 2018, arXiv:1805.04833)."""
    if not 1 <= k <= len(logits):
        raise ValueError(f"top-k must be from 1 to the vocabulary's {len(logits)}, not {k}")
    logits = _checked(logits)
    return _only(logits, np.argsort(-logits, kind="stable")[:k])


def keep_top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """The fewest most likely tokens whose probabilities reach `p`; all others become -inf.

    Source: Holtzman et al., 2019, arXiv:1904.09751 (nucleus sampling).
    """
    if not 0 < p <= 1:
        raise ValueError(f"top-p is a probability above 0 and up to 1, not {p}")
    logits = _checked(logits)
    if p == 1:  # rounding would drop the last of them
        return logits.copy()
    order = np.argsort(-logits, kind="stable")
    reached = np.cumsum(_probabilities(logits)[order])
    return _only(logits, order[: 1 + np.searchsorted(reached, p * reached[-1])])


def keep_min_p(logits: np.ndarray, p: float) -> np.ndarray:
    """The tokens at least `p` times as likely as the likeliest.

    Source: Nguyen et al., 2024, arXiv:2407.01082.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min-p is a share from 0 to 1, not {p}")
    logits = _checked(logits)
    probabilities = _probabilities(logits)
    return _only(logits, np.flatnonzero(probabilities >= p * probabilities.max()))


def next_token(
    logits: np.ndarray,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: np.random.Generator | None = None,
) -> int:
    """Draw a token's id from its logits (vocab_size,).

    The temperature divides the logits first (0 takes the likeliest token); then come top-k, top-p
    and min-p, as far as given. Raises ValueError for values out of range and for logits that
    hold NaN or allow no token.
    """
    if not (0 <= temperature < math.inf):
        raise ValueError(f"temperature must be a number of at least 0, not {temperature}")
    logits = _checked(logits).astype(np.float64)
    if temperature > 0:
        with np.errstate(over="ignore"):  # near 0 all but the likeliest become -inf
            logits = (logits - logits.max()) / temperature
    for keep, limit in ((keep_top_k, top_k), (keep_top_p, top_p), (keep_min_p, min_p)):
        if limit is not None:
            logits = keep(logits, limit)
    if temperature == 0:
        return int(logits.argmax())
    return int(generator(rng).choice(len(logits), p=_probabilities(logits)))


def sample(
    next_logits: NextLogits,
    prefix: Sequence[int] = (),
    boundary: int = 0,
    max_tokens: int = 100,
    **how,
) -> list[int]:
    """Continue `prefix` until the boundary is drawn or `max_tokens` are added.

    Returns prefix and continuation without the boundary; `how` goes to `next_token`.
    """
    ids = list(prefix)
    for _ in range(max_tokens):
        token = next_token(next_logits(ids), **how)
        if token == boundary:
            break
        ids.append(token)
    return ids


def beam_search(
    next_logits: NextLogits,
    prefix: Sequence[int] = (),
    width: int = 5,
    boundary: int = 0,
    max_tokens: int = 100,
) -> list[tuple[list[int], float]]:
    """The likeliest texts that start with `prefix`, with their log-probabilities, best first.

    After every token only the `width` likeliest beginnings are kept, ended ones among them, so the
    true best may be lost on the way (Lowerre, 1976, The Harpy Speech Recognition System). Texts
    that have not ended after `max_tokens` are returned as they are; the boundary is left out of
    those that have, and what is impossible is never taken.
    """
    if not width >= 1:
        raise ValueError(f"a beam is at least 1 wide, not {width}")
    open_beams, ended = [(list(prefix), 0.0)], []
    for _ in range(max_tokens):
        candidates = []
        for ids, score in open_beams:
            probabilities = _probabilities(_checked(next_logits(ids)))
            best = np.argsort(-probabilities, kind="stable")[:width]
            possible = [int(i) for i in best if probabilities[i] > 0]
            candidates += [(ids, i, score + math.log(probabilities[i])) for i in possible]
        candidates += [(ids, boundary, score) for ids, score in ended]
        candidates.sort(key=lambda candidate: -candidate[2])
        open_beams, ended = [], []
        for ids, token, score in candidates[:width]:
            if token == boundary:
                ended.append((ids, score))
            else:
                open_beams.append(([*ids, token], score))
        if not open_beams:
            break
    return sorted(open_beams + ended, key=lambda beam: -beam[1])


def _checked(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits)
    if logits.dtype.kind != "f":
        logits = logits.astype(np.float64)
    if np.isnan(logits).any() or not np.isfinite(logits.max(initial=-math.inf)):
        raise ValueError("the logits hold NaN or infinity, or allow no token")
    return logits


def _probabilities(logits: np.ndarray) -> np.ndarray:
    p = softmax(logits.astype(np.float64))
    return p / p.sum()  # to the last digit, as drawing demands


def _only(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    filtered = np.full_like(logits, -np.inf)
    filtered[kept] = logits[kept]
    return filtered
