"""The graph behind reverse-mode differentiation, and the one pass that walks it.

An array's history is a graph of nodes. A node knows the operation that made the array, the nodes
of the operation's arguments (its parents) and what the rules of the derivative named, and nothing
else: no arrays that no rule needs, and no link to the consumers, so that unused parts vanish by
themselves. The backward pass visits every node after all of its consumers, so that its gradient is
complete, and asks it once for the gradients of its parents.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator

import numpy as np

from utils.primitives import astype, total

# Turns a saved array and the node that made it into what rules work on. None leaves arrays as
# they are (fast); with create_graph it makes Tensors of them, and the same rules build a graph.
Lift = Callable[[np.ndarray, "Node | None"], Any]
Hook = Callable[[np.ndarray], None]


class HookHandle:
    """A hook that can be taken away: `handle.remove()`, `handle()`, or at the end of a `with`."""

    __slots__ = ("hooks", "key")

    def __init__(self, hooks: dict[object, Callable], hook: Callable) -> None:
        self.hooks, self.key = hooks, object()  # not itself as the key: that would be a cycle
        hooks[self.key] = hook

    def remove(self) -> None:
        self.hooks.pop(self.key, None)

    __call__ = remove

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


class Node:
    """One operation's result in the graph; its `operation` is None once the graph is freed."""

    __slots__ = ("operation", "parents", "saved", "keywords", "shape", "dtype", "hooks")

    def __init__(self, operation, parents, saved, keywords, shape, dtype):
        self.operation = operation
        self.parents = parents
        self.saved = saved
        self.keywords = keywords
        self.shape = shape
        self.dtype = dtype
        self.hooks = None

    def gradients(self, g: Any, wanted: set[Node], lift: Lift | None) -> list[tuple[Node, Any]]:
        """The gradients of those parents that are wanted, given `g`, the gradient of this node."""
        return self.operation.gradients(self, g, wanted, lift)

    def free(self) -> None:
        self.operation, self.parents, self.saved, self.keywords = None, (), None, None
        self.hooks = None

    def add_hook(self, hook: Hook) -> HookHandle:
        if self.hooks is None:
            self.hooks = {}
        return HookHandle(self.hooks, hook)

    def call_hooks(self, gradient: np.ndarray) -> None:
        for hook in tuple((self.hooks or {}).values()):
            hook(gradient)


class Leaf(Node):
    """A node without parents: it is where gradients end, and it keeps them in `grad`."""

    __slots__ = ("grad",)

    def __init__(self, shape, dtype):
        super().__init__("leaf", (), None, None, shape, dtype)
        self.grad = None

    def accumulate(self, gradient: np.ndarray, private: bool) -> None:
        if self.grad is not None:
            np.add(self.grad, gradient, out=self.grad)
        else:
            self.grad = gradient if private else np.array(gradient, order="C")

    def gradients(self, g: Any, wanted: set[Node], lift: Lift | None) -> list[tuple[Node, Any]]:
        return []

    def free(self) -> None:
        """A leaf outlives every graph it is part of."""


def consumers_first(roots: Iterable[Node]) -> list[Node]:
    """Every node that the roots depend on, each after all of its consumers; linear in time.

    A leaf comes right after its last consumer, so that its gradient is complete, and its hooks are
    called, as early as possible.
    """
    consumers = dict.fromkeys(roots, 0)
    found = list(consumers)
    for node in found:  # which grows meanwhile
        if node.operation is None:
            raise RuntimeError(
                "backward through a graph that an earlier backward has freed: pass "
                "retain_graph=True to the earlier one, or compute the outputs again"
            )
        for parent in node.parents:
            if parent is None:
                continue
            if parent in consumers:
                consumers[parent] += 1
            else:
                consumers[parent] = 1
                found.append(parent)
    order: list[Node] = []
    ready = [node for node, count in consumers.items() if count == 0]
    while ready:
        node = ready.pop()
        order.append(node)
        deeper, shallow = [], []
        for parent in node.parents:
            if parent is None:
                continue
            consumers[parent] -= 1
            if consumers[parent]:
                continue
            if not parent.parents:
                order.append(parent)
                continue
            for grandparent in parent.parents:
                if grandparent is not None and grandparent.parents:
                    deeper.append(parent)
                    break
            else:
                shallow.append(parent)
        ready += deeper + shallow  # what is one step from its leaves comes first
    return order


def leading_to(targets: set[Node], order: list[Node]) -> set[Node]:
    """The nodes of `order` through which the targets are reached, and the targets themselves."""
    wanted: set[Node] = set()
    for node in reversed(order):
        if node in targets or any(parent in wanted for parent in node.parents):
            wanted.add(node)
    return wanted


def propagate(
    pending: dict[Node, Any],
    targets: set[Node] | None,
    lift: Lift | None,
    retain_graph: bool,
) -> Iterator[tuple[Node, Any, bool]]:
    """Send the gradients in `pending` down the graph; yield every node as its gradient is complete.

    Yields (node, gradient, private); a private gradient is an array that nobody else holds.
    With `targets`, branches that lead to none of them are skipped.
    """
    order = consumers_first(pending)
    wanted = set(order) if targets is None else leading_to(targets, order)
    private: set[Node] = set()
    for node in order:
        if node not in pending:
            continue
        g = pending.pop(node)
        yield node, g, node in private
        if not node.parents:
            continue
        for parent, gradient in node.gradients(g, wanted, lift):
            if gradient.shape != parent.shape or gradient.dtype is not parent.dtype:
                gradient = fit(gradient, parent)
            if parent not in pending:
                pending[parent] = gradient
                if lift is None and _is_new(gradient, g):
                    private.add(parent)
            elif parent in private:
                np.add(pending[parent], gradient, out=pending[parent])
            else:
                pending[parent] = pending[parent] + gradient
                if lift is None and type(pending[parent]) is np.ndarray:
                    private.add(parent)
        if not retain_graph:
            node.free()


def _is_new(gradient: Any, g: Any) -> bool:
    """Whether a rule made this array, or the one that it shows, rather than passing on `g`'s."""
    if gradient is g or type(gradient) is not np.ndarray:
        return False
    base = gradient.base
    if base is None:
        return True
    return gradient.flags.writeable and base is not g and base is not getattr(g, "base", None)


def fit(gradient: Any, node: Node) -> Any:
    """Undo broadcasting and promotion: the gradient in the shape and dtype of the node's array."""
    shape = node.shape
    if gradient.shape != shape:
        extra = gradient.ndim - len(shape)
        stretched = (i + extra for i, size in enumerate(shape) if size == 1)
        axes = (*range(extra), *(i for i in stretched if gradient.shape[i] != 1))
        gradient = np.reshape(total(gradient, axis=axes, keepdims=True), shape)
    if gradient.dtype != node.dtype:
        gradient = astype(gradient, dtype=node.dtype)
    return gradient
