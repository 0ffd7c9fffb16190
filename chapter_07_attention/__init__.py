"""Chapter 7: attention, positions, the transformer's families, and pretrained weights."""

from __future__ import annotations

from chapter_07_attention.alibi import ALiBi
from chapter_07_attention.attention import attention, attention_weights
from chapter_07_attention.attention_kernel import attend
from chapter_07_attention.attention_maps import attention_maps, recorded_attention
from chapter_07_attention.config import GPTConfig, LlamaConfig
from chapter_07_attention.corpus import Corpus, in_blocks, names_corpus, text_corpus
from chapter_07_attention.dates import as_examples, date_tokenizer, random_dates
from chapter_07_attention.encoder_decoder import Transformer
from chapter_07_attention.figures import plot_attention, plot_losses_by_place, plot_masks
from chapter_07_attention.generation import TextPieces, pieces, stream
from chapter_07_attention.gpt import GPT
from chapter_07_attention.language_training import fit, written_by
from chapter_07_attention.layers import TransformerDecoderLayer, TransformerEncoderLayer
from chapter_07_attention.masks import causal_mask, padding_mask, sliding_window_mask
from chapter_07_attention.multi_head import MultiheadAttention
from chapter_07_attention.positions import LearnedPositions, Positions, SinusoidalPositions
from chapter_07_attention.pretrained import (
    from_pretrained,
    load_tokenizer,
    needed_tokenizer,
    save_pretrained,
)
from chapter_07_attention.rotary import Rotary, rotate
from chapter_07_attention.swiglu import SwiGLU, swiglu

__all__ = [
    "ALiBi",
    "Corpus",
    "GPT",
    "GPTConfig",
    "LearnedPositions",
    "LlamaConfig",
    "MultiheadAttention",
    "Positions",
    "Rotary",
    "SinusoidalPositions",
    "SwiGLU",
    "TextPieces",
    "Transformer",
    "TransformerDecoderLayer",
    "TransformerEncoderLayer",
    "as_examples",
    "attend",
    "attention",
    "attention_maps",
    "attention_weights",
    "causal_mask",
    "date_tokenizer",
    "fit",
    "from_pretrained",
    "in_blocks",
    "load_tokenizer",
    "names_corpus",
    "needed_tokenizer",
    "padding_mask",
    "pieces",
    "plot_attention",
    "plot_losses_by_place",
    "plot_masks",
    "random_dates",
    "recorded_attention",
    "rotate",
    "save_pretrained",
    "sliding_window_mask",
    "stream",
    "swiglu",
    "text_corpus",
    "written_by",
]
