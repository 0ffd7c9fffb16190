"""Norms and clipping equal PyTorch's: forward, every gradient, statistics and state both ways."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_04_training_dynamics import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    LayerNorm,
    RMSNorm,
    clip_grad_norm,
    clip_grad_value,
)
from utils import Tensor

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"
)

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}
# name: our class, theirs, arguments, options, shape of the input
CASES = {
    "BatchNorm1d (B, C)": (BatchNorm1d, "BatchNorm1d", (3,), {}, (6, 3)),
    "BatchNorm1d (B, C, L)": (BatchNorm1d, "BatchNorm1d", (3,), {"eps": 0.1}, (4, 3, 5)),
    "BatchNorm1d, cumulative": (BatchNorm1d, "BatchNorm1d", (3,), {"momentum": None}, (6, 3)),
    "BatchNorm1d, momentum": (BatchNorm1d, "BatchNorm1d", (3,), {"momentum": 0.3}, (6, 3)),
    "BatchNorm1d, not affine": (BatchNorm1d, "BatchNorm1d", (3,), {"affine": False}, (6, 3)),
    "BatchNorm1d, untracked": (
        BatchNorm1d, "BatchNorm1d", (3,), {"track_running_stats": False}, (6, 3),
    ),
    "BatchNorm2d": (BatchNorm2d, "BatchNorm2d", (3,), {}, (4, 3, 5, 2)),
    "LayerNorm": (LayerNorm, "LayerNorm", (4,), {}, (2, 3, 4)),
    "LayerNorm of two axes": (LayerNorm, "LayerNorm", ((3, 4),), {"eps": 0.1}, (2, 3, 4)),
    "LayerNorm without bias": (LayerNorm, "LayerNorm", (4,), {"bias": False}, (2, 4)),
    "LayerNorm, not affine": (
        LayerNorm, "LayerNorm", (4,), {"elementwise_affine": False}, (2, 4),
    ),
    "RMSNorm": (RMSNorm, "RMSNorm", (4,), {}, (2, 3, 4)),
    "RMSNorm with eps": (RMSNorm, "RMSNorm", ((3, 4),), {"eps": 0.1}, (2, 3, 4)),
    "RMSNorm, not affine": (RMSNorm, "RMSNorm", (4,), {"elementwise_affine": False}, (2, 4)),
    "GroupNorm": (GroupNorm, "GroupNorm", (2, 6), {}, (3, 6, 4, 2)),
    "GroupNorm of features": (GroupNorm, "GroupNorm", (3, 6), {"eps": 0.1}, (3, 6)),
    "GroupNorm, not affine": (GroupNorm, "GroupNorm", (2, 6), {"affine": False}, (3, 6, 4)),
}  # fmt: skip


def pair(name, dtype, rng):
    """Our module and PyTorch's with the same random weights, and the shape of their input."""
    kind, theirs, arguments, options, shape = CASES[name]
    ours = kind(*arguments, **options).astype(dtype)
    for p in ours.parameters():
        p.data[...] = rng.normal(size=p.shape)
    other = getattr(torch.nn, theirs)(*arguments, **options)
    other = other.to(torch.float32 if dtype is np.float32 else torch.float64)
    state = {key: torch.tensor(value) for key, value in ours.state_dict().items()}
    other.load_state_dict(state, strict=True)
    return ours, other, shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_forward_gradients_and_statistics_over_several_batches(name, dtype, rng):
    ours, theirs, shape = pair(name, dtype, rng)
    near = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    for training in (True, True, True, False):
        ours.train(training), theirs.train(training)
        data, weights = (rng.normal(1, 2, shape).astype(dtype) for _ in range(2))
        x, x_theirs = Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
        y, y_theirs = ours(x), theirs(x_theirs)
        np.testing.assert_allclose(y.data, y_theirs.detach().numpy(), **near, err_msg="forward")
        ours.zero_grad(), theirs.zero_grad()
        y.backward(weights), y_theirs.backward(torch.tensor(weights))
        np.testing.assert_allclose(x.grad, x_theirs.grad.numpy(), **near, err_msg="gradient of x")
        assert x.grad.dtype == dtype
        for key, p in ours.named_parameters():
            expected = getattr(theirs, key).grad.numpy()
            np.testing.assert_allclose(p.grad, expected, **near, err_msg=f"gradient of {key}")
        state = theirs.state_dict()
        assert list(ours.state_dict()) == list(state)
        for key, array in ours.state_dict().items():
            assert array.shape == tuple(state[key].shape)
            np.testing.assert_allclose(array, state[key].numpy(), **near, err_msg=key)


@pytest.mark.parametrize("name", CASES)
def test_their_state_loads_into_ours(name, rng):
    ours, theirs, shape = pair(name, np.float32, rng)
    for _ in range(2):
        theirs(torch.tensor(rng.normal(3, 2, shape).astype(np.float32)))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = rng.normal(size=shape).astype(np.float32)
    expected = theirs.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(Tensor(x)).data, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm_type", [1, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_clipping_by_norm(norm_type, max_norm, rng):
    gradients = [rng.normal(size=shape).astype(np.float32) for shape in [(3, 4), (5,), ()]]
    ours = [Tensor(np.zeros_like(g), requires_grad=True) for g in gradients]
    theirs = [torch.zeros(g.shape, requires_grad=True) for g in gradients]
    for p, q, g in zip(ours, theirs, gradients):
        p.grad, q.grad = np.array(g), torch.tensor(np.array(g))
    total = clip_grad_norm(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert total == pytest.approx(float(expected), rel=1e-5)
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_clipping_by_value(rng):
    g = rng.normal(size=(3, 4)).astype(np.float32)
    p, q = Tensor(np.zeros_like(g), requires_grad=True), torch.zeros(3, 4, requires_grad=True)
    p.grad, q.grad = g.copy(), torch.tensor(g)
    clip_grad_value(p, 0.5)
    torch.nn.utils.clip_grad_value_(q, 0.5)
    np.testing.assert_array_equal(p.grad, q.grad.numpy())
