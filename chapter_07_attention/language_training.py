"""Training a GPT on a corpus, and looking over its shoulder while it learns to write."""

from __future__ import annotations

import os
from typing import Any, Callable, Mapping

import numpy as np

from chapter_02_text_generation import sample
from chapter_03_neural_nets import Batches, History, Optimizer, evaluate, rise_and_fall, train
from chapter_05_gradient_mastery import AdamW, cross_entropy, in_threads
from chapter_06_hierarchical import trimmed
from chapter_07_attention.corpus import Corpus
from chapter_07_attention.gpt import GPT
from utils import Tensor

JUDGED_AT_ONCE = 64  # blocks


def fit(
    model: GPT,
    corpus: Corpus,
    steps: int,
    batch: int = 12,
    lr: float = 3e-3,
    weight_decay: float = 0.1,
    optimizer: Optimizer | None = None,
    threads: int = 1,
    judged: int = 5,
    show: Callable[[str], Any] | None = None,
    checkpoint: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    description: str = "training",
) -> History:
    """Train with AdamW, or another optimiser, judging so many times, the last at the end.

    Another optimiser has its own `lr` and `weight_decay`. `show` is told the loss and something
    that the model writes. Each of `threads` works on a part of every batch. `checkpoint` and
    `settings` are `train`'s.
    """
    if optimizer is None:
        options = {"betas": (0.9, 0.99), "weight_decay": weight_decay}
        optimizer = AdamW(model.parameters(), rise_and_fall(lr, steps), **options)

    def loss(model: GPT, ids: Any, targets: Any) -> Tensor:
        if corpus.boundary is not None:
            ids, targets = trimmed(ids, targets)
        return cross_entropy(model(ids), targets)

    def judge(model: GPT) -> dict[str, float]:
        result = evaluate(model, *corpus.validation, batch_size=JUDGED_AT_ONCE)
        if show is not None:
            # A generator of its own: whoever looks on gets the same model as who does not.
            rng = np.random.default_rng(optimizer.steps)
            text = written_by(model, corpus, 160, temperature=0.8, rng=rng).replace("\n", "\n    ")
            show(f"\n  validation {result['loss']:.4f}. It writes:\n\n    {text}\n")
        return result

    return train(
        model,
        optimizer,
        Batches(*corpus.train, batch_size=min(batch, len(corpus.train[0]))),
        steps,
        loss=in_threads(loss, threads),
        evaluate=judge,
        evaluate_every=-(-steps // judged),
        checkpoint=checkpoint,
        settings=settings,
        description=description,
    )


def written_by(model: GPT, corpus: Corpus, tokens: int = 200, **how: Any) -> str:
    """Something to read: ten names, or so many tokens behind the first of the text.

    `how` goes to `next_token`: temperature, top_k, top_p, min_p, rng.
    """
    decode = corpus.tokenizer.decode
    if corpus.boundary is None:
        first = corpus.train[0][0, :1].tolist()
        return decode(sample(model.next_logits, first, boundary=-1, max_tokens=tokens, **how))
    start, longest = [corpus.boundary], model.config.block_size
    names = (sample(model.next_logits, start, corpus.boundary, longest, **how) for _ in range(10))
    return ", ".join(decode(name[1:]) for name in names)
