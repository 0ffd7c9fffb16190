"""What the tests of all kernels share: calls by shape, layouts, and the kernel beside its form."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, NamedTuple

import numpy as np

from utils import Tensor, check_gradients, grad


def kernels_of(package) -> dict[str, Any]:
    """Every public function in a package's modules that names its composed form."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        found.update(vars(importlib.import_module(module.name)))
    functions = {k: f for k, f in found.items() if callable(f) and not isinstance(f, type)}
    own = {k: f for k, f in functions.items() if f.__module__.startswith(package.__name__)}
    return {k: f for k, f in own.items() if hasattr(f, "composed") and k[0] != "_"}


class Case(NamedTuple):
    """A call: each argument a shape to be filled with random numbers, or an array as it is."""

    name: str
    args: tuple
    options: dict

    def __str__(self) -> str:
        args = [f"{a.dtype}{a.shape}" if isinstance(a, np.ndarray) else str(a) for a in self.args]
        return f"{self.name}({', '.join([*args, *(f'{k}={v}' for k, v in self.options.items())])})"

    def arrays(self, dtype=np.float64) -> list:
        rng = np.random.default_rng(0)
        return [rng.normal(size=a).astype(dtype) if type(a) is tuple else a for a in self.args]


def case(name: str, *args, **options) -> Case:
    return Case(name, args, options)


def whole(shape, below):
    return np.random.default_rng(1).integers(below, size=shape)


def kept(*shape):
    return np.random.default_rng(2).random(shape) < 0.7


LAYOUTS = {
    "transposed": lambda a: a.T.copy().T,
    "sliced": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "backwards": lambda a: a[::-1].copy()[::-1] if a.ndim else a,
    "read-only and broadcast": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim else a,
}


def agree(kernel, args, g=None, wanted=None, **options) -> None:
    """Kernel and composed form: the same value, and the same gradient by each wanted Tensor."""
    fused, composed = kernel(*args, **options), kernel.composed(*args, **options)
    assert fused.shape == composed.shape and fused.dtype == composed.dtype, (
        f"the kernel gives {fused.dtype}{fused.shape}, the composed form "
        f"{composed.dtype}{composed.shape}"
    )
    np.testing.assert_allclose(fused.data, composed.data, 1e-12, 1e-12, err_msg="the value")
    leaves = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
    leaves = leaves if wanted is None else wanted
    g = np.random.default_rng(3).normal(size=fused.shape) if g is None else g
    for i, (a, b) in enumerate(zip(grad(fused, leaves, g), grad(composed, leaves, g))):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a.data, b.data, 1e-12, 1e-12, err_msg=f"gradient {i}")


def tensors(arrays) -> list:
    """Tensors with gradients of the floats, all else as it is."""
    floats = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in arrays]
    return [Tensor(a, requires_grad=True) if f else a for a, f in zip(arrays, floats)]


def agree_in_layout(kernel, case: Case, layout: str) -> None:
    arrays = [a if a is None else LAYOUTS[layout](a) for a in case.arrays()]
    g = LAYOUTS[layout](np.random.default_rng(4).normal(size=kernel(*arrays, **case.options).shape))
    agree(kernel, tensors(arrays), g, **case.options)


def agree_when_some_are_wanted(kernel, case: Case) -> None:
    arrays = case.arrays()
    for i, leaf in enumerate(tensors(arrays)):
        if isinstance(leaf, Tensor):
            mixed = [*arrays[:i], leaf, *arrays[i + 1 :]]
            agree(kernel, mixed, **case.options)
            others = tensors(arrays)
            others[i] = leaf
            agree(kernel, others, wanted=[leaf], **case.options)


def agree_twice_derived(kernel, case: Case) -> None:
    """Second derivatives by central differences."""
    arrays = case.arrays()
    places = [i for i, a in enumerate(arrays) if a is not None and a.dtype.kind == "f"]

    def function(*floats):
        args = list(arrays)
        for i, x in zip(places, floats):
            args[i] = x
        return kernel(*args, **case.options)

    check_gradients(function, [arrays[i] for i in places], order=2, tolerance=1e-6)
