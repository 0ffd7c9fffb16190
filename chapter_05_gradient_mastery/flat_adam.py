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
        self.params, self.views = list(params), []
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
            self.views.append((views[0], views[1]))

    def holds(self, params: Sequence[Tensor], states: States) -> bool:
        """Whether it holds these and its views are in use: loading and casting replace them."""
        return len(params) == len(self.params) and all(
            p is own and p.data is data and states[p].get("exp_avg") is m
            for p, own, (data, m) in zip(params, self.params, self.views)
        )

    def gather(self) -> None:
        """Copy the parameters' gradients side by side."""
        np.concatenate([p.grad.reshape(-1) for p in self.params], out=self.g)


class _Flat:
    """The sweep, for Adam and its descendants; where dtypes or steps differ, one by one."""

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        super().add_param_group(group)
        # At once, so that who asks a model for its arrays from now on gets those that will change.
        self.buffer_of(
            self.param_groups[-1], [p for p in self.param_groups[-1]["params"] if p.requires_grad]
        )

    def buffer_of(self, group: Mapping[str, Any], params: Sequence[Tensor]) -> FlatBuffer | None:
        """The group's buffer, made anew where it does not hold these; None if they are unlike."""
        buffers = vars(self).setdefault("buffers", {})
        if len({(p.dtype, self.state[p].get("step", 0)) for p in params}) != 1:
            return None
        if id(group) not in buffers or not buffers[id(group)].holds(params, self.state):
            buffers[id(group)] = FlatBuffer(params, self.state)
        return buffers[id(group)]

    def update_group(self, group: Mapping[str, Any], lr: float) -> None:
        buffer = self.buffer_of(group, [p for p in group["params"] if p.grad is not None])
        if buffer is None:
            super().update_group(group, lr)
            return
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


class Adam(_Flat, chapter_03.Adam):
    __doc__ = chapter_03.Adam.__doc__


class AdamW(_Flat, chapter_03.AdamW):
    __doc__ = chapter_03.AdamW.__doc__
