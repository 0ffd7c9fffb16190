"""A GPT for long texts: no array in it has a row and a column for each place.

Chapter 7's GPT makes a mask of T x T numbers and hands it to every layer. Here the order of the
text is known to the attention itself, so no mask is needed.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from chapter_07_attention import GPT, GPTConfig
from chapter_09_scaling.blockwise_attention import blockwise_attend


class LongGPT(GPT):
    """Chapter 7's GPT with an `attend` that knows the order by itself (`causal=True`).

    Parameters and names are GPT's, so the weights of either load into the other; with
    `blockwise_attend` the logits are the same too. Shares of attention are not dropped in training
    (which of them are kept would be T x T numbers a head); the other dropout stays. Raises
    ValueError for what needs a number for each pair of places: ALiBi and a sliding window.
    """

    def __init__(
        self, config: GPTConfig, attend: Callable = blockwise_attend, **options: Any
    ) -> None:
        if config.positions == "alibi" or config.window is not None:
            needs = "alibi positions" if config.window is None else f"a window of {config.window}"
            raise ValueError(f"LongGPT makes no scores of all pairs of places, which {needs} would "
                             "change: use GPT, or rotary positions and no window")  # fmt: skip
        super().__init__(config, attend=functools.partial(attend, causal=True), **options)
        for layer in self.layers:
            layer.self_attn.dropout = 0.0

    def mask(self, time: int, dtype: Any) -> None:
        """None: the attention looks at no future by itself."""
