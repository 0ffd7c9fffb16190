"""Convolutions and pools beside PyTorch's: values and every gradient over a grid of shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import chapter_06_hierarchical as chapter_06
from utils import Tensor

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"
)

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
DTYPES = [np.float32, np.float64]
SIZES = (9, 7)


def compare(layer, twin, x) -> None:
    """Ours and PyTorch's module, with PyTorch's weights: the output and all gradients."""
    twin = twin.to(getattr(torch, x.dtype.name))
    layer.astype(x.dtype).load_state_dict({k: v.numpy() for k, v in twin.state_dict().items()})
    ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected = layer(ours), twin(theirs)
    assert y.shape == tuple(expected.shape) and y.dtype == x.dtype
    g = np.random.default_rng(1).normal(size=y.shape).astype(x.dtype)
    y.backward(g)
    expected.backward(torch.tensor(g))
    tolerance = TOLERANCE[x.dtype.name]

    def near(a, b, what):
        b = b.detach().numpy()
        scale = max(np.abs(b).max(initial=0), 1)
        np.testing.assert_allclose(a / scale, b / scale, atol=tolerance, rtol=0, err_msg=what)

    near(y.data, expected, f"the output of {layer!r}")
    near(ours.grad, theirs.grad, f"the input's gradient in {layer!r}")
    for (name, p), q in zip(layer.named_parameters(), twin.parameters()):
        near(p.grad, q.grad, f"the gradient of {name} in {layer!r}")


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_convolutions(kernel, axes, dtype, rng):
    grid = itertools.product(
        (1, 2), (0, 1, "same"), (1, 2), [(2, 4, 1), (4, 6, 2), (3, 3, 3)], (1, 3)
    )
    for stride, padding, dilation, (channels, out, groups), batch in grid:
        if padding == "same" and stride > 1:
            continue
        args = (channels, out, kernel, stride, padding, dilation, groups, batch > 1)
        x = rng.normal(size=(batch, channels, *SIZES[:axes])).astype(dtype)
        name = f"Conv{axes}d"
        compare(getattr(chapter_06, name)(*args), getattr(torch.nn, name)(*args), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_transposed_convolutions(kernel, axes, dtype, rng):
    grid = itertools.product((1, 2), (0, 1), (0, 1), (1, 2), [(2, 4, 1), (4, 6, 2), (3, 3, 3)])
    for stride, padding, extra, dilation, (channels, out, groups) in grid:
        if extra >= max(stride, dilation):
            continue
        args = (channels, out, kernel, stride, padding, extra, groups, stride > 1, dilation)
        x = rng.normal(size=(2, channels, *(5, 4)[:axes])).astype(dtype)
        name = f"ConvTranspose{axes}d"
        compare(getattr(chapter_06, name)(*args), getattr(torch.nn, name)(*args), x)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [1, 2])
def test_pools(axes, dtype, ties, rng):
    x = rng.normal(size=(2, 3, *SIZES[:axes]))
    x = (np.round(np.maximum(x, 0)) if ties else x).astype(dtype)
    for kernel, stride, padding, dilation in itertools.product(
        (2, 3), (None, 1, 2), (0, 1), (1, 2)
    ):
        name = f"MaxPool{axes}d"
        args = (kernel, stride, padding, dilation)
        compare(getattr(chapter_06, name)(*args), getattr(torch.nn, name)(*args), x)
        for counted in (True, False):
            name = f"AvgPool{axes}d"
            ours = getattr(chapter_06, name)(kernel, stride, padding, counted)
            twin = getattr(torch.nn, name)(kernel, stride, padding, False, counted)
            compare(ours, twin, x)
    for kind, size in itertools.product(("Avg", "Max"), (1, 2, 3, 5, 8, 11)):
        name = f"Adaptive{kind}Pool{axes}d"
        compare(getattr(chapter_06, name)(size), getattr(torch.nn, name)(size), x)


def test_sizes_that_differ_by_axis(rng):
    args = (2, 3, (3, 2), (2, 1), (0, 2), (1, 3))
    x = rng.normal(size=(2, 2, 8, 7))
    compare(chapter_06.Conv2d(*args), torch.nn.Conv2d(*args), x)
    compare(chapter_06.MaxPool2d((3, 2), (1, 2)), torch.nn.MaxPool2d((3, 2), (1, 2)), x)
    compare(chapter_06.AdaptiveAvgPool2d((3, 5)), torch.nn.AdaptiveAvgPool2d((3, 5)), x)
    args = (2, 3, (3, 2), (2, 3), (1, 0), (1, 2))
    compare(chapter_06.ConvTranspose2d(*args), torch.nn.ConvTranspose2d(*args), x)


def test_state_dicts_pass_both_ways():
    ours, theirs = chapter_06.ConvTranspose2d(4, 6, 3, groups=2), torch.nn.ConvTranspose2d(
        4, 6, 3, groups=2
    )
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
    assert np.array_equal(theirs.weight.detach().numpy(), ours.weight.data)
