"""Small grey pictures with a label each: built-in glyphs, MNIST and its kin, or a file of yours.

Two layouts are read. IDX, MNIST's own: a magic number (0, 0, the type, the number of dimensions),
one big-endian 32-bit size for each dimension, then the bytes; its labels are a second file beside
it. And NPZ, NumPy's zip of arrays, which holds both. A file is somebody's word: what its header
promises is compared with what the file holds before an array is made.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.data.glyphs import SIZE, render_glyphs
from utils.data.sources import is_name, read_file, read_source

BUILT_IN_COUNT = 10_000
CHUNK = 1 << 20
UNSIGNED_BYTE = 0x08  # the IDX type code of MNIST's files
MOST_EXPANSION = 1032  # of gzip, which writes 258 bytes in two bits at best
GZIP_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
# The arrays of an NPZ file: ours, and those of the mnist.npz that Keras distributes.
NPZ_LAYOUTS = ((("images", "labels"),), (("x_train", "y_train"), ("x_test", "y_test")))
# What reading a damaged zip, or a damaged array in it, may raise.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError)
ARRAY_ERRORS = (ValueError, MemoryError)


class Images(NamedTuple):
    """Pictures float32 (N, 28, 28) in [0, 1], and their labels int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray


def load_images(source: str | os.PathLike | None = None) -> Images:
    """Return the images and labels of `source`: None for drawn glyphs, a known name, or a path.

    Built in are 10,000 digits and letters, labels indices into `GLYPHS`. A known name gives its
    training set followed by its test set (60,000 and 10,000; `split_images` parts them again). A
    path is an IDX file of images, gzipped or not, whose labels lie beside it (`images` in its name
    becomes `labels`, `idx3` becomes `idx1`), or an NPZ file with the arrays `images` and `labels`.
    Raises FileNotFoundError or another OSError where a file is missing or cannot be downloaded, and
    ValueError where it is not what it should be.
    """
    if source is None:
        return Images(*render_glyphs(BUILT_IN_COUNT))
    name, contents = os.fspath(source), read_source(source, "images")
    if is_name(source, "images"):
        images = np.concatenate([decode_idx(content, name, 3) for content in contents[0::2]])
        labels = np.concatenate([decode_idx(content, name, 1) for content in contents[1::2]])
    elif contents[0].startswith(ZIP_MAGIC):
        images, labels = _decode_npz(contents[0], name)
    else:
        images = decode_idx(contents[0], name, 3)
        path = _labels_beside(Path(source))
        labels = decode_idx(read_file(path, "images"), str(path), 1)
    return _checked(images, labels, name)


def decode_idx(content: bytes, name: str, ndim: int) -> np.ndarray:
    """Return the uint8 array of `ndim` dimensions in IDX bytes, gzipped or not.

    Raises ValueError, which calls the file `name`, where header and content do not agree.
    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database": the file format at its end.
    """
    stream = io.BytesIO(content)
    if content.startswith(GZIP_MAGIC):
        stream = gzip.GzipFile(fileobj=stream)
    try:
        header = stream.read(4 + 4 * ndim)
        shape = _idx_shape(header, name, ndim)
        expected = math.prod(shape)
        if expected > MOST_EXPANSION * len(content):
            raise ValueError(
                f"{name}: sizes {shape} need {expected:,} bytes, more than it can hold"
            )
        body = _read(stream, expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: damaged gzip file ({error})") from error
    if len(body) != expected:
        held = f"{len(body):,}" if len(body) < expected else "more"
        raise ValueError(f"{name}: sizes {shape} need {expected:,} bytes, the file holds {held}")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _idx_shape(header: bytes, name: str, ndim: int) -> tuple[int, ...]:
    magic = bytes([0, 0, UNSIGNED_BYTE, ndim])
    what = {3: "images", 1: "labels"}[ndim]
    if header[:4] != magic:
        raise ValueError(
            f"{name}: begins with the bytes {header[:4].hex(' ')}; an IDX file of {what} "
            f"begins with {magic.hex(' ')} (an NPZ file with {ZIP_MAGIC.hex(' ')})"
        )
    if len(header) != 4 + 4 * ndim:
        raise ValueError(f"{name}: the header ends after {len(header)} of {4 + 4 * ndim} bytes")
    return struct.unpack(f">{ndim}I", header[4:])


def _read(stream: io.BufferedIOBase, limit: int) -> bytearray:
    """Read up to `limit` bytes in pieces, so that memory follows the file and not its header."""
    body = bytearray()
    while len(body) < limit:
        chunk = stream.read(min(CHUNK, limit - len(body)))
        if not chunk:
            break
        body += chunk
    return body


def _labels_beside(path: Path) -> Path:
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    if name == path.name:
        raise ValueError(f"{path}: needs 'images' in its name, for its labels are found by name")
    other = name[: -len(".gz")] if name.endswith(".gz") else f"{name}.gz"
    for candidate in (path.with_name(name), path.with_name(other)):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{path}: no labels beside it; looked for {name} and {other}")


def _decode_npz(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            for layout in NPZ_LAYOUTS:
                if all(key in archive.files for pair in layout for key in pair):
                    pairs = [(archive[images], archive[labels]) for images, labels in layout]
                    return tuple(np.concatenate(arrays) for arrays in zip(*pairs))
            found = ", ".join(archive.files) or "none"
    except (*ZIP_ERRORS, *ARRAY_ERRORS) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name}: unreadable NPZ file ({reason})") from error
    raise ValueError(f"{name}: needs the arrays images and labels; it holds: {found}")


def _checked(pixels: np.ndarray, labels: np.ndarray, name: str) -> Images:
    """Return both arrays in the types that every chapter expects, or say which of them is wrong."""
    if pixels.ndim != 3 or pixels.shape[1:] != (SIZE, SIZE) or not len(pixels):
        raise ValueError(f"{name}: images have shape {pixels.shape}, not (N, {SIZE}, {SIZE})")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{name}: labels are {labels.dtype} {labels.shape}, not integers (N,)")
    if len(labels) != len(pixels):
        raise ValueError(f"{name}: {len(pixels):,} images but {len(labels):,} labels")
    labels = labels.astype(np.int64)
    if labels.min() < 0:
        raise ValueError(f"{name}: label {labels.min()} is out of range; labels count from 0")
    top = {"u": 255, "i": 255, "f": 1}.get(pixels.dtype.kind)
    if top is None:
        raise ValueError(f"{name}: images are {pixels.dtype}, not numbers")
    if not (pixels.min() >= 0 and pixels.max() <= top):
        low, high = pixels.min(), pixels.max()
        raise ValueError(f"{name}: {pixels.dtype} pixels from {low} to {high}, not 0 to {top}")
    return Images(np.divide(pixels, top, dtype=np.float32, casting="same_kind"), labels)
