"""Kernels where it is easy to go wrong: saturation, infinities, dtypes, long sums, and manners.

A kernel may overwrite what it made, never what others hold: its arguments, its output, g.
"""

from __future__ import annotations

import numpy as np
import pytest

import chapter_05_gradient_mastery as chapter_05
from chapter_05_gradient_mastery import (
    batch_norm,
    embedding,
    gelu,
    layer_norm,
    linear,
    linear_activation,
    log_softmax,
    masked,
    mean_cross_entropy,
    rms_norm,
    silu,
    softmax,
)
from utils import Tensor, grad, no_grad

IDS, KEPT = np.array([[0, 2], [2, 1]]), np.array([[True, False, True], [False, True, True]])
ACTIVATIONS = ("relu", "tanh", "gelu", "gelu_tanh", "silu")

CALLS = {  # kernel, shapes of the floats, what follows them, keywords
    "linear": (linear, [(2, 3), (4, 3), (4,)], [], {}),
    **{
        f"linear_activation {name}": (
            linear_activation, [(2, 3), (4, 3), (4,)], [], {"activation": name}
        )
        for name in ACTIVATIONS
    },
    "gelu": (gelu, [(2, 3)], [], {}),
    "gelu tanh": (gelu, [(2, 3)], [], {"approximate": "tanh"}),
    "silu": (silu, [(2, 3)], [], {}),
    "softmax": (softmax, [(2, 3)], [], {"axis": 0}),
    "log_softmax": (log_softmax, [(2, 3)], [], {"axis": 0}),
    "mean_cross_entropy": (mean_cross_entropy, [(2, 2, 3)], [IDS], {}),
    "embedding": (embedding, [(3, 4)], [IDS], {}),
    "batch_norm": (batch_norm, [(4, 3, 2), (3,), (3,)], [], {}),
    "batch_norm plain": (batch_norm, [(4, 3)], [], {}),
    "layer_norm": (layer_norm, [(2, 3, 4), (3, 4), (3, 4)], [], {"dims": 2}),
    "layer_norm plain": (layer_norm, [(2, 4)], [], {}),
    "rms_norm": (rms_norm, [(2, 3, 4), (4,)], [], {}),
    "rms_norm plain": (rms_norm, [(2, 4)], [], {}),
    "masked": (masked, [(2, 3)], [KEPT], {"scale": 2.0}),
}  # fmt: skip


@pytest.fixture(params=CALLS)
def call(request):
    """A kernel, the arrays of a call (in the dtype that is asked for), and its keywords."""
    kernel, shapes, others, options = CALLS[request.param]

    def make(dtype=np.float64):
        rng = np.random.default_rng(0)
        return kernel, [rng.normal(size=s).astype(dtype) for s in shapes], list(others), options

    return make


def test_every_kernel_is_called_here():
    public = {k: getattr(chapter_05, k) for k in chapter_05.__all__}
    kernels = {f for f in public.values() if callable(f) and hasattr(f, "composed")}
    assert kernels == {kernel for kernel, *_ in CALLS.values()}


# Manners


def test_plain_arrays_in_plain_arrays_out(call):
    kernel, floats, others, options = call(np.float32)
    y = kernel(*floats, *others, **options)
    assert isinstance(y, (np.ndarray, np.floating)) and y.dtype == np.float32
    same = kernel(*map(Tensor, floats), *others, **options)
    assert isinstance(same, Tensor) and not same.requires_grad
    np.testing.assert_array_equal(y, same.data)


def test_nothing_that_others_hold_is_overwritten(call):
    kernel, floats, others, options = call()
    args = [*floats, *others]
    before = [a.tobytes() for a in args]
    y, backward = kernel.__wrapped__(*args, **options)
    value, g = np.array(y), np.random.default_rng(1).normal(size=np.shape(y))
    seed = g.copy()
    flags = tuple(a.dtype.kind == "f" for a in args)
    found = backward(g, flags)
    assert isinstance(found, tuple) and len(found) == len(args)
    np.testing.assert_array_equal(g, seed, err_msg="backward changed g, which others hold too")
    np.testing.assert_array_equal(y, value, err_msg="backward changed the kernel's own output")
    assert [a.tobytes() for a in args] == before, "an argument has changed"
    assert not any(np.shares_memory(y, a) for a in args), "the output is a view of an argument"

    copies = [None if dx is None else np.array(dx) for dx in found]
    for dx in found:
        if dx is not None:
            assert not np.shares_memory(dx, y) and not any(np.shares_memory(dx, a) for a in args)
            if dx.flags.writeable and not np.shares_memory(dx, g):
                dx[...] = np.nan  # whoever gets a gradient may do with it what he likes
    np.testing.assert_array_equal(y, value)
    for once, twice in zip(copies, backward(seed, flags)):
        if once is not None:
            np.testing.assert_array_equal(once, twice, err_msg="a second backward says otherwise")


