"""Whole sequences as training data: every token is predicted from all that came before it.

A network that sees a window predicts one token at a time, and names of seven letters become eight
examples that share most of their letters. One that is causal predicts all eight in one pass.
"""

from __future__ import annotations

from typing import Iterable, Sequence

import numpy as np

from chapter_03_neural_nets.losses import IGNORED


def padded_sequences(
    documents: Iterable[Sequence[int]], boundary: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (documents, T) for the longest document and the boundary that ends it.

    Inputs begin with the boundary, targets are one token ahead; behind a document's end inputs are
    the boundary and targets are ignored. Raises ValueError where there are no documents.
    """
    documents = [list(document) for document in documents]
    if not documents:
        raise ValueError("there are no documents to learn from")
    length = 1 + max(map(len, documents))
    inputs = np.full((len(documents), length), boundary, np.int64)
    targets = np.full((len(documents), length), IGNORED, np.int64)
    for i, document in enumerate(documents):
        inputs[i, 1 : len(document) + 1] = document
        targets[i, : len(document) + 1] = [*document, boundary]
    return inputs, targets


def trimmed(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two without the columns at their end where nothing is predicted."""
    counted = np.flatnonzero((targets != IGNORED).any(axis=0))
    length = counted[-1] + 1 if len(counted) else 1
    return inputs[:, :length], targets[:, :length]
