"""Chapter 1: derivatives, from a single multiplication to gradients of anything NumPy computes."""

from __future__ import annotations

from chapter_01_autodiff.dual_numbers import (
    Dual,
    directional_derivative,
    hessian_vector_product,
)
from chapter_01_autodiff.figures import plot_decision_boundary, plot_difference_errors
from chapter_01_autodiff.graph_drawing import draw_graph, to_dot
from chapter_01_autodiff.moons import make_moons
from chapter_01_autodiff.numerical import (
    central_difference,
    difference_errors,
    forward_difference,
    numerical_gradient,
)
from chapter_01_autodiff.scalar_network import MLP, Layer, Neuron
from chapter_01_autodiff.transformations import hessian, hvp, jacobian, jvp, vjp
from utils import Scalar, Tensor, check_gradients, detect_anomaly, grad, kernel, no_grad

__all__ = [
    "Dual",
    "Layer",
    "MLP",
    "Neuron",
    "Scalar",
    "Tensor",
    "central_difference",
    "check_gradients",
    "detect_anomaly",
    "difference_errors",
    "directional_derivative",
    "draw_graph",
    "forward_difference",
    "grad",
    "hessian",
    "hessian_vector_product",
    "hvp",
    "jacobian",
    "jvp",
    "kernel",
    "make_moons",
    "no_grad",
    "numerical_gradient",
    "plot_decision_boundary",
    "plot_difference_errors",
    "to_dot",
    "vjp",
]
