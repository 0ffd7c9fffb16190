"""The safetensors layout: bytes by hand, agreement with the library, and files that lie."""

from __future__ import annotations

import json
import struct
import tracemalloc

import numpy as np
import pytest

from utils.weights import (
    from_bfloat16,
    load_weights,
    load_with_metadata,
    read_header,
    save_weights,
    to_bfloat16,
)

DTYPES = ["?", "i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8"]
SHAPES = [(), (0,), (1,), (3, 0, 2), (2, 3), (7, 1, 5)]


def every_array(rng):
    """An array of every dtype and shape, zero-size and 0-d included."""
    return {
        f"{dtype}{shape}": np.asarray(rng.integers(-99, 99, shape)).astype(dtype)
        for dtype in DTYPES
        for shape in SHAPES
    }


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        assert actual[name].shape == array.shape, name
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def write_raw(path, header, data=b"", length=None):
    """Write a file with a header of one's own: bytes as they are, anything else as JSON."""
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    length = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", length) + header + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def assert_refused(path, *words):
    """Loading fails with one line of ValueError that names the file and holds the words."""
    with pytest.raises(ValueError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message and len(message) < 2000
    for word in words:
        assert word in message


# Writing


def test_the_bytes_by_hand(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"b": np.array([True]), "a": np.array([1.0, -2.0], np.float32)})
    header = (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"b":{"dtype":"BOOL","shape":[1],"data_offsets":[8,9]}}'
    )
    header += b" " * (-len(header) % 8)
    data = b"\x00\x00\x80\x3f\x00\x00\x00\xc0\x01"
    assert path.read_bytes() == struct.pack("<Q", len(header)) + header + data


def test_what_is_saved_comes_back(tmp_path, rng):
    path = tmp_path / "w.safetensors"
    arrays = every_array(rng)
    save_weights(path, arrays, {"format": "pt", "naïve": "ключ"})
    loaded, metadata = load_with_metadata(path)
    assert_same(loaded, arrays)
    assert metadata == {"format": "pt", "naïve": "ключ"} == read_header(path).metadata


def test_special_floats_keep_their_bits(tmp_path):
    path = tmp_path / "w.safetensors"
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7e308])
    save_weights(path, {"x": x})
    np.testing.assert_array_equal(load_weights(path)["x"].view(np.uint64), x.view(np.uint64))


