"""Chapter 6: networks built as their data is: windows over pictures, chains, and trees."""

from __future__ import annotations

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
from chapter_06_hierarchical.windows import Window, window

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "MaxPool1d",
    "MaxPool2d",
    "Window",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "convolution",
    "convolve",
    "convolve_by_columns",
    "convolve_transposed",
    "max_pool",
    "transposed_convolution",
    "unfold",
    "window",
]
