"""What the tests of whole networks share."""

from __future__ import annotations

import numpy as np
import pytest

from utils import check_gradients


@pytest.fixture
def check_network():
    """Check a network's gradients: by each parameter and each input, along a random direction.

    The network has its parameters in float64 afterwards. `forward(network, *inputs)` may be given
    where the network does not return a Tensor; inputs that are no floats stay as they are.
    """

    def check(network, *inputs, forward=lambda network, *inputs: network(*inputs)):
        rng, modules = np.random.default_rng(1), dict(network.astype(np.float64).named_modules())
        names = [name for name, _ in network.named_parameters()]
        parameters = [p.data.copy() for p in network.parameters()]
        floats = [i for i, x in enumerate(inputs) if np.asarray(x).dtype.kind == "f"]
        arrays = [*parameters, *(np.asarray(inputs[i], np.float64) for i in floats)]
        directions = [rng.normal(size=a.shape) / max(a.size, 1) ** 0.5 for a in arrays]

        def along(*steps):
            moved = [a + t * v for a, t, v in zip(arrays, steps, directions)]
            for name, value in zip(names, moved):
                owner, _, own = name.rpartition(".")
                setattr(modules[owner], own, None)  # a Parameter does not make way for a Tensor
                setattr(modules[owner], own, value)
            given = list(inputs)
            for i, x in zip(floats, moved[len(names) :]):
                given[i] = x
            return forward(network, *given)

        # A small step, so that no relu and no pool changes its mind within it.
        zeros = [np.zeros(()) for _ in arrays]
        check_gradients(along, zeros, tolerance=1e-6, step=1e-6)

    return check
