"""Augmentation: a digit turned a little is the same digit, which costs nothing to say.

What a network should not care about is shown to it: every batch is turned, stretched, sheared and
shifted at random, so that no picture is ever seen twice. Each pixel of the new picture asks where
in the old one it came from and takes the mean of the four pixels there, weighted by how near they
are.
"""

from __future__ import annotations

import numpy as np

from utils.seeding import generator


def random_affine(
    images: np.ndarray,
    degrees: float = 10,
    stretch: float = 0.1,
    shear: float = 0.1,
    shift: float = 2,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Pictures (B, H, W), each under its own affine map: as many, of the same dtype.

    Uniform at random: an angle up to `degrees`, a factor of 1 - `stretch` to 1 + `stretch` and a
    shear up to `shear` for each axis, a shift up to so many pixels. What comes from outside is 0.
    """
    rng, count = generator(rng), len(images)
    angle = rng.uniform(-1, 1, count) * np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([cos, -sin, sin, cos], axis=1).reshape(count, 2, 2)
    bend = rng.uniform(-1, 1, (count, 2, 2)) * [[stretch, shear], [shear, stretch]]
    return affine(images, turn @ (np.eye(2) + bend), rng.uniform(-shift, shift, (count, 2)))


def affine(images: np.ndarray, matrices: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Each picture (H, W) drawn anew: its pixel p, seen from the centre, is the old M p + shift.

    images (B, H, W) of floats, matrices (B, 2, 2), shifts (B, 2), both for (row, column).
    """
    if images.ndim != 3 or images.dtype.kind != "f":
        raise ValueError(
            f"pictures (B, H, W) of floats are drawn anew, not {images.dtype}{images.shape}"
        )
    count, height, width = images.shape
    centre = (np.array([height, width]) - 1) / 2
    rows, columns = np.indices((height, width))
    places = np.stack([rows.ravel(), columns.ravel()]) - centre[:, None]
    sources = matrices @ places + (shifts + centre)[:, :, None]  # (B, 2, H W)
    # A border of zeros, so that what is outside is somewhere.
    bordered = np.pad(images, ((0, 0), (1, 2), (1, 2))).reshape(count, (height + 3) * (width + 3))
    row, column = (np.clip(sources[:, i] + 1, 0, n + 1) for i, n in enumerate((height, width)))
    top, left = row.astype(np.int64), column.astype(np.int64)
    down, right = (row - top).astype(images.dtype), (column - left).astype(images.dtype)
    index = top * (width + 3) + left

    def pixel(offset: int) -> np.ndarray:
        return np.take_along_axis(bordered, index + offset, axis=1)

    upper = (1 - right) * pixel(0) + right * pixel(1)
    lower = (1 - right) * pixel(width + 3) + right * pixel(width + 4)
    return ((1 - down) * upper + down * lower).reshape(images.shape)
