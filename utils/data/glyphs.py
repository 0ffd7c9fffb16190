"""A picture set that needs no download: characters drawn from the fonts that matplotlib carries.

A font stores a character as an outline. Each picture is one outline under its own affine map
(turned, scaled, shifted), filled with anti-aliasing by matplotlib's renderer, so every picture
differs though there are only a few hundred outlines. As in MNIST, the character is white on black,
near the middle of 28x28 pixels, and its longer side takes about 20 of them.
"""

from __future__ import annotations

import os

import numpy as np

GLYPHS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)
SIZE = 28
# A glyph that is turned and shifted may leave its picture: the tile it is drawn on has a margin,
# which is cut off, so that it never reaches into its neighbour's picture.
TILE = 48
PAGE = 32  # tiles along each side of one drawing


def render_glyphs(
    count: int, characters: str = GLYPHS, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` random `characters`: images float32 (count, 28, 28) in [0, 1], labels int64.

    A label is the character's index in `characters`. Each picture has a random font, is turned by
    up to 15 degrees, scaled to 15 to 21 pixels, and shifted by up to 2 pixels each way. They are
    the same pictures at every call unless `rng` is given. Raises ValueError where `count` is below
    1 or a character is not an ASCII letter or digit, which all fonts have.
    """
    if not count >= 1:
        raise ValueError(f"count={count}: draw at least one picture")
    if not (characters.isascii() and characters.isalnum()):
        raise ValueError(f"characters={characters!r}: give ASCII letters and digits, one or more")
    rng = np.random.default_rng(0) if rng is None else rng
    labels = rng.integers(len(characters), size=count)
    fonts = rng.integers(len(FONTS), size=count)
    angles = rng.uniform(-np.pi / 12, np.pi / 12, size=count)
    lengths = rng.uniform(15, 21, size=count)
    shifts = rng.uniform(-2, 2, size=(count, 2))

    outlines = _outlines(characters)
    images = np.empty((count, SIZE, SIZE), dtype=np.float32)
    for start in range(0, count, PAGE * PAGE):
        page = slice(start, start + PAGE * PAGE)
        paths = [outlines[font][label] for font, label in zip(fonts[page], labels[page])]
        _draw(paths, _matrices(angles[page], lengths[page], shifts[page]), out=images[page])
    return images, labels


def _outlines(characters: str) -> list[list]:
    """Return a closed path for each font and character, centred at 0, its longer side 1."""
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    outlines = []
    for font in FONTS:
        properties = FontProperties(fname=os.path.join(folder, f"{font}.ttf"))
        row = []
        for character in characters:
            path = TextPath((0, 0), character, size=100, prop=properties)
            # Control points bound the outline to 3 % (fonts put them at its extremes) and cost a
            # tenth of what Path.get_extents does; the points of closing strokes mean nothing.
            points = path.vertices[path.codes != Path.CLOSEPOLY]
            low, high = points.min(axis=0), points.max(axis=0)
            vertices = (path.vertices - (low + high) / 2) / (high - low).max()
            row.append(Path(vertices, path.codes))
        outlines.append(row)
    return outlines


def _matrices(angles: np.ndarray, lengths: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return (n, 3, 3) affine maps: turn and scale an outline, then move it onto its own tile."""
    index = np.arange(len(angles))
    # The renderer's y axis points up, the rows of its buffer down.
    tiles = np.stack([index % PAGE, PAGE - 1 - index // PAGE], axis=1)
    cos, sin = lengths * np.cos(angles), lengths * np.sin(angles)
    matrices = np.zeros((len(angles), 3, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = cos, -sin
    matrices[:, 1, 0], matrices[:, 1, 1] = sin, cos
    matrices[:, :2, 2] = tiles * TILE + TILE / 2 + shifts
    matrices[:, 2, 2] = 1
    return matrices


def _draw(paths: list, matrices: np.ndarray, out: np.ndarray) -> None:
    """Fill each path under its matrix on a page of tiles; cut the page into `out` (n, 28, 28)."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Affine2D

    renderer = RendererAgg(PAGE * TILE, PAGE * TILE, 72)
    context = renderer.new_gc()
    context.set_linewidth(0)
    context.set_snap(False)
    for path, matrix in zip(paths, matrices):
        renderer.draw_path(context, path, Affine2D(matrix), (1.0, 1.0, 1.0))
    coverage = np.asarray(renderer.buffer_rgba())[..., 3]
    tiles = coverage.reshape(PAGE, TILE, PAGE, TILE).swapaxes(1, 2).reshape(-1, TILE, TILE)
    margin = (TILE - SIZE) // 2
    inner = slice(margin, margin + SIZE)
    np.divide(tiles[: len(paths), inner, inner], 255, out=out, dtype=np.float32)
