"""An array that remembers how it was made, so that anything computed from it can be differentiated.

NumPy is the language: `Tensor` takes part in NumPy's two protocols, so `np.exp(-x**2).sum()` is
differentiable as it stands. An operation runs NumPy's own function on the arrays and records a node
(`utils.graph`) that holds what the rules of the derivative (`utils.derivatives`) name.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from utils.array_methods import ArrayMethods
from utils.compositions import compositions
from utils.constants import constants
from utils.exits import Exits
from utils.graph import Hook, HookHandle, Leaf, Node, propagate
from utils.modes import mode, recording
from utils.operation import Operation, operations, supported
from utils.primitives import getitem, matrix_product
from utils.promotion import common_dtype, follow

_new = object.__new__


def wrap(array: np.ndarray, node: Node | None = None) -> Tensor:
    """A Tensor of this very array, made by this node."""
    tensor = _new(Tensor)
    tensor.array, tensor.node = array, node
    return tensor


def unwrap(x: Any) -> Any:
    """Arrays in place of Tensors, also inside lists, tuples and dictionaries."""
    if isinstance(x, Tensor):
        return x.array
    if isinstance(x, (list, tuple)):
        items = map(unwrap, x)
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    if isinstance(x, dict):
        return {key: unwrap(value) for key, value in x.items()}
    return x


def apply(operation: Operation, args: Sequence, keywords: dict[str, Any] | None = None) -> Tensor:
    """Run an operation on arrays, and record it where a gradient may be wanted."""
    if operation.arity == 1 and isinstance(args[0], Tensor):
        return args[0].call(operation, **(keywords or {}))
    keywords = keywords or {}
    node_class = mode.node_class
    has_rule = operation.has_rule(args)
    dtype = common_dtype([x for x, rule in zip(args, has_rule) if rule])
    # Not unwrap: a list of Tensors must raise, as its gradients would be lost.
    arrays = [x.array if isinstance(x, Tensor) else x for x in args]
    arrays = [follow(a, dtype) if rule else a for a, rule in zip(arrays, has_rule)]
    try:
        y = np.asarray(operation.function(*arrays, **keywords))
    except ValueError as error:
        shapes = " and ".join(str(np.shape(a)) for a in arrays if a is not None)
        raise ValueError(f"{operation.name} of {shapes}: {error}") from None
    if node_class is None:
        return wrap(y)
    if node_class is not Node:
        node_class.inspect(operation.name, arrays, y)
    parents = [
        x.node if rule and isinstance(x, Tensor) else None for x, rule in zip(args, has_rule)
    ]
    return wrap(y, operation.record(node_class, arrays, tuple(parents), y, keywords))


def _operator(function: Callable, operation: Operation, general: Callable) -> Callable:
    """A binary operator's method: `general`, written out for operands that need no cast."""
    plans = {
        (has_a, has_b): operation.plan((has_a or None, has_b or None))
        for has_a in (False, True)
        for has_b in (False, True)
    }

    def method(self, other):
        a, node_a = self.array, self.node
        if isinstance(other, Tensor):
            b, node_b = other.array, other.node
            alike = b.dtype is a.dtype
        else:
            b, node_b = other, None
            alike = type(other) is float or type(other) is int
            if not alike and not isinstance(other, OPERANDS):
                return NotImplemented
        node_class = mode.node_class
        if not alike or (node_class is not Node and node_class is not None):
            return general(self, other)
        try:
            y = function(a, b)
        except ValueError:
            return general(self, other)  # raises, and says what the shapes were
        if type(y) is not np.ndarray:
            y = np.asarray(y)
        if y.dtype is not a.dtype:
            return general(self, other)
        tensor = _new(Tensor)
        tensor.array = y
        if node_class is None or (node_a is None and node_b is None):
            tensor.node = None
            return tensor
        keep_a, keep_b, keep_y = plans[node_a is not None, node_b is not None]
        saved = (a if keep_a else None, b if keep_b else None, y if keep_y else None)
        tensor.node = Node(operation, (node_a, node_b), saved, None, y.shape, y.dtype)
        return tensor

    return method


def _elementwise(ufunc: np.ufunc) -> tuple[Callable, Callable]:
    """The methods for `a + b` and for `b + a`."""
    operation = operations[ufunc]

    def reflected(self, other):
        return apply(operation, (other, self)) if isinstance(other, OPERANDS) else NotImplemented

    return _operator(ufunc, operation, lambda a, b: apply(operation, (a, b))), reflected


def _unary(ufunc: np.ufunc) -> Callable[[Tensor], Tensor]:
    operation = operations[ufunc]
    return lambda self: self.call(operation)


def _comparison(ufunc: np.ufunc) -> Callable:
    def method(self, other):
        return ufunc(self.array, unwrap(other))

    return method


