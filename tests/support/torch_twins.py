"""Ours beside PyTorch's: the value, the gradient of every argument, and that of every parameter."""

from __future__ import annotations

import numpy as np

from utils import Tensor

DTYPES = [np.float32, np.float64]
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}  # of the largest number, or of 1
NO_TORCH = "PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"


def near(found: np.ndarray, expected, what: str) -> None:
    """Ours, an array, is theirs, a torch tensor, to the tolerance of its dtype."""
    expected = expected.detach().numpy()
    assert found.shape == expected.shape, f"{what}: {found.shape}, not {expected.shape}"
    assert found.dtype == expected.dtype, f"{what}: {found.dtype}, not {expected.dtype}"
    scale = max(float(np.abs(expected).max(initial=0)), 1.0)
    tolerance = TOLERANCE[found.dtype.name]
    np.testing.assert_allclose(
        found / scale, expected / scale, rtol=0, atol=tolerance, err_msg=what
    )


def same_parameters(ours, theirs, dtype) -> None:
    """Both in one dtype, theirs with our numbers, loaded strictly, so that every name is the same.

    Biases and norms begin as zeros and ones, which hides mistakes: all become random first.
    """
    import torch

    rng = np.random.default_rng(8)
    ours.astype(dtype)
    theirs.to(getattr(torch, np.dtype(dtype).name))
    for p in ours.parameters():
        p.data[...] = rng.normal(size=p.shape) / max(p.shape[-1], 1) ** 0.5 + (p.ndim == 1)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()}, strict=True)


def compare(ours, theirs, arrays, modules=None) -> None:
    """ours(*Tensors) and theirs(*torch tensors) of the same arrays; `modules` hold parameters."""
    import torch

    leaves = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    twins = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*leaves), theirs(*twins)
    near(y.data, expected, "the value")
    g = np.random.default_rng(9).normal(size=y.shape).astype(y.dtype)
    y.backward(g)
    expected.backward(torch.tensor(g))
    for i, (leaf, twin) in enumerate(zip(leaves, twins)):
        near(leaf.grad, twin.grad, f"the gradient of argument {i}")
    if modules is not None:
        own, their = (dict(module.named_parameters()) for module in modules)
        assert set(own) == set(their), "PyTorch's names"
        for name, p in own.items():
            near(p.grad, their[name].grad, f"the gradient of {name}")