def test_any_memory_layout_gives_the_same_bytes(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    wide = np.zeros((2, 3, 8), np.float32)
    wide[:, :, ::2] = x
    layouts = [x, np.asfortranarray(x), wide[:, :, ::2], x.astype(">f4"), x[::-1].copy()[::-1]]
    files = []
    for layout in layouts:
        save_weights(tmp_path / "w", {"x": layout})
        files.append((tmp_path / "w").read_bytes())
    assert all(file == files[0] for file in files)
    assert_same(load_weights(tmp_path / "w"), {"x": x})


def test_the_order_of_the_arrays_does_not_matter(tmp_path, rng):
    arrays = every_array(rng)
    save_weights(tmp_path / "a", arrays)
    save_weights(tmp_path / "b", dict(reversed(list(arrays.items()))))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_array_starts_aligned(tmp_path, rng):
    save_weights(tmp_path / "w", every_array(rng), {"pad": "x"})
    (length,) = struct.unpack("<Q", (tmp_path / "w").read_bytes()[:8])
    assert length % 8 == 0
    for name, (code, _, begin, _) in read_header(tmp_path / "w").entries.items():
        itemsize = 1 if code == "BOOL" else int(code.lstrip("FIUB")) // 8
        assert begin % itemsize == 0, name


def test_loaded_arrays_are_ones_own(tmp_path):
    shared = np.arange(4.0)
    save_weights(tmp_path / "w", {"a": shared, "b": shared, "c": shared[::2]})
    first, second = load_weights(tmp_path / "w"), load_weights(tmp_path / "w")
    first["a"][:] = -1
    first["c"][:] = -2
    assert all(array.flags.writeable and array.flags.owndata for array in first.values())
    assert_same({"b": first["b"]}, {"b": shared})
    assert_same(second, {"a": shared, "b": shared, "c": shared[::2]})


def test_no_arrays(tmp_path):
    save_weights(tmp_path / "w", {})
    assert load_with_metadata(tmp_path / "w") == ({}, {})


@pytest.mark.parametrize(
    "arrays, options, words",
    [
        ({"w": np.array([None])}, {}, "'w' is object"),
        ({"w": np.zeros(2, complex)}, {}, "'w' is complex128"),
        ({"w": np.array(["a"])}, {}, "'w' is <U1"),
        ({"w": np.zeros(2, "m8[s]")}, {}, "'w' is timedelta64"),
        ({3: np.zeros(2)}, {}, "cannot be named 3"),
        ({"__metadata__": np.zeros(2)}, {}, "cannot be named"),
        ({"\ud800": np.zeros(2)}, {}, "not valid Unicode"),
        ({"w": np.zeros(2)}, {"metadata": {"step": 3}}, "metadata maps str to str"),
        ({"w": np.zeros(2)}, {"metadata": {"x": "x" * 100_000_000}}, "over 100,000,000"),
        ({"w": np.zeros(2)}, {"bfloat16": ["v"]}, "'v' is not the name of a floating array"),
        ({"w": np.zeros(2, int)}, {"bfloat16": ["w"]}, "'w' is not the name of a floating array"),
    ],
)
def test_what_cannot_be_held_is_refused_before_writing(tmp_path, arrays, options, words):
    path = tmp_path / "w"
    save_weights(path, {"old": np.ones(3)})
    with pytest.raises(ValueError, match=words):
        save_weights(path, arrays, **options)
    assert_same(load_weights(path), {"old": np.ones(3)})
    assert [child.name for child in tmp_path.iterdir()] == ["w"]


# bfloat16


@pytest.mark.parametrize(
    "value, bits",
    [
        (1.0, 0x3F80),
        (-2.0, 0xC000),
        (1 + 2**-8, 0x3F80),  # halfway between two numbers: to the even one, here down
        (1 + 3 * 2**-8, 0x3F82),  # and here up
        (1 + 2**-8 + 2**-20, 0x3F81),  # just over halfway
        (3.4e38, 0x7F80),  # too large: infinity
        (-np.inf, 0xFF80),
        (-0.0, 0x8000),
        (2.0**-133, 0x0001),  # the smallest number above 0
        (2.0**-134, 0x0000),
    ],
)
def test_bfloat16_by_hand(value, bits):
    assert to_bfloat16(np.float32(value)) == bits


def test_every_bfloat16_survives_the_round_trip():
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = from_bfloat16(bits)
    is_nan = np.isnan(numbers)
    np.testing.assert_array_equal(to_bfloat16(numbers)[~is_nan], bits[~is_nan])
    assert is_nan.sum() == 2 * (2**7 - 1)
    assert np.isnan(from_bfloat16(to_bfloat16(numbers[is_nan]))).all()


def test_a_nan_with_any_payload_stays_a_nan_of_its_sign():
    payloads = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32)
    rounded = from_bfloat16(to_bfloat16(payloads.view(np.float32)))
    assert np.isnan(rounded).all()
    np.testing.assert_array_equal(np.signbit(rounded), [False, False, True, True])


def test_bfloat16_rounds_to_the_nearest(rng):
    x = rng.standard_normal(5000).astype(np.float32)
    rounded = from_bfloat16(to_bfloat16(x)).astype(np.float64)
    above = from_bfloat16(to_bfloat16(x) + np.uint16(1)).astype(np.float64)
    below = from_bfloat16(to_bfloat16(x) - np.uint16(1)).astype(np.float64)
    error = np.abs(rounded - x)
    assert (error <= np.abs(above - x)).all() and (error <= np.abs(below - x)).all()


