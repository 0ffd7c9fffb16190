"""The shared core that every chapter stands on: the engine and its tools."""

from __future__ import annotations

from utils.anomaly import detect_anomaly
from utils.checking import check_gradients
from utils.gradients import grad
from utils.kernels import kernel
from utils.modes import no_grad
from utils.scalar import Scalar
from utils.seeding import manual_seed
from utils.tensor import Tensor

__all__ = [
    "Scalar",
    "Tensor",
    "check_gradients",
    "detect_anomaly",
    "grad",
    "kernel",
    "manual_seed",
    "no_grad",
]
