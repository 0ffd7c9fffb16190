"""Chapter 4: gradient flow, normalisation, residual paths, clipping, and looking inside."""

from __future__ import annotations

from chapter_04_training_dynamics.batch_norm import BatchNorm1d, BatchNorm2d, batch_norm
from chapter_04_training_dynamics.clipping import clip_grad_norm, clip_grad_value
from chapter_04_training_dynamics.deep_network import DeepMLP
from chapter_04_training_dynamics.diagnostics import Recorder, UpdateRatios, update_ratios
from chapter_04_training_dynamics.figures import (
    plot_activations,
    plot_layers,
    plot_learning_rates,
    plot_over_time,
    plot_training,
    plot_update_ratios,
)
from chapter_04_training_dynamics.group_norm import GroupNorm, group_norm
from chapter_04_training_dynamics.layer_norm import LayerNorm, RMSNorm, layer_norm, rms_norm
from chapter_04_training_dynamics.learning_rate_finder import (
    LearningRateCurve,
    find_learning_rate,
)
from chapter_04_training_dynamics.residual import Residual

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "DeepMLP",
    "GroupNorm",
    "LayerNorm",
    "LearningRateCurve",
    "RMSNorm",
    "Recorder",
    "Residual",
    "UpdateRatios",
    "batch_norm",
    "clip_grad_norm",
    "clip_grad_value",
    "find_learning_rate",
    "group_norm",
    "layer_norm",
    "plot_activations",
    "plot_layers",
    "plot_learning_rates",
    "plot_over_time",
    "plot_training",
    "plot_update_ratios",
    "rms_norm",
    "update_ratios",
]
