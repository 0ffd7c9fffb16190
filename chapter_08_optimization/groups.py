"""Which parameters are treated alike: matrices decay, others do not; hidden ones may get Muon."""

from __future__ import annotations

from typing import Any

from chapter_03_neural_nets import Embedding, Module, Parameter
from chapter_07_attention import LearnedPositions

TABLES = (Embedding, LearnedPositions)  # whose rows are looked up: they multiply nothing


def weight_decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: matrices and kernels decay, biases and the weights of norms do not.

    Decay keeps products small. A norm's weight is not a factor of what is stretched again behind
    it, and a bias is no factor at all.
    """
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def hidden_matrices(model: Module, head: Module | None = None) -> dict[str, Parameter]:
    """The matrices that multiply hidden layers, by name: no embeddings, no positions, no head."""
    ends = {
        id(p)
        for module in model.modules()
        if isinstance(module, TABLES) or module is head
        for p in module.parameters()
    }
    return {name: p for name, p in model.named_parameters() if p.ndim == 2 and id(p) not in ends}
