"""A recipe for GPT: what each part of the model wants, put together.

Matrices between hidden layers get Muon; the embedding, which each batch sees a few rows of, and
what is no matrix get AdamW, at a rate of its own. Both rates rise for some steps and fall in a
straight line to nothing. Queries, keys and values lie in one matrix and are three to Muon.
"""

from __future__ import annotations

from chapter_03_neural_nets import Module, Optimizer
from chapter_05_gradient_mastery import AdamW
from chapter_08_optimization.groups import hidden_matrices, weight_decay_groups
from chapter_08_optimization.muon import Muon
from chapter_08_optimization.schedules import Schedule, linear, warm_up
from chapter_08_optimization.wrapper import Combined

PACKED = "in_proj_weight"  # queries, keys and values, one below the other


def muon_and_adamw(
    model: Module,
    muon_lr: float | Schedule,
    adamw_lr: float | Schedule,
    head: Module | None = None,
    split: bool = True,
    weight_decay: float = 0.1,
    **options: object,
) -> Combined:
    """Muon for the hidden matrices, AdamW for the rest, with weight decay of what is a matrix.

    `head` is the module that makes the logits; `split` sees three matrices in a packed one;
    `options` go to Muon.
    """
    matrices = hidden_matrices(model, head)
    packed = [p for name, p in matrices.items() if split and name.endswith(PACKED)]
    single = [p for name, p in matrices.items() if not (split and name.endswith(PACKED))]
    hidden = {id(p) for p in matrices.values()}
    groups = [{"params": packed, "parts": 3}, {"params": single}]
    rest = weight_decay_groups(model, weight_decay)
    for group in rest:
        group["params"] = [p for p in group["params"] if id(p) not in hidden]
    return Combined(
        [
            Muon([g for g in groups if g["params"]], muon_lr, **options),
            AdamW([g for g in rest if g["params"]], adamw_lr, betas=(0.9, 0.99)),
        ]
    )


def recipe(
    model: Module, steps: int, muon_lr: float = 0.03, adamw_lr: float = 6e-3, rise: int = 50
) -> Optimizer:
    """The optimiser for a training of a GPT of so many steps, a tenth of them or `rise` upwards."""
    rise = max(min(rise, steps // 10), 1)
    schedules = (warm_up(linear(lr, steps), rise) for lr in (muon_lr, adamw_lr))
    return muon_and_adamw(model, *schedules, head=model.head)
