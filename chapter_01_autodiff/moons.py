"""Two half circles that reach into each other: the smallest task that no straight line solves."""

from __future__ import annotations

import numpy as np

from utils.seeding import generator


def make_moons(
    samples: int = 100, noise: float = 0.1, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Points (samples, 2) on two moons, blurred by `noise`, and labels -1 and 1 (samples,)."""
    if samples < 2:
        raise ValueError(f"two moons need at least 2 samples, not {samples}")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise is a standard deviation, finite and at least 0, not {noise}")
    rng = generator(rng)
    upper = samples // 2
    angles = np.concatenate([np.linspace(0, np.pi, upper), np.linspace(0, np.pi, samples - upper)])
    labels = np.repeat([-1.0, 1.0], [upper, samples - upper])
    x = np.where(labels < 0, np.cos(angles), 1 - np.cos(angles))
    y = np.where(labels < 0, np.sin(angles), 0.5 - np.sin(angles))
    points = np.stack([x, y], axis=1) + rng.normal(0, noise, (samples, 2))
    order = rng.permutation(samples)
    return points[order], labels[order]