@pytest.mark.parametrize("shape", [(), (0, 3), (4, 3)])
def test_bfloat16_in_a_file(tmp_path, rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    arrays = {"half": x, "whole": x, "double": x.astype(np.float64), "ids": np.arange(3)}
    save_weights(tmp_path / "w", arrays, bfloat16=["half", "double"])
    loaded, entries = load_weights(tmp_path / "w"), read_header(tmp_path / "w").entries
    assert [entries[name].dtype for name in arrays] == ["BF16", "F32", "BF16", "I64"]
    rounded = from_bfloat16(to_bfloat16(x))
    assert rounded.shape == shape
    expected = {"half": rounded, "whole": x, "double": rounded, "ids": np.arange(3)}
    assert_same(loaded, expected)


def test_bits_must_be_uint16():
    with pytest.raises(ValueError, match="uint16, not float32"):
        from_bfloat16(np.zeros(3, np.float32))


# Agreement with the library


def test_the_library_reads_and_writes_the_same_bytes(tmp_path, rng):
    numpy_library = pytest.importorskip(
        "safetensors.numpy", reason="safetensors is not there: install the oracle extra"
    )
    arrays = every_array(rng)
    for metadata in (None, {"format": "np"}, {"naïve": '"quoted" \n ключ \U0001f642'}):
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        save_weights(ours, arrays, metadata)
        numpy_library.save_file(arrays, theirs, metadata)
        assert_same(numpy_library.load_file(ours), arrays)
        assert_same(load_weights(theirs), arrays)
        assert ours.read_bytes() == theirs.read_bytes()
        assert read_header(theirs).metadata == (metadata or {})


def test_bfloat16_is_pytorchs(tmp_path, rng):
    reason = "PyTorch and safetensors are not there: install the oracle extra"
    torch = pytest.importorskip("torch", reason=reason)
    torch_library = pytest.importorskip("safetensors.torch", reason=reason)
    x = rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)  # any bits, NaN included
    theirs = torch.from_numpy(x).to(torch.bfloat16)
    save_weights(tmp_path / "ours", {"x": x, "half": np.ones(3, np.float16)}, bfloat16=["x"])
    torch_library.save_file({"x": theirs}, tmp_path / "theirs")
    read = torch_library.load_file(tmp_path / "ours")
    assert read["x"].dtype == torch.bfloat16 and read["half"].dtype == torch.float16
    np.testing.assert_array_equal(read["x"].float().numpy(), theirs.float().numpy())
    np.testing.assert_array_equal(load_weights(tmp_path / "theirs")["x"], theirs.float().numpy())


@pytest.mark.parametrize("family, count", [("gpt2", 28), ("llama", 21)])
def test_hugging_face_checkpoints_load(reference_data, family, count):
    path = reference_data / f"hf_tiny_{family}" / "model.safetensors"
    arrays, metadata = load_with_metadata(path)
    assert metadata == {"format": "pt"}
    assert len(arrays) == count
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values())


# Files that lie


