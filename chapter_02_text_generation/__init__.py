"""Chapter 2: text as numbers, counting, likelihood, a neural language model, and its writing."""

from __future__ import annotations

from chapter_02_text_generation.bigram_network import BigramNetwork, bigram_counts
from chapter_02_text_generation.byte_pair_encoding import BPETokenizer
from chapter_02_text_generation.character_tokenizer import CharacterTokenizer
from chapter_02_text_generation.figures import plot_bigrams, plot_embedding, plot_losses
from chapter_02_text_generation.likelihood import (
    bits_per_character,
    cross_entropy,
    log_softmax,
    perplexity,
    softmax,
)
from chapter_02_text_generation.neural_language_model import (
    NeuralLanguageModel,
    context_windows,
)
from chapter_02_text_generation.ngram import NGram
from chapter_02_text_generation.sampling import (
    beam_search,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_token,
    sample,
)
from chapter_02_text_generation.smoothing import AddK, KneserNey
from chapter_02_text_generation.tokenizer import Tokenizer

__all__ = [
    "AddK",
    "BPETokenizer",
    "BigramNetwork",
    "CharacterTokenizer",
    "KneserNey",
    "NGram",
    "NeuralLanguageModel",
    "Tokenizer",
    "beam_search",
    "bigram_counts",
    "bits_per_character",
    "context_windows",
    "cross_entropy",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "log_softmax",
    "next_token",
    "perplexity",
    "plot_bigrams",
    "plot_embedding",
    "plot_losses",
    "sample",
    "softmax",
]
