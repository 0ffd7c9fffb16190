"""SAM: look for a wide valley by asking for the gradient where it is worst nearby.

A minimum in a wide valley bears what test data changes; a narrow one does not. So each step first
climbs: to the point at distance rho where, to first order, the loss is highest. The gradient there
is what the other optimiser gets, back at the place where the climb began.
"""

from __future__ import annotations

from typing import Any, Callable

from chapter_03_neural_nets import Module, Optimizer
from chapter_03_neural_nets.optimizers import in_range
from chapter_04_training_dynamics.clipping import grad_norm
from chapter_08_optimization.wrapper import Combined
from utils import Tensor


class SAM(Combined):
    """The other optimiser's step with the gradient at p + rho g / |g|, |g| that of all parameters.

    A step costs two. `step(closure)` calls `closure()` for the loss, up there, on the same batch;
    in the training loop, `train(..., loss=sam.watch(loss))` remembers it. Dropout draws again up
    there, running statistics see both places, and what changes gradients before a step, such as
    clipping, sees only those down here.
    Source: Foret et al., 2020, arXiv:2010.01412.
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.05) -> None:
        super().__init__([optimizer])
        self.rho = in_range("rho", rho)
        self.again: Callable[[], Tensor] | None = None

    def watch(self, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same loss, whose last batch `step` will use once more."""

        def watched(model: Module, *batch: Any) -> Tensor:
            self.again = lambda: loss(model, *batch)
            return self.again()

        return watched

    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        """Climb, ask for the loss once more, come back, and let the other optimiser step.

        Without a closure it is what `watch` remembers; without that, ValueError names both ways,
        step(closure) and sam.watch(loss). Up there parameters have arrays of their own, as graphs
        keep what they have seen; the old ones come back, also where the loss fails.
        """
        closure = closure or self.again
        if closure is None:
            raise ValueError("SAM needs the loss once more: step(closure), or loss=sam.watch(loss)")
        moved = [p for p in self.parameters() if p.grad is not None]
        norm = grad_norm(moved)
        before = [p.data for p in moved]
        if norm > 0:
            for p in moved:  # arrays of their own: the graph keeps what it has seen
                p.data = p.data + p.dtype.type(self.rho / norm) * p.grad
        try:
            self.zero_grad()
            closure().backward()
        finally:
            for p, data in zip(moved, before):
                p.data = data
        super().step()


def watched(optimizer: Optimizer, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loss as this optimiser needs it in a training: SAM looks at every batch twice."""
    return optimizer.watch(loss) if isinstance(optimizer, SAM) else loss
