"""Chapter 6: networks built as their data is: windows over pictures, chains, and trees."""

from __future__ import annotations

from chapter_06_hierarchical.augmentation import affine, random_affine
from chapter_06_hierarchical.cells import CELLS, Cell
from chapter_06_hierarchical.convolution import (
    convolve,
    convolve_by_columns,
    convolve_transposed,
    unfold,
)
from chapter_06_hierarchical.convolution_kernel import convolution, transposed_convolution
from chapter_06_hierarchical.convolution_layers import (
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
)
from chapter_06_hierarchical.expression_models import BagReader, ChainReader, TreeReader
from chapter_06_hierarchical.expressions import (
    depth,
    examples,
    expressions_of,
    library_expressions,
    value,
    written,
)
from chapter_06_hierarchical.figures import (
    plot_accuracy_by_depth,
    plot_expression,
    plot_feature_maps,
    plot_influence,
    plot_receptive_field,
    plot_saliency,
    plot_validation,
)
from chapter_06_hierarchical.forest import Forest, plant
from chapter_06_hierarchical.language_models import RecurrentModel
from chapter_06_hierarchical.lenet import LeNet5
from chapter_06_hierarchical.packed import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)
from chapter_06_hierarchical.pooling import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    max_pool,
)
from chapter_06_hierarchical.pooling_layers import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from chapter_06_hierarchical.recurrence import recur
from chapter_06_hierarchical.recurrent import GRU, LSTM, RNN
from chapter_06_hierarchical.residual_network import ResidualBlock, ResNet
from chapter_06_hierarchical.saliency import saliency, token_influence
from chapter_06_hierarchical.separable import DepthwiseSeparable, SeparableNet
from chapter_06_hierarchical.sequences import padded_sequences, trimmed
from chapter_06_hierarchical.tree_lstm import TreeLSTM, tree_lstm
from chapter_06_hierarchical.wavenet import (
    CausalConv1d,
    FlattenConsecutive,
    GatedBlock,
    HierarchicalNet,
    WaveNet,
)
from chapter_06_hierarchical.windows import Window, window

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BagReader",
    "CELLS",
    "CausalConv1d",
    "Cell",
    "ChainReader",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "DepthwiseSeparable",
    "FlattenConsecutive",
    "Forest",
    "GRU",
    "GatedBlock",
    "HierarchicalNet",
    "LSTM",
    "LeNet5",
    "MaxPool1d",
    "MaxPool2d",
    "PackedSequence",
    "RNN",
    "RecurrentModel",
    "ResNet",
    "ResidualBlock",
    "SeparableNet",
    "TreeLSTM",
    "TreeReader",
    "WaveNet",
    "Window",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "affine",
    "average_pool",
    "convolution",
    "convolve",
    "convolve_by_columns",
    "convolve_transposed",
    "depth",
    "examples",
    "expressions_of",
    "library_expressions",
    "max_pool",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "padded_sequences",
    "plant",
    "plot_accuracy_by_depth",
    "plot_expression",
    "plot_feature_maps",
    "plot_influence",
    "plot_receptive_field",
    "plot_saliency",
    "plot_validation",
    "random_affine",
    "recur",
    "saliency",
    "token_influence",
    "transposed_convolution",
    "tree_lstm",
    "trimmed",
    "unfold",
    "value",
    "window",
    "written",
]
