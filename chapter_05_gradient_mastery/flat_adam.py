"""Adam over one flat buffer: all parameters are views of one long array, updated in one sweep.

A model has dozens of parameters, and each costs Adam a dozen NumPy calls; in one buffer the calls
are a dozen in all. The sweep goes block by block, so that what one call leaves in the processor's
cache is still there for the next.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

import chapter_03_neural_nets as chapter_03
from chapter_03_neural_nets.optimizers import adam_step
from utils import Tensor

BLOCK = 1 << 16  # numbers: the five arrays of a block are about a megabyte

States = Mapping[Tensor, dict]


class FlatBuffer:
    """Some parameters with their gradients and moments, side by side in one array of each kind.

    The parameters' `data` and their state's `exp_avg` and `exp_avg_sq` become views of it.
    """

    def __init__(self, params: Sequence[Tensor], states: States) -> None:
        self.params, self.parts = list(params), []
        size, dtype = sum(p.size for p in params), params[0].dtype
        self.data, self.g, self.m, self.v = (np.zeros(size, dtype) for _ in range(4))
        start = 0
        for p in params:
            part = slice(start, start + p.size)
            start += p.size
            views = [a[part].reshape(p.shape) for a in (self.data, self.m, self.v)]
            state = states[p]
            for view, old in zip(views, (p.data, state.get("exp_avg"), state.get("exp_avg_sq"))):
                view[...] = 0 if old is None else old
            p.data = views[0]
            state.update(step=state.get("step", 0), exp_avg=views[1], exp_avg_sq=views[2])
            self.parts.append((self.g[part].reshape(p.shape), *views))

    def holds(self, states: States) -> bool:
        """Whether the views are still in use: loading or casting puts other arrays in place."""
        return all(
            p.data is data and states[p].get("exp_avg") is m and states[p].get("exp_avg_sq") is v
            for p, (_, data, m, v) in zip(self.params, self.parts)
        )

    def gather(self) -> None:
        """Copy the parameters' gradients side by side."""
        for p, (g, *_) in zip(self.params, self.parts):
            g[...] = p.grad


class _Flat:
    """The sweep, for Adam and its descendants; where a parameter got no gradient, one by one."""

    def update_group(self, group: Mapping[str, Any], lr: float) -> None:
        if not _alike(group["params"], self.state):
            super().update_group(group, lr)
            return
        buffers = vars(self).setdefault("buffers", {})
        buffer = buffers.get(id(group))
        if buffer is None or not buffer.holds(self.state):
            buffer = buffers[id(group)] = FlatBuffer(group["params"], self.state)
        buffer.gather()
        t = self.state[buffer.params[0]]["step"] + 1
        for start in range(0, len(buffer.data), BLOCK):
            block = slice(start, start + BLOCK)
            data, g = buffer.data[block], buffer.g[block]
            if group["weight_decay"]:
                g = self.decayed(data, g, lr, group["weight_decay"])
            adam_step(data, g, buffer.m[block], buffer.v[block], t, lr, group)
        for p in buffer.params:
            self.state[p]["step"] = t


def _alike(params: Sequence[Tensor], states: States) -> bool:
    """Whether all have a gradient, one dtype, and as many steps behind them."""
    kinds = {(p.grad is None, p.dtype, states[p].get("step", 0)) for p in params}
    return len(kinds) == 1 and not next(iter(kinds))[0]


class Adam(_Flat, chapter_03.Adam):
    __doc__ = chapter_03.Adam.__doc__


class AdamW(_Flat, chapter_03.AdamW):
    __doc__ = chapter_03.AdamW.__doc__
