"""Modules: networks as trees of parts that know their own parameters.

A module is a function with parameters. What is assigned to its attributes is found again by its
type: a `Parameter` is its own, a `Module` is a part of it, and names come from attributes
(`layers.0.weight`). All else follows from walking that tree: what to train, what to save, how to
print it. The names are PyTorch's, so weights pass either way.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, NamedTuple

import numpy as np

from utils import Tensor
from utils.graph import HookHandle
from utils.promotion import plain


class Parameter(Tensor):
    """A Tensor that a module owns and an optimiser changes; it requires gradients."""

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)
        if self.dtype.kind != "f":
            raise TypeError(f"a Parameter holds floats, not {self.dtype}: make them with .astype")

    def __repr__(self) -> str:
        return f"Parameter{super().__repr__()[len('Tensor'):]}"


class LoadedKeys(NamedTuple):
    """What `load_state_dict(strict=False)` did not find, and did not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class: assign parameters and parts to attributes, and define `forward`.

    Source: the interface is that of torch.nn.Module (Paszke et al., 2019, arXiv:1912.01703).
    """

    def __init__(self) -> None:
        self.training = True
        self._buffers: dict[str, bool] = {}  # the attribute's name, and whether it is saved
        self._hooks: dict[str, dict[object, Callable]] = {}

    def forward(self, *args: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self.hooked:
            return self._call_with_hooks(args, keywords)
        return self.forward(*args, **keywords)

    def __setattr__(self, name: str, value: Any) -> None:
        self._check_attribute(name, value)
        super().__setattr__(name, value)

    def _check_attribute(self, name: str, value: Any) -> None:
        """Refuse what would silently take a parameter or a part out of the tree."""
        if isinstance(value, (Module, Parameter)):
            if "_buffers" not in vars(self):
                raise AttributeError(
                    f"{type(self).__name__}.__init__ must call super().__init__() before it "
                    f"assigns {name}"
                )
            return
        if isinstance(value, list) and any(isinstance(x, (Module, Parameter)) for x in value):
            raise TypeError(
                f"{name}: a plain list hides its modules and parameters; use ModuleList or "
                "Sequential, or assign each to an attribute"
            )
        old = vars(self).get(name)
        if value is not None and isinstance(old, (Module, Parameter)):
            kind = "Parameter" if isinstance(old, Parameter) else "Module"
            raise TypeError(f"{name} is a {kind}: assign a {kind} or None, not {type(value)}")

    def register_buffer(self, name: str, array: np.ndarray, persistent: bool = True) -> None:
        """Make `self.name` an array that is saved with the parameters but not trained."""
        if not name.isidentifier() or (hasattr(self, name) and name not in self._buffers):
            raise ValueError(f"{name!r} cannot name a buffer of {type(self).__name__}")
        self._buffers[name] = persistent
        setattr(self, name, np.asarray(array))

    # The tree: each member once, parents before children, in the order of assignment.

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((name, x) for name, x in vars(self).items() if isinstance(x, Module))

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        return _once(self._walk(prefix))

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        return _once(self._members(prefix, Module._own_parameters))

    def parameters(self) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters())

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
        return _once(self._members(prefix, Module._own_buffers))

    def buffers(self) -> Iterator[np.ndarray]:
        return (buffer for _, buffer in self.named_buffers())

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(_joined(prefix, name))

    def _members(self, prefix: str, own: Callable) -> Iterator[tuple[str, Any]]:
        for path, module in self._walk(prefix):
            for name, value in own(module):
                yield _joined(path, name), value

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, x) for name, x in vars(self).items() if isinstance(x, Parameter))

    def _own_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        return ((name, getattr(self, name)) for name in self._buffers)

    def _saved(self) -> Iterator[tuple[str, Any]]:
        yield from self._own_parameters()
        yield from ((name, getattr(self, name)) for name, kept in self._buffers.items() if kept)

    # Saving and loading.

    def state_dict(self) -> dict[str, np.ndarray]:
        """Every parameter and buffer by name: the arrays themselves, not copies."""
        return {name: plain(value) for name, value in self._members("", Module._saved)}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadedKeys:
        """Copy arrays into the parameters and buffers of the same names: all of them or none.

        Raises ValueError that lists what is missing or unexpected (if `strict`) and what has
        another shape; dtypes follow the module's.
        """
        own = self.state_dict()
        given = {name: np.asarray(value) for name, value in state.items()}
        missing = [name for name in own if name not in given]
        unexpected = [name for name in given if name not in own]
        shared = {name: value for name, value in given.items() if name in own}
        wrong = [
            f"{name} has shape {value.shape} where {own[name].shape} is needed"
            for name, value in shared.items()
            if value.shape != own[name].shape
        ]
        problems = [f"wrong shape: {', '.join(wrong)}"] if wrong else []
        if strict and missing:
            problems.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected: {', '.join(unexpected)}")
        other = [
            f"{name} ({value.dtype}, not {own[name].dtype})"
            for name, value in shared.items()
            if not np.can_cast(value.dtype, own[name].dtype, "same_kind")
        ]
        if other:
            problems.append(f"of another kind: {', '.join(other)}")
        if problems:
            raise ValueError(f"load_state_dict into {type(self).__name__}: {'; '.join(problems)}")
        for name, value in shared.items():
            own[name][...] = value
        return LoadedKeys(missing, unexpected)

    # Modes.

    def train(self, mode: bool = True) -> Module:
        """Set training mode here and in all parts: dropout drops, statistics are of the batch."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """The opposite of `train`: the network as it is used."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or thaw all parameters."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        for p in self.parameters():
            p.grad = None

    def astype(self, dtype: Any) -> Module:
        """Turn all parameters and floating buffers into this floating dtype, in place."""
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"parameters are floats, not {np.dtype(dtype)}")
        for module in self.modules():
            for _, p in module._own_parameters():
                trained, p.requires_grad = p.requires_grad, False
                p.data = p.data.astype(dtype, copy=False)
                p.requires_grad = trained
            for name, buffer in module._own_buffers():
                if buffer.dtype.kind == "f":
                    setattr(module, name, buffer.astype(dtype, copy=False))
        return self

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call `function` on every part, then on the module itself."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # Hooks; each returns a handle that removes it.

    @property
    def hooked(self) -> bool:
        """Whether a hook looks in when the module is called."""
        return any(self._hooks.values())

    def register_forward_pre_hook(self, hook: Callable) -> HookHandle:
        """Call `hook(module, args)` before `forward`; a result that is not None replaces `args`."""
        return HookHandle(self._hooks.setdefault("before", {}), hook)

    def register_forward_hook(self, hook: Callable) -> HookHandle:
        """Call `hook(module, args, output)` after; a result that is not None replaces `output`."""
        return HookHandle(self._hooks.setdefault("after", {}), hook)

    def register_full_backward_pre_hook(self, hook: Callable) -> HookHandle:
        """Call `hook(module, (g,))` when the gradient g of the output is complete."""
        return HookHandle(self._hooks.setdefault("backward", {}), hook)

    def _call_with_hooks(self, args: tuple, keywords: dict[str, Any]) -> Any:
        for hook in tuple(self._hooks.get("before", {}).values()):
            replaced = hook(self, args)
            if replaced is not None:
                args = replaced if isinstance(replaced, tuple) else (replaced,)
        output = self.forward(*args, **keywords)
        for hook in tuple(self._hooks.get("after", {}).values()):
            replaced = hook(self, args, output)
            output = output if replaced is None else replaced
        if isinstance(output, Tensor) and output.requires_grad:
            for hook in tuple(self._hooks.get("backward", {}).values()):
                output.register_hook(lambda g, hook=hook: hook(self, (g,)))
        return output

    # Printing.

    def extra_repr(self) -> str:
        """What stands between the brackets, before the parts."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.named_children()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = "\n".join([extra, *lines] if extra else lines).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _once(members: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The members, each under the first of its names: shared ones have several."""
    seen = set()
    for name, member in members:
        if id(member) not in seen:
            seen.add(id(member))
            yield name, member
