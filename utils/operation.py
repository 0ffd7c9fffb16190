"""A differentiable function: NumPy's function and, from the table, the rules of its derivative."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Collection, Sequence

import numpy as np

from utils.derivatives import derivatives
from utils.graph import Lift, Node

LETTERS = "abc"
# Arguments of NumPy's functions that Tensors do not support, and what says nothing beside None.
UNSUPPORTED = {
    "out": (),
    "where": (True,),
    "dtype": (),
    "casting": ("same_kind",),
    "order": ("C", "K"),
    "subok": (True, False),
    "initial": (),
    "mode": ("raise",),
    "copy": (True, False),
    "upper": (False,),
}


def supported(function: str, keywords: dict[str, Any], accepted: Collection[str] = ()) -> dict:
    """The keywords without those that are unsupported; TypeError if one of these says something."""
    kept = {}
    for name, value in keywords.items():
        if name not in UNSUPPORTED or name in accepted:
            kept[name] = value
        elif value is not None and not _among(value, UNSUPPORTED[name]):
            raise TypeError(f"{function}: {name}= is not supported on Tensors")
    return kept


def _among(value: Any, defaults: tuple) -> bool:
    """`value in defaults`, where 0 is not False and an array is compared with nothing."""
    return any(type(value) is type(default) and value == default for default in defaults)


class Operation:
    """What the graph knows of one function; `arity` is the number of its rules, None for any."""

    def __init__(self, function: Callable, rules: Sequence) -> None:
        self.function = getattr(function, "of_arrays", function)
        self.name = function.__name__
        self._documented = function
        self.rules = [rule for rule in rules if rule is not Ellipsis]
        self.arity = None if Ellipsis in rules else len(rules)
        named = [_names(rule) for rule in self.rules]
        self._readers = [
            [_reader(name, rule) for name in names] for rule, names in zip(rules, named)
        ]
        self._keeps_args = any("args" in names for names in named)
        self._users = [
            [i for i, names in enumerate(named) if name in names]
            for name in (*LETTERS[: len(rules)], "y")
        ]
        self._has_rule = [rule is not None for rule in self.rules]
        self._plans: dict[tuple, tuple[bool, ...]] = {}
        self._parameters: list[str] | None = None
        self.keeps = self.plan((self,) * len(rules))

    def bind(self, args: tuple, keywords: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Sort a call into the arguments that have rules and keywords; reject what has no rule."""
        if self.arity in (None, len(args)) and UNSUPPORTED.keys().isdisjoint(keywords):
            return args, keywords
        if self._parameters is None:
            self._parameters = list(inspect.signature(self._documented).parameters)
        own = self._parameters if hasattr(self._documented, "of_arrays") else ()
        named = supported(self.name, {**dict(zip(self._parameters, args)), **keywords}, own)
        ruled = [name for name in self._parameters[: self.arity] if name in named]
        return tuple(named.pop(name) for name in ruled), named

    def has_rule(self, args: Sequence) -> Sequence[bool]:
        return [True] * len(args) if self.arity is None else self._has_rule

    def plan(self, parents: tuple) -> tuple[bool, ...]:
        """Which arguments, and last whether the output, the rules for these parents name."""
        if self.arity is None:
            return (self._keeps_args,) * len(parents) + (False,)
        pattern = tuple([parent is not None for parent in parents])
        plan = self._plans.get(pattern)
        if plan is None:
            plan = tuple(any(pattern[i] for i in users) for users in self._users)
            self._plans[pattern] = plan
        return plan

    def record(self, node_class, arrays, parents, y, keywords) -> Node | None:
        """The node of a call, with what its rules name; None where no argument has a node."""
        if not any(parent is not None for parent in parents):
            return None
        values = (*arrays, y)
        saved = tuple([v if keep else None for v, keep in zip(values, self.plan(parents))])
        return node_class(self, parents, saved, keywords, y.shape, y.dtype)

    def gradients(self, node: Node, g: Any, wanted: set, lift: Lift | None) -> list:
        """Apply the rule of every wanted parent to `g`."""
        found = []
        for i, parent in enumerate(node.parents):
            if parent in wanted:
                rule = i if self.arity is not None else 0
                values = [read(node, i, lift) for read in self._readers[rule]]
                found.append((parent, self.rules[rule](g, *values)))
        return found


def _names(rule: Callable | None) -> list[str]:
    """What a rule names beside `g`."""
    return [] if rule is None else list(inspect.signature(rule).parameters)[1:]


def _reader(name: str, rule: Callable) -> Callable[[Node, int, Lift | None], Any]:
    """How to find what a rule calls `name`, given the node, the argument's number and lift."""
    if name in LETTERS:
        return _saved(LETTERS.index(name))
    if name == "y":
        return lambda node, i, lift: node.saved[-1] if lift is None else lift(node.saved[-1], node)
    if name == "args":
        return lambda node, i, lift: [_saved(k)(node, i, lift) for k in range(len(node.parents))]
    if name == "shape":
        return lambda node, i, lift: node.parents[i].shape
    if name == "i":
        return lambda node, i, lift: i
    default = inspect.signature(rule).parameters[name].default
    return lambda node, i, lift: node.keywords.get(name, default)


def _saved(k: int) -> Callable[[Node, int, Lift | None], Any]:
    def read(node, i, lift):
        value = node.saved[k]
        return (
            value if lift is None or type(value) is not np.ndarray else lift(value, node.parents[k])
        )

    return read


operations = {function: Operation(function, rules) for function, rules in derivatives.items()}
