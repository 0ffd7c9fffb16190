"""Chapter 5: gradients by hand, and the fused kernels that come out of them."""

from __future__ import annotations

from chapter_05_gradient_mastery.activations import FUSED, GELU, SiLU, gelu, silu
from chapter_05_gradient_mastery.by_hand import backward, forward
from chapter_05_gradient_mastery.compact import loss_and_gradients, train_by_hand
from chapter_05_gradient_mastery.dropout import Dropout, masked
from chapter_05_gradient_mastery.embedding import Embedding, embedding
from chapter_05_gradient_mastery.figures import (
    plot_differences,
    plot_speedups,
    plot_two_trainings,
)
from chapter_05_gradient_mastery.flat_adam import Adam, AdamW
from chapter_05_gradient_mastery.linear import MLP, Linear, linear, linear_activation
from chapter_05_gradient_mastery.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    LayerNorm,
    RMSNorm,
    batch_norm,
    layer_norm,
    rms_norm,
)
from chapter_05_gradient_mastery.softmax import (
    LogSoftmax,
    Softmax,
    cross_entropy,
    log_softmax,
    mean_cross_entropy,
    softmax,
)
from chapter_05_gradient_mastery.threads import in_threads

__all__ = [
    "Adam",
    "AdamW",
    "BatchNorm1d",
    "BatchNorm2d",
    "Dropout",
    "Embedding",
    "FUSED",
    "GELU",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "MLP",
    "RMSNorm",
    "SiLU",
    "Softmax",
    "backward",
    "batch_norm",
    "cross_entropy",
    "embedding",
    "forward",
    "gelu",
    "in_threads",
    "layer_norm",
    "linear",
    "linear_activation",
    "log_softmax",
    "loss_and_gradients",
    "masked",
    "mean_cross_entropy",
    "plot_differences",
    "plot_speedups",
    "plot_two_trainings",
    "rms_norm",
    "silu",
    "softmax",
    "train_by_hand",
]
