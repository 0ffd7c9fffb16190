"""A small model guesses, the large one checks: several tokens for one reading of the weights.

To write one token, all weights must come from memory, and then serve one row. To check k guesses
they come once and serve k + 1 rows, at hardly more time. The draft writes k tokens ahead; the model
then says for each place what it would have written itself, and the guesses stand up to the first
that differs. So the text is exactly the model's own; a bad draft only makes it slow.

The draft draws its tokens with the same random numbers as the model, so that two that agree on what
is likely mostly draw the same. Source: Leviathan et al., 2022, arXiv:2211.17192; drawing with
shared random numbers: Daliri et al., 2024, arXiv:2408.07978.
"""

from __future__ import annotations

from typing import Sequence

from chapter_10_production.batch_sampling import draw
from chapter_10_production.decoder import Decoder
from chapter_10_production.paged_attention import PagedBatch
from chapter_10_production.paged_cache import PagedCache
from chapter_10_production.pages import PagePool
from chapter_10_production.sequence import Text


class Speculator:
    """Proposes up to `ahead` tokens for each text; its cache lies in pages of the same numbers."""

    def __init__(self, draft: Decoder, pool: PagePool, ahead: int) -> None:
        self.draft, self.ahead = draft, ahead
        self.cache = PagedCache(draft.config, pool.pages + 1, pool.page_size)

    def read(self, texts: Sequence[Text]) -> None:
        """What the model has read, the draft reads too."""
        pieces = [text.piece(text.drafted, text.computed) for text in texts]
        batch = PagedBatch(self.draft.config, self.cache, pieces)
        self.draft(batch.ids, batch.places, batch)
        for text in texts:
            text.drafted = text.computed

    def propose(self, texts: Sequence[Text]) -> dict[Text, list[int]]:
        """Guesses at what follows the last token of each text, as far as it may grow."""
        proposed: dict[Text, list[int]] = {text: [] for text in texts}
        for n in range(self.ahead):
            texts = [text for text in texts if text.reach(n + 1) > text.reach(n)]
            if not texts:
                break
            pieces = [text.piece(text.drafted, len(text.ids) + n, proposed[text]) for text in texts]
            batch = PagedBatch(self.draft.config, self.cache, pieces)
            hidden = self.draft(batch.ids, batch.places, batch)
            parameters = [text.parameters for text in texts]
            uniforms = [text.uniform(n) for text in texts]
            tokens = draw(self.draft.head.apply(hidden[batch.last]), parameters, uniforms)
            for text, token in zip(texts, tokens.tolist()):
                proposed[text].append(max(token, 0))
                text.drafted = len(text.ids) + n
        return proposed
