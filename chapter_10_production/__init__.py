"""Chapter 10: a model goes into the world: served, made smaller, and exported."""

from __future__ import annotations

from chapter_10_production.batch_sampling import TokenLogprob, draw
from chapter_10_production.decoder import Decoder
from chapter_10_production.engine import Completion, Engine
from chapter_10_production.matrix import Matrix
from chapter_10_production.paged_cache import PagedCache
from chapter_10_production.pages import PagePool
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.sequence import Progress

__all__ = [
    "Completion",
    "Decoder",
    "Engine",
    "Matrix",
    "PagePool",
    "PagedCache",
    "Progress",
    "SamplingParameters",
    "TokenLogprob",
    "draw",
]