def test_no_gradient_is_made_that_nobody_wants(call):
    kernel, floats, others, options = call()
    args = [*floats, *others]
    y, backward = kernel.__wrapped__(*args, **options)
    g = np.ones_like(y)
    for i in range(len(floats)):
        found = backward(g, tuple(j == i for j in range(len(args))))
        assert [dx is not None for dx in found].count(True) == 1 and found[i] is not None


def test_backward_twice_with_retain_graph(call):
    kernel, floats, others, options = call()
    leaves = [Tensor(a, requires_grad=True) for a in floats]
    y = kernel(*leaves, *others, **options)
    g = np.random.default_rng(1).normal(size=y.shape)
    y.backward(g, retain_graph=True)
    once = [leaf.grad.copy() for leaf in leaves]
    y.backward(g)
    for leaf, first in zip(leaves, once):
        np.testing.assert_allclose(leaf.grad, 2 * first, rtol=1e-15)


def test_without_gradients_no_graph(call):
    kernel, floats, others, options = call()
    leaves = [Tensor(a, requires_grad=True) for a in floats]
    with no_grad():
        assert not kernel(*leaves, *others, **options).requires_grad


@pytest.mark.parametrize(
    "kernel, args",
    [
        (gelu, (np.ones((2, 3)), "tanh")),
        (softmax, (np.eye(3), 0)),
        (log_softmax, (np.eye(3), 0)),
        (linear_activation, (np.eye(3), np.eye(3), np.ones(3), "silu")),
        (layer_norm, (np.eye(3), np.ones(3), np.ones(3), 1e-3, 1)),
        (rms_norm, (np.eye(3), np.ones(3), 1e-3, 1)),
        (batch_norm, (np.eye(3), np.ones(3), np.ones(3), 1e-3)),
        (masked, (np.eye(3), np.eye(3) > 0, 2.0)),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_options_by_position_as_the_composed_form_takes_them(kernel, args):
    x = [Tensor(args[0], requires_grad=True) for _ in range(2)]
    fused, composed = kernel(x[0], *args[1:]), kernel.composed(x[1], *args[1:])
    np.testing.assert_allclose(fused.data, composed.data, rtol=1e-12)
    g = np.arange(fused.size).reshape(fused.shape)
    fused.backward(g)
    composed.backward(g)
    np.testing.assert_allclose(x[0].grad, x[1].grad, rtol=1e-12, atol=1e-12)


# Dtypes


def test_float32_stays_float32(call):
    kernel, floats, others, options = call(np.float32)
    leaves = [Tensor(a, requires_grad=True) for a in floats]
    y = kernel(*leaves, *others, **options)
    assert y.dtype == np.float32
    assert all(g.dtype == np.float32 for g in grad(y.sum(), leaves))


@pytest.mark.parametrize("kernel", [gelu, silu, softmax, log_softmax])
def test_a_float32_number_without_axes_stays_float32(kernel):
    x = Tensor(np.array(0.5, np.float32), requires_grad=True)
    y = kernel(x)
    assert y.dtype == np.float32 and y.shape == () and grad(y, [x])[0].dtype == np.float32


def test_a_masked_float32_number_stays_float32():
    x = Tensor(np.array(0.5, np.float32), requires_grad=True)
    y = masked(x, np.array(True), scale=2.0)
    assert y.dtype == np.float32 and y.item() == 1.0


@pytest.mark.parametrize("dtypes", [("f4", "f8"), ("f8", "f4"), ("i8", "f4"), ("u1", "f4")])
@pytest.mark.parametrize("kernel", [linear, linear_activation, layer_norm, batch_norm])
def test_mixed_dtypes_as_the_composed_form(kernel, dtypes):
    """Integer inputs never promote; of two floating arrays the wider decides."""
    x = np.array([[3, 1, 2], [0, 5, 4]]).astype(dtypes[0])
    parameters = [np.eye(3), np.ones(3)] if kernel in (linear, linear_activation) else [np.ones(3)]
    results = []
    for function in (kernel, kernel.composed):
        leaves = [Tensor(a.astype(dtypes[1]), requires_grad=True) for a in parameters]
        leaves += [Tensor(x, requires_grad=True)] if x.dtype.kind == "f" else []
        args = [leaves.pop() if x.dtype.kind == "f" else x, *leaves]
        y = function(*args)
        results.append((y.dtype, [g.dtype for g in grad(y.sum(), leaves)]))
    assert results[0] == results[1]


def test_a_wider_bias_alone_decides_too():
    x, weight = (Tensor(np.ones((2, 2), np.float32), requires_grad=True) for _ in range(2))
    bias = Tensor(np.full(2, 1 / 3), requires_grad=True)
    for kernel in (linear, linear_activation):
        assert kernel(x, weight, bias).dtype == kernel.composed(x, weight, bias).dtype
    for kernel in (layer_norm, batch_norm):
        assert kernel(x, None, bias).dtype == kernel.composed(x, None, bias).dtype
