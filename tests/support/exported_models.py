"""Small models and tokenizers to be exported."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np

from chapter_02_text_generation import BPETokenizer, CharacterTokenizer
from chapter_07_attention import GPT, GPTConfig, LlamaConfig

NO_ONNX = "onnx is not installed: install the onnx extra, pip install -e .[onnx]"
NO_TRANSFORMERS = (
    "transformers is not installed: install the oracle extra, pip install -e .[oracle]"
)
TEXT = "the cat sat on the mat, isn't it?  They're 3.14 of a na\u00efve \u65e5\u672c\n\n" * 6


def lively_model(llama: bool = False, **options: Any) -> GPT:
    """A GPT of 2 layers, 2 heads and width 8, whose weights are so large that logits differ."""
    sizes = {"vocab_size": 11, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 8}
    config = (LlamaConfig if llama else GPTConfig)(**{**sizes, **options})
    model, rng = GPT(config, rng=np.random.default_rng(0)), np.random.default_rng(1)
    for p in model.parameters():
        p.data += rng.normal(size=p.shape) * 0.3
    return model.eval()


def byte_pairs(*special: str, vocab_size: int = 290) -> BPETokenizer:
    return BPETokenizer.train(TEXT, vocab_size, special)


def characters(*special: str) -> CharacterTokenizer:
    return CharacterTokenizer.train(TEXT + "e\u0301\t", special)


@contextlib.contextmanager
def quiet():
    """Hugging Face's library warns of much that is none of our business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