class Tensor(ArrayMethods, Exits):
    """An array of floats (or integers) with a history.

    Python numbers and lists become float32; arrays keep their dtype and are not copied. Integer
    arrays cannot require gradients. `array` is the array itself and `node` its place in the graph:
    None without gradients, a `Leaf` for what they are asked for, a `Node` for what was computed.
    """

    __slots__ = ("array", "node", "frozen", "__weakref__")

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        if isinstance(data, Tensor):
            data = np.asarray(data)
        elif data is None or isinstance(data, (str, bytes)):
            raise TypeError(f"a Tensor holds real numbers, not {data!r}")
        elif dtype is None and not isinstance(data, (np.ndarray, np.generic)):
            dtype = np.float32
        self.array = np.asarray(data, dtype)
        if self.array.dtype.kind not in "fiub":
            raise TypeError(f"a Tensor holds real numbers, not {self.array.dtype}")
        self.node = None
        if requires_grad:
            self.requires_grad = True

    @property
    def data(self) -> np.ndarray:
        """The array, outside the graph: what is done with it is not differentiated."""
        return self.array

    @data.setter
    def data(self, value: Any) -> None:
        value = np.asarray(value)
        if self.node is not None and (value.shape, value.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"data of shape {value.shape} and dtype {value.dtype} for a tensor of shape "
                f"{self.shape} and dtype {self.dtype}: its gradient would not fit"
            )
        self.array = value

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value == self.requires_grad:
            return
        if not value:
            if not isinstance(self.node, Leaf):
                raise RuntimeError("only a leaf can stop requiring gradients; use detach()")
            self.frozen, self.node = self.node, None
            return
        if self.array.dtype.kind != "f":
            raise TypeError(f"only floating tensors have gradients, not {self.array.dtype}")
        # A leaf that was frozen keeps its grad buffer and its hooks, as long as they fit.
        frozen, self.frozen = getattr(self, "frozen", None), None
        fits = frozen is not None and (frozen.shape, frozen.dtype) == (self.shape, self.dtype)
        self.node = frozen if fits else Leaf(self.array.shape, self.array.dtype)

    @property
    def grad(self) -> np.ndarray | None:
        """A leaf's gradient, summed over backward passes; set it to None or to a buffer to fill."""
        return self.node.grad if isinstance(self.node, Leaf) else None

    @grad.setter
    def grad(self, value: np.ndarray | None) -> None:
        leaf = self.node if self.node is not None else getattr(self, "frozen", None)
        if value is not None:
            if not isinstance(leaf, Leaf):
                raise RuntimeError("only a leaf that requires gradients has a grad")
            fits = isinstance(value, np.ndarray) and value.flags.writeable
            if not fits or (value.shape, value.dtype) != (self.shape, self.dtype):
                given = f"{type(value).__name__} of {np.shape(value)}"
                raise ValueError(
                    f"grad must be a writable {self.dtype} array of {self.shape}, not {given}"
                )
        if isinstance(leaf, Leaf):
            leaf.grad = value

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `grad` of every leaf it was computed from.

        `gradient` (this tensor's shape) weighs its elements; a single number needs none. The graph
        is freed on the way unless `retain_graph`.
        """
        if self.node is None:
            raise RuntimeError("backward: no tensor that this was computed from requires gradients")
        pending = {self.node: seed(self, gradient)}
        with recording(), np.errstate(all="ignore"):
            for node, g, private in propagate(pending, None, None, retain_graph):
                if isinstance(node, Leaf):
                    node.accumulate(g, private)
                    g = node.grad
                if node.hooks:
                    node.call_hooks(g)

    def register_hook(self, hook: Hook) -> HookHandle:
        """Call `hook(gradient)` in every `backward`, as soon as this tensor's gradient is complete.

        A leaf's hook is given its `grad` and may change it in place. Returns a handle that removes
        the hook.
        """
        if self.node is None:
            raise RuntimeError("register_hook: this tensor does not require gradients")
        return self.node.add_hook(hook)

    def detach(self) -> Tensor:
        """The same array without a history."""
        return wrap(self.array)

    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    dtype = property(lambda self: self.array.dtype)
    T = property(lambda self: self.transpose())

    __add__, __radd__ = _elementwise(np.add)
    __sub__, __rsub__ = _elementwise(np.subtract)
    __mul__, __rmul__ = _elementwise(np.multiply)
    __truediv__, __rtruediv__ = _elementwise(np.divide)
    __floordiv__, __rfloordiv__ = _elementwise(np.floor_divide)
    __mod__, __rmod__ = _elementwise(np.remainder)
    _power, __rpow__ = _elementwise(np.power)
    _product = _operator(np.matmul, operations[matrix_product], np.matmul)

    def __pow__(self, other):
        # Products are ten times faster than a power.
        exact = type(other) is int or (type(other) is float and self.array.dtype.kind == "f")
        if exact and other in (2, 3):
            return self.call(operations[np.square]) if other == 2 else self * self * self
        return self._power(other)

    def __matmul__(self, other):
        if isinstance(other, Tensor) and self.array.ndim == 2 == other.array.ndim:
            return self._product(other)
        return np.matmul(self, other) if isinstance(other, OPERANDS) else NotImplemented

    def __rmatmul__(self, other):
        return np.matmul(other, self) if isinstance(other, OPERANDS) else NotImplemented

    __neg__ = _unary(np.negative)
    __abs__ = _unary(np.absolute)

    def __pos__(self):
        return self

    __eq__ = _comparison(np.equal)
    __ne__ = _comparison(np.not_equal)
    __lt__ = _comparison(np.less)
    __le__ = _comparison(np.less_equal)
    __gt__ = _comparison(np.greater)
    __ge__ = _comparison(np.greater_equal)
    __hash__ = object.__hash__

    def call(self, operation: Operation, *extra: Any, **keywords: Any) -> Tensor:
        """`apply` for a function of one array; no rule names what is in `extra`."""
        a, node, node_class = self.array, self.node, mode.node_class
        y = operation.function(a, *extra, **keywords)
        if type(y) is not np.ndarray:
            y = np.asarray(y)
        tensor = _new(Tensor)
        tensor.array, tensor.node = y, None
        if node_class is not Node and node_class is not None:
            node_class.inspect(operation.name, (a,), y)
        if node is not None and node_class is not None:
            keep_a, keep_y = operation.keeps
            saved = (a if keep_a else None, y if keep_y else None)
            tensor.node = node_class(operation, (node,), saved, keywords, y.shape, y.dtype)
        return tensor

    def __getitem__(self, key):
        return self.call(operations[getitem], key=key if type(key) is int else unwrap(key))

    def __setitem__(self, key, value):
        raise TypeError(
            "a Tensor cannot be assigned to, as the graph may need what it held: choose with "
            "np.where, join with np.concatenate, or change .data outside the graph"
        )

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __copy__(self) -> Tensor:
        """A leaf's copy is a leaf of its own; of another tensor, the same place in the graph."""
        return wrap(self.array, self.node) if type(self.node) is Node else deepcopy(self)

    def __deepcopy__(self, memo) -> Tensor:
        if self.requires_grad and not isinstance(self.node, Leaf):
            raise RuntimeError("only a leaf can be copied; use detach()")
        copy = _new(type(self))
        copy.array, copy.node = self.array.copy(), None
        copy.requires_grad = self.requires_grad
        memo[id(self)] = copy
        if hasattr(self, "__dict__"):  # of a subclass
            copy.__dict__.update(deepcopy(self.__dict__, memo))
        return copy

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        if method != "__call__":
            name = f"np.{ufunc.__name__}.{method}"
            raise TypeError(f"{name} has no derivative here; try np.sum, np.prod, np.cumsum")
        if keywords:
            names = ", ".join(keywords)
            raise TypeError(f"np.{ufunc.__name__}: {names}= is not supported on Tensors")
        if ufunc not in operations:
            return self.__array_function__(ufunc, (), inputs, keywords)
        if len(inputs) == 1:
            return self.call(operations[ufunc])
        return apply(operations[ufunc], inputs)

    def __array_function__(self, function, types, args, keywords):
        if function in operations:
            operation = operations[function]
            return apply(operation, *operation.bind(args, keywords))
        if function in compositions:
            keywords = supported(function.__name__, keywords, {"mode", "order"})
            result = compositions[function](*args, **keywords)
            return wrap(result) if isinstance(result, np.ndarray) else result
        if function in constants:
            return function(*unwrap(args), **unwrap(keywords))
        raise TypeError(
            f"{getattr(function, '__module__', None) or 'numpy'}.{function.__name__} has no "
            "derivative here: use .data to call it outside the graph"
        )


OPERANDS = (Tensor, np.ndarray, np.generic, int, float, list, tuple)


def seed(output: Tensor, gradient: Any) -> np.ndarray:
    """The gradient that a backward pass begins with."""
    if gradient is None:
        if output.size != 1:
            raise ValueError(
                f"the gradient of an output of shape {output.shape} is not one number: sum the "
                "output, or give the gradient that arrives at it"
            )
        return np.ones(output.shape, output.dtype)
    if np.shape(gradient) != output.shape:
        raise ValueError(
            f"a gradient of shape {np.shape(gradient)} for an output of shape {output.shape}"
        )
    return np.asarray(unwrap(gradient), output.dtype)
