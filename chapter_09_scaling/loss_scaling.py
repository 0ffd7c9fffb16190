"""Loss scaling: gradients made larger on their way through float16, and small again at its end.

Gradients are often smaller than the smallest number of float16, and then they are zero. The
backward pass is linear: one that begins at s instead of 1 gives all gradients times s. The largest
s that overflows nowhere is found by trying: halve it after an overflow, double it after a long time
without one.
"""

from __future__ import annotations

import functools
from typing import Any, Mapping

import numpy as np

from chapter_03_neural_nets import Module, Optimizer
from chapter_03_neural_nets.optimizers import in_range
from chapter_03_neural_nets.training import Loss, check_count
from chapter_08_optimization.wrapper import Combined
from chapter_09_scaling.communicator import Communicator, SingleProcess
from chapter_09_scaling.sharding import ZeRO
from utils import Tensor, kernel

KEPT = ("scale", "good_steps", "skipped")
SMALLEST = 2.0**-24  # float16's smallest number: below 1 no scale is needed to fit into it


@kernel(composed=lambda loss, scale: loss + (scale - 1) * (loss - loss.data))
def with_scaled_gradient(loss, scale):
    """The loss as it is, for whoever looks at it; its gradient is multiplied by `scale`."""
    return loss.copy(), lambda g, wanted: (g * g.dtype.type(scale),)


class LossScaler(Combined):
    """Another optimiser's step on gradients that were scaled by a power of two, scaled back.

    train(model, scaler, ..., loss=scaler.watch(loss)) scales them. `step` divides them again, or,
    where one is not finite, leaves all as it is and multiplies the scale by `backoff_factor`. After
    `growth_interval` steps in a row that were taken, it is multiplied by `growth_factor`. What is
    to see the gradients themselves before the step, such as clipping, comes behind
    `before_step=[scaler.unscale, ...]`. The ranks of `comm` (ZeRO brings its own) leave a step out
    together, also where one of them alone has found an overflow. The defaults are PyTorch's
    GradScaler's.
    Raises FloatingPointError where no scale, however small, makes the gradients finite.
    Source: Micikevicius et al., 2017, arXiv:1710.03740.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        comm: Communicator | None = None,
    ) -> None:
        self.zero = optimizer if isinstance(optimizer, ZeRO) else None
        if comm is None:
            comm = SingleProcess() if self.zero is None else self.zero.comm
        self.comm = comm
        super().__init__([optimizer])
        if any(p.dtype.itemsize < 4 for p in self.parameters()):
            raise TypeError(
                "parameters stay in float32, in which small steps add up; see HalfLinear"
            )
        check_count("growth_interval", growth_interval, least=1)
        self.scale = in_range("init_scale", init_scale, least=SMALLEST)
        self.growth_factor = in_range("growth_factor", growth_factor, least=1)
        if not 0 < backoff_factor < 1:
            raise ValueError(f"backoff_factor is between 0 and 1, not {backoff_factor}")
        self.backoff_factor, self.growth_interval = backoff_factor, growth_interval
        self.good_steps = self.skipped = 0
        self.scaled = False  # whether the gradients that are there are still to be divided

    def watch(self, loss: Loss) -> Loss:
        """The same loss, whose gradients come out scaled."""

        @functools.wraps(loss)
        def watched(model: Module, *batch: Any) -> Tensor:
            value = loss(model, *batch)
            self.scaled = True
            return with_scaled_gradient(value, scale=self.scale)

        return watched

    def unscale(self, model: Module | None = None) -> None:
        """Divide the gradients by the scale, if that has not been done."""
        if self.zero is not None:
            self.zero.reduce()  # the parts that ranks step on get their gradients here
        if not self.scaled:
            return
        for p in self.parameters():
            if p.grad is not None:
                np.divide(p.grad, p.dtype.type(self.scale), out=p.grad)
        self.scaled = False

    def step(self) -> None:
        """Take the step, or leave it out together; either way the scale may change."""
        self.unscale()
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        overflow = not all(np.isfinite(g).all() for g in gradients)
        if self.comm.all_reduce(np.array(overflow), np.logical_or):  # of any rank
            self.skipped += 1
            self.good_steps = 0
            self.scale *= self.backoff_factor
            if self.scale < SMALLEST:
                raise FloatingPointError(
                    f"the gradients are not finite, with a scale of {self.scale:.1e} either: the "
                    "fault is not float16's range, look at the model and the learning rate"
                )
            return
        super().step()
        self.good_steps += 1
        if self.good_steps == self.growth_interval:
            self.good_steps = 0
            self.scale *= self.growth_factor

    def zero_grad(self) -> None:
        self.optimizers[0].zero_grad()  # which may have more than its parameters' to forget

    def state_dict(self) -> dict[str, np.ndarray]:
        own = {f"LossScaler.{name}": np.array(getattr(self, name)) for name in KEPT}
        return {**super().state_dict(), **own}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        own = {name: saved.get(f"LossScaler.{name}") for name in KEPT}
        if any(np.shape(value) != () or value is None for value in own.values()):
            raise ValueError(f"this is not the state of LossScaler: {', '.join(KEPT)} are needed")
        scale = in_range("scale", float(own["scale"]), least=SMALLEST)
        super().load_state_dict(
            {key: value for key, value in saved.items() if not key.startswith("LossScaler.")}
        )
        self.scale, self.scaled = scale, False
        self.good_steps, self.skipped = int(own["good_steps"]), int(own["skipped"])

    def __repr__(self) -> str:
        return f"LossScaler({self.optimizers[0]!r}, scale={self.scale:g})"
