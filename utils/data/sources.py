"""Which data sets go by a name, and how a source (a name or a path) becomes bytes.

`SOURCES` is a plain dictionary: add an entry of your own and its name works in the loader of its
kind. Sizes and SHA-256 of the MNIST and Fashion-MNIST files are those that TensorFlow Datasets
publishes (`tensorflow_datasets/url_checksums/mnist.txt` and `fashion_mnist.txt`).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from utils.data.download import RemoteFile, fetch
from utils.files import open_regular

# What a loader gives when no source is named, for messages.
BUILT_IN = {
    "text": "Python's language reference",
    "names": "colour names",
    "images": "digits and letters",
}

# How files of images begin: gzip, zip (NPZ), and IDX uncompressed.
IMAGE_MAGICS = (b"\x1f\x8b", b"PK\x03\x04", b"\x00\x00\x08\x03")


class Source(NamedTuple):
    """A named data set: its kind ("text", "names" or "images") and its files.

    The files of images come in the order images, labels (training set), images, labels (test set).
    """

    kind: str
    files: tuple[RemoteFile, ...]


def known_names(kind: str) -> list[str]:
    """Return the names that the loader of `kind` ("text", "names" or "images") understands."""
    return [name for name, source in SOURCES.items() if source.kind == kind]


def is_name(source: str | os.PathLike, kind: str) -> bool:
    """Tell whether `source` is a known name rather than a path."""
    return isinstance(source, str) and source in known_names(kind)


def kind_of(source: str | os.PathLike, otherwise: str) -> str:
    """Return the kind of a known name, "images" for a file that begins like one, or `otherwise`.

    Raises an OSError or ValueError where the source is neither a name nor a file with contents.
    """
    if isinstance(source, str) and source in SOURCES:
        return SOURCES[source].kind
    begins = read_file(source, otherwise)[:4]
    return "images" if begins.startswith(IMAGE_MAGICS) else otherwise


def read_source(source: str | os.PathLike, kind: str) -> list[bytes]:
    """Return the verified files of a named data set, or the one file at a path.

    Raises FileNotFoundError (no such file, and no such name), ConnectionError (cannot download),
    another OSError (cannot read), or ValueError (empty).
    """
    if is_name(source, kind):
        alternative = f"or give no name to use the built-in {BUILT_IN[kind]}"
        return [fetch(file, alternative=alternative) for file in SOURCES[source].files]
    return [read_file(source, kind)]


def read_file(path: str | os.PathLike, kind: str) -> bytes:
    """Return the bytes of a regular file that is not empty, or say in one line what is wrong."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"{os.fspath(path)!r} is a folder; give a file in it")
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{os.fspath(path)!r} is neither a file nor a known name; known for {kind}: "
            f"{', '.join(known_names(kind))} (give none for the built-in {BUILT_IN[kind]})"
        )
    with open_regular(path) as file:
        content = file.read()
    if not content:
        raise ValueError(f"{os.fspath(path)}: the file is empty")
    return content


def _idx_files(folder: str, mirrors: tuple[str, ...], facts: list[tuple]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{folder}/{name}.gz", size, sha256, tuple(f"{m}{name}.gz" for m in mirrors))
        for name, size, sha256 in facts
    )


_KARPATHY = "https://raw.githubusercontent.com/karpathy"

# fmt: off
SOURCES: dict[str, Source] = {
    "names": Source("names", (RemoteFile(
        "names.txt", 228_145,
        "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        (f"{_KARPATHY}/makemore/master/names.txt",),
    ),)),
    "tinyshakespeare": Source("text", (RemoteFile(
        "tinyshakespeare.txt", 1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        (f"{_KARPATHY}/char-rnn/master/data/tinyshakespeare/input.txt",),
    ),)),
    "mnist": Source("images", _idx_files(
        "mnist",
        ("https://storage.googleapis.com/cvdf-datasets/mnist/",
         "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        [("train-images-idx3-ubyte", 9_912_422,
          "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
         ("train-labels-idx1-ubyte", 28_881,
          "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
         ("t10k-images-idx3-ubyte", 1_648_877,
          "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
         ("t10k-labels-idx1-ubyte", 4_542,
          "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6")],
    )),
    "fashion-mnist": Source("images", _idx_files(
        "fashion-mnist",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
         "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"),
        [("train-images-idx3-ubyte", 26_421_880,
          "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
         ("train-labels-idx1-ubyte", 29_515,
          "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
         ("t10k-images-idx3-ubyte", 4_422_102,
          "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
         ("t10k-labels-idx1-ubyte", 5_148,
          "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5")],
    )),
}
# fmt: on
