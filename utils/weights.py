"""Arrays on disk in the safetensors layout: eight bytes of length, a JSON header, the raw numbers.

The header gives each array's dtype, shape and place in the data, so a file can be checked whole
before a byte of it is believed: nothing is allocated until every size agrees with the file's, and
nothing in it can run. Hugging Face publishes its models in this layout. NumPy has no bfloat16, the
upper half of a float32: such arrays are read as float32, exactly, and written by rounding.

Source: the format's description at https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import sys
from typing import Any, BinaryIO, Collection, Mapping, NamedTuple

import numpy as np

from utils.files import atomic_write, open_regular

MAX_HEADER_BYTES = 100_000_000  # the library's limit too
MAX_DIMENSIONS = 32  # NumPy's, before 2.0

# In the order in which the library writes: the widest first, so that every array begins aligned.
_FORMATS = {
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "BF16": "<u2",
    "F16": "<f2",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_RANKS = {code: rank for rank, code in enumerate(_FORMATS)}
_CODES = {format: code for code, format in _FORMATS.items() if code != "BF16"}

# What a damaged file holds may be megabytes long, and an error is one line.
_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxlong = _shortened.maxother = 120
_shortened.maxlist = MAX_DIMENSIONS
_show = _shortened.repr


class Entry(NamedTuple):
    """One array in a header: the layout's name of its dtype, its shape, its bytes in the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file holds: an `Entry` for each array, in the order of the data, and the metadata."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def save_weights(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    bfloat16: Collection[str] = (),
) -> None:
    """Write named arrays to `path` atomically; the same arrays always give the same bytes.

    `bfloat16` names the floating arrays to store rounded to bfloat16, in half the bytes of float32.
    Any memory layout and byte order will do; arrays that share memory are written once each.
    Raises ValueError for what the layout cannot hold, before anything is written.
    """
    if isinstance(bfloat16, str):
        raise ValueError(f"bfloat16 is a list of names, not the one string {bfloat16!r}")
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    codes = {name: dtype_code(name, array) for name, array in arrays.items()}
    for name in bfloat16:
        if name not in arrays or arrays[name].dtype.kind != "f":
            raise ValueError(f"bfloat16: {_show(name)} is not the name of a floating array")
        codes[name] = "BF16"
    names = sorted(arrays, key=lambda name: (_RANKS[codes[name]], name))
    header = _encode_header(names, codes, arrays, metadata or {})
    with atomic_write(path) as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for name in names:
            array = arrays[name]
            file.write(stored_bytes(to_bfloat16(array) if codes[name] == "BF16" else array))


def load_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read every array of a file, each its own writable array; bfloat16 becomes float32.

    Raises ValueError, naming the file and the array, where the file is not sound.
    """
    return load_with_metadata(path)[0]


def load_with_metadata(
    path: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays as `load_weights` does, and the metadata of the same opening of the file."""
    with open_regular(path) as file:
        header = _parse_header(file, path)
        arrays = {
            name: _read_array(file, entry, f"{path}: array {_show(name)}")
            for name, entry in header.entries.items()
        }
    return arrays, header.metadata


def read_header(path: str | os.PathLike) -> Header:
    """Read and check what a file says it holds, without reading its arrays."""
    with open_regular(path) as file:
        return _parse_header(file, path)


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Round to bfloat16, ties to even, and return the bits as uint16 of the same shape.

    NaN stays NaN, with its sign. float64 is rounded to float32 first, as PyTorch does.
    """
    x = np.asarray(x)
    bits = np.ascontiguousarray(x, dtype=np.float32).reshape(-1).view(np.uint32)
    upper = bits >> np.uint32(16)
    # Adding half of the dropped part carries into the upper half; a tie carries only if it is odd.
    rounded = (bits + np.uint32(0x7FFF) + (upper & np.uint32(1))) >> np.uint32(16)
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    # The set bit keeps a NaN whose payload lay in the dropped half from turning into infinity.
    rounded = np.where(is_nan, upper | np.uint32(0x0040), rounded)
    return rounded.astype(np.uint16).reshape(x.shape)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Turn the bits of bfloat16 numbers (uint16) into the float32 numbers that they stand for."""
    bits = np.asarray(bits)
    if bits.dtype.newbyteorder("=") != np.uint16:
        raise ValueError(f"from_bfloat16 takes the bits as uint16, not {bits.dtype}")
    wide = bits.astype(np.uint32, order="C")
    wide <<= np.uint32(16)
    return wide.view(np.float32)


