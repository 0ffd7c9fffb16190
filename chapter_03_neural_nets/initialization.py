"""Where to begin: weights of the size that keeps a signal's strength from layer to layer.

If y = W x with n independent inputs of variance v, then Var(y) = n Var(w) v, so weights of variance
1/n keep it (LeCun). A gradient comes back through W^T, and asks for 1/(number of outputs); Glorot
takes the mean of both; relu halves the signal, so He doubles the variance. Each function fills a
parameter in place and returns it; names are those of torch.nn.init.
"""

from __future__ import annotations

import math
from typing import Callable

import numpy as np

from chapter_03_neural_nets.module import Parameter
from utils.seeding import generator

GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float = 0.01) -> float:
    """How much larger weights must be to make up for what an activation takes away.

    `param` is the slope of "leaky_relu" below 0.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + param**2))
    if nonlinearity not in GAINS:
        known = ", ".join([*GAINS, "leaky_relu"])
        raise ValueError(f"no gain is known for {nonlinearity!r}; known: {known}")
    return GAINS[nonlinearity]


def fans(tensor: Parameter) -> tuple[int, int]:
    """How many inputs and outputs each unit has: of (out, in, ...) weights, in and out times ...

    Raises ValueError for fewer than two dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError(f"inputs and outputs cannot be told from shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def uniform_(tensor: Parameter, a: float = 0.0, b: float = 1.0, rng=None) -> Parameter:
    """Fill with numbers from a to b, all alike likely."""
    return _fill(tensor, generator(rng).uniform(a, b, tensor.shape))


def normal_(tensor: Parameter, mean: float = 0.0, std: float = 1.0, rng=None) -> Parameter:
    """Fill with normal numbers."""
    return _fill(tensor, generator(rng).normal(mean, std, tensor.shape))


def constant_(tensor: Parameter, value: float) -> Parameter:
    return _fill(tensor, value)


def zeros_(tensor: Parameter) -> Parameter:
    return _fill(tensor, 0)


def ones_(tensor: Parameter) -> Parameter:
    return _fill(tensor, 1)


def xavier_uniform_(tensor: Parameter, gain: float = 1.0, rng=None) -> Parameter:
    """Variance gain^2 * 2 / (in + out), uniform.

    Source: Glorot, Bengio, 2010, Understanding the difficulty of training deep feedforward neural
    networks, AISTATS.
    """
    bound = math.sqrt(3) * _glorot_std(tensor, gain)
    return uniform_(tensor, -bound, bound, rng)


def xavier_normal_(tensor: Parameter, gain: float = 1.0, rng=None) -> Parameter:
    """Variance gain^2 * 2 / (in + out), normal (Glorot, Bengio, 2010)."""
    return normal_(tensor, 0, _glorot_std(tensor, gain), rng)


def kaiming_uniform_(
    tensor: Parameter,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    rng=None,
) -> Parameter:
    """Variance gain^2 / fan, uniform, for layers before a (leaky, of slope `a`) relu.

    `mode` "fan_in" keeps the signal forward, "fan_out" the gradient backward.
    Source: He et al., 2015, arXiv:1502.01852.
    """
    bound = math.sqrt(3) * _he_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, rng)


def kaiming_normal_(
    tensor: Parameter,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    rng=None,
) -> Parameter:
    """Variance gain^2 / fan, normal (He et al., 2015, arXiv:1502.01852)."""
    return normal_(tensor, 0, _he_std(tensor, a, mode, nonlinearity), rng)


def lecun_normal_(tensor: Parameter, gain: float = 1.0, rng=None) -> Parameter:
    """Variance gain^2 / in, normal (LeCun et al., 1998, Efficient BackProp)."""
    return normal_(tensor, 0, gain / math.sqrt(max(fans(tensor)[0], 1)), rng)


def orthogonal_(tensor: Parameter, gain: float = 1.0, rng=None) -> Parameter:
    """Rows (or columns, if fewer) at right angles, of length `gain`: no direction shrinks.

    Source: Saxe, McClelland, Ganguli, 2013, arXiv:1312.6120.
    """
    rows = tensor.shape[0]
    columns = fans(tensor)[0]
    tall = generator(rng).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diagonal(r))  # else q is not uniform among all such matrices
    q = q if rows >= columns else q.T
    return _fill(tensor, gain * q.reshape(tensor.shape))


SCHEMES: dict[str, Callable[..., Parameter]] = {
    "normal, std 1": normal_,
    "normal, std 0.01": lambda tensor, rng=None: normal_(tensor, 0, 0.01, rng),
    "LeCun": lecun_normal_,
    "Xavier": xavier_normal_,
    "He": lambda tensor, rng=None: kaiming_normal_(tensor, rng=rng),
    "orthogonal": orthogonal_,
}


def _glorot_std(tensor: Parameter, gain: float) -> float:
    return gain * math.sqrt(2 / max(sum(fans(tensor)), 1))


def _he_std(tensor: Parameter, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is 'fan_in' or 'fan_out', not {mode!r}")
    fan = fans(tensor)[("fan_in", "fan_out").index(mode)]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def _fill(tensor: Parameter, values) -> Parameter:
    if not np.isfinite(values).all():
        raise ValueError("an initialisation must make finite numbers: look at its std or gain")
    tensor.data[...] = values
    return tensor
