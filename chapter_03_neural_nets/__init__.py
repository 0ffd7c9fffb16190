"""Chapter 3: modules, layers, losses, initialisation, optimisers, and the one training loop."""

from __future__ import annotations

from chapter_03_neural_nets.activations import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    elu,
    gelu,
    leaky_relu,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from chapter_03_neural_nets.batches import Batches
from chapter_03_neural_nets.containers import ModuleList, Sequential
from chapter_03_neural_nets.evaluation import (
    confusion_matrix,
    eval_mode,
    evaluate,
    evaluating,
    predict,
)
from chapter_03_neural_nets.figures import (
    plot_confusion_matrix,
    plot_history,
    plot_images,
    plot_variances,
)
from chapter_03_neural_nets.initialization import (
    SCHEMES,
    calculate_gain,
    constant_,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    normal_,
    ones_,
    orthogonal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
from chapter_03_neural_nets.layers import Dropout, Embedding, Flatten, Identity, Linear
from chapter_03_neural_nets.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
)
from chapter_03_neural_nets.models import MLP, ContextMLP
from chapter_03_neural_nets.module import Module, Parameter
from chapter_03_neural_nets.optimizers import SGD, Adam, AdamW, Optimizer
from chapter_03_neural_nets.schedule import rise_and_fall
from chapter_03_neural_nets.summary import count_parameters, summary
from chapter_03_neural_nets.training import History, train
from chapter_03_neural_nets.variance import variances_through_depth

__all__ = [
    "Adam",
    "AdamW",
    "Batches",
    "ContextMLP",
    "Dropout",
    "ELU",
    "Embedding",
    "Flatten",
    "GELU",
    "History",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MLP",
    "Module",
    "ModuleList",
    "Optimizer",
    "Parameter",
    "ReLU",
    "SCHEMES",
    "SGD",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "binary_cross_entropy_with_logits",
    "calculate_gain",
    "confusion_matrix",
    "constant_",
    "count_parameters",
    "cross_entropy",
    "elu",
    "eval_mode",
    "evaluate",
    "evaluating",
    "gelu",
    "huber_loss",
    "kaiming_normal_",
    "kaiming_uniform_",
    "l1_loss",
    "leaky_relu",
    "lecun_normal_",
    "mse_loss",
    "normal_",
    "ones_",
    "orthogonal_",
    "plot_confusion_matrix",
    "plot_history",
    "plot_images",
    "plot_variances",
    "predict",
    "relu",
    "rise_and_fall",
    "sigmoid",
    "silu",
    "softplus",
    "summary",
    "tanh",
    "train",
    "uniform_",
    "variances_through_depth",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]