def dtype_code(name: str, array: np.ndarray) -> str:
    """Return the layout's name of an array's dtype; ValueError where it cannot hold the array."""
    if not isinstance(name, str) or name == "__metadata__":
        raise ValueError(f"an array cannot be named {_show(name)}")
    code = _CODES.get(array.dtype.newbyteorder("<").str)
    if code is None:
        raise ValueError(
            f"array {_show(name)} is {array.dtype}; a safetensors file holds booleans, integers "
            "and float16, 32 and 64"
        )
    return code


def stored_bytes(array: np.ndarray) -> np.ndarray:
    """Return the bytes of an array as a file holds them: C order, little-endian, as flat uint8."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8)


def _encode_header(
    names: list[str],
    codes: dict[str, str],
    arrays: dict[str, np.ndarray],
    metadata: Mapping[str, str],
) -> bytes:
    fields: dict[str, Any] = {}
    if metadata:
        for item in metadata.items():
            if not all(isinstance(part, str) for part in item):
                raise ValueError(f"metadata maps str to str, not {_show(item)}")
        fields["__metadata__"] = dict(metadata)
    position = 0
    for name in names:
        shape = arrays[name].shape
        end = position + arrays[name].size * np.dtype(_FORMATS[codes[name]]).itemsize
        fields[name] = {"dtype": codes[name], "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    try:
        header = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"a name or the metadata is not valid Unicode: {error.reason}") from None
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"the header takes {len(header):,} bytes, over {MAX_HEADER_BYTES:,}")
    return header


def _parse_header(file: BinaryIO, path: str | os.PathLike) -> Header:
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise ValueError(f"{path}: {size} bytes are too few for a safetensors file")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"{path}: a header of {length:,} bytes is over {MAX_HEADER_BYTES:,}")
    if length > size - 8:
        raise ValueError(f"{path}: a header of {length:,} bytes does not fit in a file of {size:,}")
    header = file.read(length)
    if not header.startswith(b"{"):
        raise ValueError(f"{path}: the header is not a JSON object, so not a safetensors file")
    try:
        fields = json.loads(header.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the header is not valid JSON: {error}") from None

    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError(f"{path}: __metadata__ is not an object of strings: {_show(metadata)}")
    entries = {
        name: _parse_entry(field, f"{path}: array {_show(name)}") for name, field in fields.items()
    }
    # An empty array may begin where the next one does, and then comes first.
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    held = size - 8 - length
    position = 0
    for name, entry in entries.items():
        if entry.begin != position:
            problem = "a hole" if entry.begin > position else "an overlap"
            raise ValueError(
                f"{path}: array {_show(name)} begins at byte {entry.begin} where {position} was "
                f"expected: {problem} in the data"
            )
        if entry.end > held:
            raise ValueError(
                f"{path}: array {_show(name)} ends at byte {entry.end:,} of the data, the file at "
                f"{held:,}: it is truncated"
            )
        position = entry.end
    if position < held:
        raise ValueError(f"{path}: the arrays take {position:,} bytes, the file holds {held:,}")
    return Header(entries, metadata)


def _parse_entry(field: Any, where: str) -> Entry:
    if not isinstance(field, dict) or not {"dtype", "shape", "data_offsets"} <= field.keys():
        raise ValueError(f"{where} needs dtype, shape and data_offsets, not {_show(field)}")
    code, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(code, str) or code not in _FORMATS:
        raise ValueError(f"{where} has dtype {_show(code)}, not one of {', '.join(_FORMATS)}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{where} has an impossible shape: {_show(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{where} has impossible data_offsets: {_show(offsets)}")
    itemsize = np.dtype(_FORMATS[code]).itemsize
    # NumPy's own limit, which counts a size of 0 as 1.
    if math.prod(max(n, 1) for n in shape) * itemsize > sys.maxsize:
        raise ValueError(f"{where} has a shape too large for memory: {_show(shape)}")
    takes, given = math.prod(shape) * itemsize, offsets[1] - offsets[0]
    if takes != given:
        raise ValueError(f"{where}: {code} of shape {shape} takes {takes} bytes, not {given}")
    return Entry(code, tuple(shape), *offsets)


def _are_sizes(values: Any) -> bool:
    """Whether the value is a list of whole numbers from 0 up; True and False are not numbers."""
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= sys.maxsize for value in values
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {_show(key)} appears twice")
        result[key] = value
    return result


def _read_array(file: BinaryIO, entry: Entry, where: str) -> np.ndarray:
    array = np.empty(entry.shape, _FORMATS[entry.dtype])
    data = array.reshape(-1).view(np.uint8)
    if file.readinto(data) != array.nbytes:
        raise ValueError(f"{where}: the file ended while it was being read")
    if entry.dtype == "BOOL" and data.max(initial=0) > 1:
        raise ValueError(f"{where}: a BOOL is 0 or 1, and this holds {data.max()}")
    return from_bfloat16(array) if entry.dtype == "BF16" else array
