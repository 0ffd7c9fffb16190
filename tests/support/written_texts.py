"""Small models of every family with decided opinions, prompts, and what chapter 7 writes."""

from __future__ import annotations

import numpy as np

from chapter_07_attention import GPT, GPTConfig, LlamaConfig, stream
from chapter_10_production import Decoder, SamplingParameters

VOCAB, CONTEXT = 65, 64
FAMILIES = {
    "gpt2": GPTConfig(VOCAB, CONTEXT, 2, 4, 32),
    "llama": LlamaConfig(VOCAB, CONTEXT, 2, 4, 32, n_kv_head=2),
    "alibi, window": GPTConfig(VOCAB, CONTEXT, 2, 3, 24, positions="alibi", window=7),
    "sines, untied": GPTConfig(
        VOCAB, CONTEXT, 2, 4, 32, positions="sinusoidal", tied=False, bias=False, norm="rms"
    ),
    "relu, wide heads": GPTConfig(
        VOCAB, CONTEXT, 1, 2, 24, activation="relu", head_dim=20, positions="none"
    ),
}


def decided(config: GPTConfig, seed: int = 0) -> GPT:
    """An untrained model whose likeliest token is clear, and changes with the text."""
    model = GPT(config, rng=np.random.default_rng(seed)).eval()
    for p in model.parameters():
        if p.ndim == 2:
            p.data[...] *= 4
    return model


def prompts(seed: int = 1) -> list[list[int]]:
    """Texts of many lengths, some with the same beginning."""
    rng = np.random.default_rng(seed)
    alone = [rng.integers(0, VOCAB, n).tolist() for n in (1, 5, 16, 17, 33, 40)]
    return alone + [[*range(20), i] for i in range(4)]


def ways(tokens: int, temperature: float, count: int) -> list[SamplingParameters]:
    """For each text its own filters and seed."""
    return [
        SamplingParameters(
            max_tokens=tokens,
            temperature=temperature,
            top_k=20 if i % 2 else None,
            top_p=0.9 if i % 3 == 0 else None,
            min_p=0.02 if i % 4 == 0 else None,
            seed=i,
        )
        for i in range(count)
    ]


def plainly(model: GPT, prompt: list[int], how: SamplingParameters) -> list[int]:
    """The continuation as chapter 7 writes it: all of the text read again for every token."""
    most = min(how.max_tokens, model.config.block_size - len(prompt))
    filters = {name: getattr(how, name) for name in ("top_k", "top_p", "min_p", "temperature")}
    return list(stream(model, prompt, most, rng=np.random.default_rng(how.seed), **filters))


def draft_of(config: GPTConfig) -> Decoder:
    """Another, smaller model of the same vocabulary, which guesses badly."""
    return Decoder.from_model(decided(GPTConfig(config.vocab_size, config.block_size, 1, 2, 16), 7))
