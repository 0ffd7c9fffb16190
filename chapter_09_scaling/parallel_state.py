"""What a rank holds of a whole model whose parts keep their names: to be loaded, one picks them."""

from __future__ import annotations

from typing import Mapping

import numpy as np

from chapter_03_neural_nets import Module


def shard_state(model: Module, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of a whole model's `state_dict` what this rank's model holds, to be loaded into it.

    Raises ValueError where something is missing.
    """
    names = model.state_dict()
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"the state of the whole model lacks {', '.join(missing)}")
    return {name: state[name] for name in names}
