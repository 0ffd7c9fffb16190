"""The keys and values of all tokens so far, in pages that any text may take and give back.

A text's cache grows by one token a step, and nobody knows how long it will be. Room for the longest
would mostly stay empty; a fitted array would be copied again and again. So memory is cut into pages
of a few tokens, as an operating system's is, and each text has a list of its pages, which may lie
anywhere. Page 0 belongs to nobody: lists of different lengths are filled up with it.
"""

from __future__ import annotations

import numpy as np

from chapter_07_attention import GPTConfig


class PagedCache:
    """For each layer (pages, page_size, 2 n_kv_head head_dim): keys, and values beside them.

    Source: Kwon et al., 2023, arXiv:2309.06180.
    """

    def __init__(self, config: GPTConfig, pages: int, page_size: int = 16) -> None:
        shape = pages, page_size, 2 * config.n_kv_head * config.head_dim
        # Zeros take no memory before they are written.
        self.layers = [np.zeros(shape, np.float32) for _ in range(config.n_layer)]
        self.page_size = page_size

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def write(self, layer: int, slots: np.ndarray, kv: np.ndarray) -> None:
        """Keys and values of N tokens, (N, 2 n_kv_head head_dim), into their slots (N,).

        Slot s is place s % page_size of page s // page_size.
        """
        pages = self.layers[layer]
        pages.reshape(-1, pages.shape[2])[slots] = kv

    def read(self, layer: int, table: np.ndarray) -> np.ndarray:
        """The pages of B texts, (B, P), one behind the other: (B, P page_size, ...)."""
        pages = self.layers[layer]
        found = np.take(pages, table, axis=0, mode="clip")  # not "raise", which copies twice
        return found.reshape(len(table), -1, pages.shape[2])

    def clear(self, pages: list[int]) -> None:
        """Zeros again. A mask hides numbers, but not what is no number: 0 times NaN is NaN."""
        for layer in self.layers:
            layer[pages] = 0
