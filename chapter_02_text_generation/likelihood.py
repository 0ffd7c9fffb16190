"""How good is a guess? By the probability it gave to what came: the likelihood and its units.

All losses of the book's language models are mean negative log-likelihoods in nats per token; the
perplexity is the number of equally likely tokens that would be as hard to guess.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from utils import Tensor
from utils.promotion import plain


def log_softmax(logits: Tensor, axis: int = -1) -> Tensor:
    """log(exp(x) / sum(exp(x))) along `axis`; large logits neither overflow nor lose digits.

    The largest logit is subtracted first, which changes nothing but the range; as it cancels, it
    needs no gradient. Where all logits are -inf the result is NaN, as PyTorch's.
    """
    largest = np.max(plain(logits), axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):  # -inf - -inf, where all logits are
        shifted = logits - largest
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def softmax(logits: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`: positive numbers that sum to 1."""
    return np.exp(log_softmax(logits, axis))


def cross_entropy(logits: Tensor, targets: Any) -> Tensor:
    """The mean of -log p(target), in nats: logits (..., classes), integer targets (...).

    Raises ValueError for targets of another shape or outside the classes.
    """
    targets = np.asarray(targets)
    classes = logits.shape[-1]
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: logits of shape {logits.shape} need targets of shape "
            f"{logits.shape[:-1]}, not {targets.shape}"
        )
    if targets.size == 0:
        raise ValueError("cross_entropy: the mean of no targets does not exist")
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"cross_entropy: targets must be whole numbers from 0 to {classes - 1}")
    flat = np.reshape(log_softmax(logits), (-1, classes))
    return -np.mean(flat[np.arange(targets.size), targets.ravel()])


def perplexity(nll: float) -> float:
    """e^nll: as hard as guessing among so many equally likely tokens."""
    return math.inf if nll > 709 else math.exp(nll)  # e^710 is more than a float can hold


def bits_per_character(nll: float, tokens: int = 1, characters: int = 1) -> float:
    """`nll`, in nats per token, in bits per character of the text that the tokens stand for."""
    if not (tokens > 0 and characters > 0):
        raise ValueError(f"{tokens} tokens of {characters} characters have no bits per character")
    return nll / math.log(2) * tokens / characters
