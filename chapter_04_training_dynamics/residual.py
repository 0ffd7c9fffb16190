"""The residual path: a layer adds to its input instead of replacing it.

The derivative of x + f(x) is 1 + f'(x), so whatever f does, the gradient has a way past it that
multiplies by 1; through twenty layers it arrives as it left. A layer that has nothing to say
learns f = 0, which is easier than to learn the identity.
"""

from __future__ import annotations

from chapter_03_neural_nets import Module
from utils import Tensor


class Residual(Module):
    """x + scale * module(x). Raises ValueError where the module changes the shape.

    A scale of 1 / sqrt(number of layers) keeps the sum's variance from growing with depth.
    Source: He et al., 2015, arXiv:1512.03385.
    """

    def __init__(self, module: Module, scale: float = 1.0) -> None:
        super().__init__()
        self.module, self.scale = module, scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.module(x)
        if y.shape != x.shape:
            raise ValueError(
                f"a residual path adds equal shapes: {type(self.module).__name__} turned {x.shape} "
                f"into {y.shape}"
            )
        return x + (y if self.scale == 1 else self.scale * y)
