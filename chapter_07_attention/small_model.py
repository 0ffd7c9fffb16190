"""A small model of the built-in text, for scripts that need one and were given none."""

from __future__ import annotations

from chapter_02_text_generation import Tokenizer
from chapter_07_attention.config import GPTConfig
from chapter_07_attention.corpus import text_corpus
from chapter_07_attention.gpt import GPT
from chapter_07_attention.language_training import fit
from utils.data import load_text

VOCABULARY = 512


def small_model(
    block_size: int = 32, steps: int = 1500, batch: int = 16, characters: int | None = None
) -> tuple[GPT, Tokenizer]:
    """A GPT and its tokenizer, which learn from Python's language reference in half a minute.

    Fewer `characters` of it are read where that is too long to wait.
    """
    corpus = text_corpus(load_text()[:characters], block_size, vocab_size=VOCABULARY)
    config = GPTConfig(corpus.tokenizer.vocab_size, block_size, n_layer=2, n_head=4, n_embd=64)
    model = GPT(config)
    fit(model, corpus, steps=steps, batch=batch, judged=1)
    return model.eval(), corpus.tokenizer
