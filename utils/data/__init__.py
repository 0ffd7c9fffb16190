"""Real data in three tiers behind one function a kind: built in, by name, or from a file of yours.

`load_text`, `load_names` and `load_images` take a source: None is the data that comes with Python
and matplotlib, a known name is downloaded once and kept, anything else is the path of a file. A
name wins over a path: write `./names` for a file that is called `names`.
"""

from __future__ import annotations

from utils.data.download import cache_folder
from utils.data.glyphs import GLYPHS, render_glyphs
from utils.data.images import Images, load_images
from utils.data.names import colour_names, load_names, looks_like_names
from utils.data.sources import SOURCES, kind_of, known_names
from utils.data.splits import split_images, split_names, split_text
from utils.data.text import load_text

__all__ = [
    "GLYPHS",
    "Images",
    "SOURCES",
    "cache_folder",
    "colour_names",
    "kind_of",
    "known_names",
    "load_images",
    "load_names",
    "load_text",
    "looks_like_names",
    "render_glyphs",
    "split_images",
    "split_names",
    "split_text",
]
