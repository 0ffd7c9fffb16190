"""Distillation: a small model learns from what a large one thinks possible, not from one answer.

A text says which token came next. A trained model says how likely each one was, which is more to
learn from every place: what else would have done, and how nearly. Divided by a temperature T, its
logits speak up for the unlikely ones too. The gradient of the divergence is then (q - p) / T, and
as p and q come nearer to each other with T, one of 1 / T^2: hence the T^2 before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chapter_02_text_generation import log_softmax as log_softmax_composed
from chapter_03_neural_nets import Batches, History, Optimizer, evaluate, rise_and_fall, train
from chapter_03_neural_nets.evaluation import eval_mode
from chapter_03_neural_nets.losses import IGNORED
from chapter_05_gradient_mastery import AdamW, cross_entropy, in_threads
from chapter_05_gradient_mastery.softmax import exponentials
from chapter_06_hierarchical import trimmed
from chapter_07_attention import GPT, Corpus
from chapter_07_attention.language_training import JUDGED_AT_ONCE
from utils import Tensor, kernel, no_grad
from utils.promotion import plain


def divergence_composed(logits: Tensor, teacher: Any, temperature: float = 1.0) -> Tensor:
    log_p = log_softmax_composed(teacher / temperature)
    log_q = log_softmax_composed(logits / temperature)
    each = np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)
    return temperature**2 * np.mean(each)


@kernel(composed=divergence_composed)
def divergence(logits, teacher, temperature=1.0):
    """T^2 KL(p || q), the mean over places: p = softmax(teacher / T), q = softmax(logits / T).

    Logits (..., classes) of both, from 0 up; the teacher's are constants.
    """
    if logits.shape != teacher.shape:
        raise ValueError(f"a student's logits {logits.shape} and its teacher's {teacher.shape} are "
                         "of one shape")  # fmt: skip
    (log_p, p, p_norm), (log_q, q, q_norm) = (
        exponentials(x / temperature, -1) for x in (teacher, logits)
    )
    difference = (log_p - np.log(p_norm)) - (log_q - np.log(q_norm))
    p /= p_norm
    q /= q_norm
    places = max(logits.size // logits.shape[-1], 1)
    total = np.multiply(p, difference, out=difference).sum(dtype=np.float64)
    y = (temperature**2 * total / places).astype(logits.dtype)

    def backward(g, wanted):
        return ((q - p) * (g * temperature / places), None)

    return y, backward


def distillation_loss(
    logits: Tensor, teacher: np.ndarray, targets: Any, temperature: float = 2.0, alpha: float = 0.5
) -> Tensor:
    """alpha cross-entropy + (1 - alpha) T^2 KL(teacher || student): logits (..., classes).

    Targets of -100 take no part in either. Raises ValueError for a temperature that is not above 0
    and an alpha that is no share. Source: Hinton, Vinyals, Dean, 2015, arXiv:1503.02531.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature is a number above 0, not {temperature}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is a share from 0 to 1, not {alpha}")
    hard = cross_entropy(logits, targets)
    counted = plain(targets) != IGNORED
    if not counted.all():
        logits, teacher = logits[counted], teacher[counted]
    return alpha * hard + (1 - alpha) * divergence(logits, teacher, temperature=temperature)


def distill(
    student: GPT,
    teacher: GPT,
    corpus: Corpus,
    steps: int,
    batch: int = 12,
    lr: float = 3e-3,
    temperature: float = 2.0,
    alpha: float = 0.5,
    weight_decay: float = 0.1,
    optimizer: Optimizer | None = None,
    threads: int = 1,
    judged: int = 5,
    description: str = "distilling",
) -> History:
    """Train a student as `fit` does, on the corpus and on what a teacher says of it.

    Both read the same tokens: ValueError for a teacher with another vocabulary, or one that cannot
    read texts so long.
    """
    theirs, ours = teacher.config, student.config
    if theirs.vocab_size != ours.vocab_size or theirs.block_size < corpus.block_size:
        raise ValueError(f"a teacher of {theirs.vocab_size} tokens and texts of up to "
                         f"{theirs.block_size} cannot teach {ours.vocab_size} tokens and texts of "
                         f"{corpus.block_size}")  # fmt: skip
    if optimizer is None:
        options = {"betas": (0.9, 0.99), "weight_decay": weight_decay}
        optimizer = AdamW(student.parameters(), rise_and_fall(lr, steps), **options)

    def loss(student: GPT, ids: Any, targets: Any) -> Tensor:
        if corpus.boundary is not None:
            ids, targets = trimmed(ids, targets)
        with no_grad():
            said = teacher(ids).data
        return distillation_loss(student(ids), said, targets, temperature, alpha)

    with eval_mode(teacher):
        return train(
            student,
            optimizer,
            Batches(*corpus.train, batch_size=min(batch, len(corpus.train[0]))),
            steps,
            loss=in_threads(loss, threads),
            evaluate=lambda s: evaluate(s, *corpus.validation, batch_size=JUDGED_AT_ONCE),
            evaluate_every=-(-steps // judged),
            description=description,
        )
