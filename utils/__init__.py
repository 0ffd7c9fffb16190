"""The shared core that every chapter stands on: the engine and its tools."""

from __future__ import annotations

from .anomaly import detect_anomaly
from .checking import check_gradients
from .gradients import grad
from .kernels import kernel
from .modes import no_grad
from .scalar import Scalar
from .seeding import manual_seed
from .tensor import Tensor

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
