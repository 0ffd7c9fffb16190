"""The neural probabilistic language model: tokens become points, and nearby points are read alike.

Each of the last few tokens is looked up in a table of learned vectors; the vectors, side by side,
go through one hidden layer to a logit for every token. What is learnt about one context carries
over to all contexts whose tokens have similar vectors, which a table of counts cannot do. Written
with bare Tensors: chapter 3 makes modules of the pieces.
"""

from __future__ import annotations

from typing import Iterable, Sequence

import numpy as np
from tqdm import tqdm

from chapter_02_text_generation.likelihood import cross_entropy
from utils import Tensor, no_grad
from utils.seeding import generator


def context_windows(
    documents: Iterable[Sequence[int]], context: int, boundary: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Every token, closing boundaries included, with the `context` tokens before it.

    Returns contexts (tokens, context), padded in front with the boundary, and targets (tokens,).
    """
    if context < 1:
        raise ValueError(f"a context is at least 1 token long, not {context}")
    contexts, targets = [], []
    for document in documents:
        window = [boundary] * context
        for token in [*document, boundary]:
            contexts.append(window)
            targets.append(token)
            window = [*window[1:], token]
    return np.array(contexts, np.int64).reshape(-1, context), np.array(targets, np.int64)


class NeuralLanguageModel:
    """Logits of the next token: tanh(embeddings of the context · W1 + b1) · W2 + b2.

    The vectors begin small, so that where they end is learnt, and W1 so that hidden units have
    variance 1; W2 begins near 0, so that all tokens are equally likely.
    Source: Bengio et al., 2003, A Neural Probabilistic Language Model, JMLR 3.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int = 3,
        embedding: int = 10,
        hidden: int = 200,
        rng: np.random.Generator | None = None,
    ) -> None:
        rng = generator(rng)
        inputs = context * embedding

        def parameter(*shape: int, scale: float) -> Tensor:
            values = rng.normal(0, scale, shape).astype(np.float32)
            return Tensor(values, requires_grad=True)

        self.vocab_size, self.context = vocab_size, context
        self.embedding = parameter(vocab_size, embedding, scale=0.5)
        self.w1 = parameter(inputs, hidden, scale=2 * inputs**-0.5)
        self.b1 = parameter(hidden, scale=0.0)
        self.w2 = parameter(hidden, vocab_size, scale=0.1 * hidden**-0.5)
        self.b2 = parameter(vocab_size, scale=0.0)

    def parameters(self) -> list[Tensor]:
        return [self.embedding, self.w1, self.b1, self.w2, self.b2]

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(p.size for p in self.parameters())

    def __call__(self, contexts: np.ndarray) -> Tensor:
        """Contexts (B, context) of ids to logits (B, vocab_size); ValueError for other ids."""
        contexts = np.asarray(contexts)
        if contexts.size and not 0 <= contexts.min() <= contexts.max() < self.vocab_size:
            raise ValueError(f"the contexts hold ids outside 0 to {self.vocab_size - 1}")
        vectors = self.embedding[contexts].reshape(len(contexts), -1)
        return np.tanh(vectors @ self.w1 + self.b1) @ self.w2 + self.b2

    def fit(
        self,
        contexts: np.ndarray,
        targets: np.ndarray,
        steps: int,
        batch: int = 64,
        lr: float = 0.5,
        rng: np.random.Generator | None = None,
    ) -> list[float]:
        """Stochastic gradient descent on random batches; returns the loss of every step.

        The learning rate falls in a straight line from `lr` to 0: large steps to get near, small
        ones to settle. Raises ValueError where `lr` is too large for the loss to stay a number.
        """
        rng = generator(rng)
        losses = []
        for step in tqdm(range(steps), desc="training", disable=None):
            chosen = rng.integers(len(targets), size=batch)
            with np.errstate(over="ignore", invalid="ignore"):
                loss = cross_entropy(self(contexts[chosen]), targets[chosen])
                loss.backward()
                rate = lr * (1 - step / steps)
                for p in self.parameters():
                    p.data -= rate * p.grad
                    p.grad = None
            losses.append(loss.item())
            if not all(np.isfinite(p.data).all() for p in (loss, self.b2)):
                raise ValueError(f"step {step} led out of the numbers: lr {lr:g} is too large")
        return losses

    def mean_nll(self, contexts: np.ndarray, targets: np.ndarray, batch: int = 8192) -> float:
        """The mean negative log-likelihood of the targets, in nats per token."""
        if len(targets) == 0:
            raise ValueError("the mean over no targets does not exist")
        total = 0.0
        with no_grad():
            for i in range(0, len(targets), batch):
                part = slice(i, i + batch)
                loss = cross_entropy(self(contexts[part]), targets[part])
                total += loss.item() * len(targets[part])
        return total / len(targets)

    def next_logits(self, ids: Sequence[int], boundary: int = 0) -> np.ndarray:
        """The logits after a document's first tokens `ids`: (vocab_size,)."""
        window = ([boundary] * self.context + list(ids))[len(ids) :]
        with no_grad():
            return self(np.array([window]))[0].data
