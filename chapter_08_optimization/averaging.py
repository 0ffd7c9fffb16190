"""Averages of the weights along the way: a path circles the floor of the valley, its mean is there.

With a falling learning rate the weights settle by themselves. With a constant one they keep moving
about the minimum, and the mean of where they were is nearer to it than any of them.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterable, Iterator

import numpy as np

from chapter_03_neural_nets import Module, Optimizer
from chapter_03_neural_nets.optimizers import in_range
from chapter_03_neural_nets.training import check_count
from chapter_08_optimization.wrapper import Wrapper
from utils import no_grad


class Averaged(Wrapper):
    """Base class: after every step of the other optimiser `share` of p enters the mean.

    The mean begins at the weights as they are when it is made: load them before.
    """

    def share(self) -> float:
        """What of the weights enters the mean after the last step."""
        raise NotImplementedError(f"{type(self).__name__} does not define share")

    def step(self) -> None:
        super().step()
        share = self.share()
        for p, mean in zip(self.parameters(), self.kept):
            if share == 1:
                mean[...] = p.data
            elif share:
                mean += p.dtype.type(share) * (p.data - mean)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The means in place of the weights, which come back afterwards."""
        params = self.parameters()
        own = [p.data.copy() for p in params]
        self._put(self.kept)
        try:
            yield
        finally:
            self._put(own)

    def use(self) -> None:
        """Put the means in the weights' place for good: at the end of a training."""
        self._put(self.kept)

    def _put(self, arrays: list[np.ndarray]) -> None:
        for p, array in zip(self.parameters(), arrays):
            p.data[...] = array


class EMA(Averaged):
    """mean = decay mean + (1 - decay) p: that of the last 1 / (1 - decay) steps, roughly.

    Early on, after t = 1, 2, ... steps, decay is (1 + t) / (10 + t) if that is less, so that the
    beginning is soon forgotten.
    Source: Polyak, Juditsky, 1992, doi:10.1137/0330046.
    """

    def __init__(self, optimizer: Optimizer, decay: float = 0.999, warm_up: bool = True) -> None:
        super().__init__(optimizer)
        if in_range("decay", decay) > 1:
            raise ValueError(f"decay is a share, at most 1, not {decay}")
        self.decay, self.warm_up = decay, warm_up

    def share(self) -> float:
        early = (1 + self.steps) / (10 + self.steps)
        return 1 - (min(self.decay, early) if self.warm_up else self.decay)


class SWA(Averaged):
    """The plain mean of the weights after step `start` and every `every` steps from there.

    Before that it is the weights themselves.
    Statistics of a BatchNorm belong to other weights then: `refresh_statistics` measures them anew.
    Source: Izmailov et al., 2018, arXiv:1803.05407.
    """

    def __init__(self, optimizer: Optimizer, start: int, every: int = 1) -> None:
        super().__init__(optimizer)
        check_count("start", start, least=1)
        check_count("every", every, least=1)
        self.start, self.every = start, every

    def share(self) -> float:
        since = self.steps - self.start
        if since < 0:
            return 1.0
        return 0.0 if since % self.every else 1 / (since // self.every + 1)


def refresh_statistics(model: Module, batches: Iterable[Any]) -> None:
    """Set every BatchNorm's running statistics to their means over batches of inputs."""
    norms = [module for module in model.modules() if hasattr(module, "num_batches_tracked")]
    momenta, modes = [norm.momentum for norm in norms], [(m, m.training) for m in model.modules()]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked[...] = None, 0  # None is the mean over all batches
    model.train()
    try:
        with no_grad():
            for inputs in batches:
                model(inputs)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