@pytest.mark.parametrize(
    "header, words",
    [
        (b"", ["not a JSON object"]),
        (b"[]", ["not a JSON object"]),
        (b' {"a": 1}', ["not a JSON object"]),
        (b'{"a"', ["not valid JSON"]),
        (b"{} {}", ["not valid JSON"]),
        (b'{"\xff": 1}', ["not valid JSON", "utf-8"]),
        (b'{"a":' + b"[" * 100_000, ["not valid JSON"]),
        (b'{"w": {}, "w": {}}', ["'w' appears twice"]),
        (b'{"w": {"dtype": "F32", "dtype": "F64"}}', ["'dtype' appears twice"]),
        ({"__metadata__": {"a": 1}}, ["__metadata__"]),
        ({"__metadata__": []}, ["__metadata__"]),
        ({"w": 3}, ["'w'", "needs dtype"]),
        ({"w": {"dtype": "F32", "shape": []}}, ["'w'", "needs dtype"]),
        ({"w": entry("F8_E4M3")}, ["'w'", "F8_E4M3"]),
        ({"w": entry(["F32"])}, ["'w'", "dtype"]),
        ({"w": entry(shape=[-2])}, ["'w'", "impossible shape: [-2]"]),
        ({"w": entry(shape=[2.0])}, ["'w'", "impossible shape"]),
        ({"w": entry(shape=[True, 2])}, ["'w'", "impossible shape"]),
        ({"w": entry(shape=["2"])}, ["'w'", "impossible shape"]),
        ({"w": entry(shape=2)}, ["'w'", "impossible shape"]),
        ({"w": entry(shape=[1] * 32 + [2])}, ["'w'", "impossible shape"]),
        ({"w": entry(shape=[float("nan")])}, ["'w'", "impossible shape"]),
        ({"w": entry(shape=[2**64])}, ["'w'", "impossible shape"]),
        ({"w": entry(shape=[2**32, 2**32])}, ["'w'", "too large"]),
        ({"w": entry(shape=[0, 2**62, 2**62], offsets=[0, 0])}, ["'w'", "too large"]),
        ({"w": entry(shape=[2**61 - 1], offsets=[0, 2**63 - 4])}, ["'w'", "truncated"]),
        ({"w": entry(shape=[2**60], offsets=[0, 2**62])}, ["'w'", "truncated"]),
        ({"w": entry(shape=[3])}, ["'w'", "takes 12 bytes, not 8"]),
        ({"w": entry(offsets=[8, 0])}, ["'w'", "data_offsets"]),
        ({"w": entry(offsets=[-8, 0])}, ["'w'", "data_offsets"]),
        ({"w": entry(offsets=[False, 8])}, ["'w'", "data_offsets"]),
        ({"w": entry(offsets=[0, 4, 8])}, ["'w'", "data_offsets"]),
        ({"w": entry(offsets=[4, 12])}, ["'w'", "a hole"]),
        ({"v": entry(shape=[1], offsets=[0, 4]), "w": entry()}, ["'w'", "an overlap"]),
        ({"w": entry(shape=[1], offsets=[0, 4])}, ["the file holds 8"]),
        ({"w": entry(), "v": entry(shape=[0], offsets=[4, 4])}, ["'v'", "an overlap"]),
        ({}, ["the file holds 8"]),
    ],
)
def test_a_header_that_lies(tmp_path, header, words):
    assert_refused(write_raw(tmp_path / "w", header, data=bytes(8)), *words)


def test_a_header_of_an_absurd_length(tmp_path):
    assert_refused(write_raw(tmp_path / "w", b"{}", length=3), "does not fit")
    assert_refused(write_raw(tmp_path / "w", b"{}", length=2**64 - 1), "over 100,000,000")
    path = write_raw(tmp_path / "sparse", b"{}", length=100_000_001)
    with open(path, "r+b") as file:
        file.truncate(200_000_000)
    assert_refused(path, "over 100,000,000")


def test_an_error_stays_short_and_on_one_line(tmp_path):
    assert_refused(write_raw(tmp_path / "w", {"line\nbreak" * 10_000: 3}), "needs dtype")
    assert_refused(write_raw(tmp_path / "w", {"w": entry("F" * 10_000)}), "dtype")


def test_a_bool_is_zero_or_one(tmp_path):
    path = write_raw(tmp_path / "w", {"w": entry("BOOL", [2], [0, 2])}, data=b"\x01\x02")
    assert_refused(path, "'w'", "holds 2")


def test_an_empty_array_may_share_its_neighbours_offset(tmp_path):
    header = {"w": entry(), "v": entry(shape=[3, 0], offsets=[0, 0]), "u": entry("U8", [0], [8, 8])}
    arrays = load_weights(write_raw(tmp_path / "w", header, data=bytes(8)))
    assert {name: array.shape for name, array in arrays.items()} == {
        "v": (3, 0),
        "w": (2,),
        "u": (0,),
    }


def test_every_truncation_is_refused(tmp_path, rng):
    path = tmp_path / "w"
    arrays = {"a": rng.standard_normal((3, 4)), "b": np.arange(5), "c": np.float32(1)}
    save_weights(path, arrays, {"k": "v"})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert_refused(path)


def test_random_corruption_of_the_header_never_does_worse(tmp_path, rng):
    path = tmp_path / "w"
    save_weights(path, {"a": np.ones((3, 4)), "b": np.arange(5), "c": np.float32(1)}, {"k": "v"})
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(2000):
            corrupt = bytearray(whole)
            for place in rng.integers(0, 8 + length, rng.integers(1, 4)):
                corrupt[place] = rng.choice([rng.integers(256), *b'0159-.[]{}",:'])
            path.write_bytes(corrupt)
            try:
                load_weights(path)  # a changed letter in a name, say, is a sound file
            except ValueError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert refused > 1000


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_weights(tmp_path / "absent")
