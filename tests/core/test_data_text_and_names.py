"""load_text, load_names and the splits: built in, by path, and every bad file in one clear line."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from utils.data import (
    colour_names,
    load_names,
    load_text,
    looks_like_names,
    split_names,
    split_text,
)


def message_of(error, load, source) -> str:
    with pytest.raises(error) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message, f"an error message is one line, yours is {message!r}"
    return message


def test_built_in_text_is_long_and_repeats_no_paragraph():
    text = load_text()
    paragraphs = text.strip("\n").split("\n\n")
    assert len(text) > 100_000, "the language reference has hundreds of thousands of characters"
    assert len(paragraphs) == len(set(paragraphs)), "a repeated paragraph leaks into the test part"


def test_a_python_without_its_reference_says_what_to_use_instead(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert "tinyshakespeare" in message_of(FileNotFoundError, load_text, None)


def test_text_by_path_has_unix_line_ends_and_no_byte_order_mark(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\r\nau lait\r")
    assert load_text(path) == load_text(str(path)) == "café\nau lait\n"


@pytest.mark.parametrize("load", [load_text, load_names])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \n\t\n", "only white space"),
        (b"anna\nbob\0\n", "NUL byte at offset 8"),
        ("anna\nbob\n".encode("utf-16"), "NUL byte"),
        (b"anna\nzo\xeb\n", "byte 0xeb at offset 7"),
    ],
    ids=["empty", "blank", "nul", "utf-16", "latin-1"],
)
def test_files_that_are_not_text_are_refused(tmp_path, load, content, said):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    message = message_of(ValueError, load, path)
    assert said in message, f"say what is wrong with the file; yours says {message!r}"
    assert str(path) in message, f"name the file; yours says {message!r}"


@pytest.mark.parametrize(("load", "known"), [(load_text, "tinyshakespeare"), (load_names, "names")])
def test_an_unknown_source_lists_the_known_names(load, known):
    for source in ["no-such-thing", "", "x" * 5000, "a\0b"]:
        message = message_of(FileNotFoundError, load, source)
        assert repr(source) in message
        assert f": {known}" in message


@pytest.mark.parametrize("load", [load_text, load_names])
def test_a_folder_is_no_file(tmp_path, load):
    assert str(tmp_path) in message_of(IsADirectoryError, load, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/zero")
def test_an_endless_device_is_refused():
    assert "regular file" in message_of(ValueError, load_text, "/dev/zero")


def test_a_list_of_names_needs_several_lines(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("anna, bob and carol\n\n")
    assert "one a line" in message_of(ValueError, load_names, path)


def test_names_are_stripped_and_keep_their_order(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"  zoe \r\n\r\nanna\r\nmary ann")
    assert load_names(path) == ["zoe", "anna", "mary ann"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("anna\nbob\ncarol\n", True),
        ("anna\nbob", True),
        ("\n\nanna\nbob\n\n", True),
        ("zoë\n李雷\n", True),
        ("\n".join(["anna"] * 19 + ["mary ann"]), True),
        ("\n".join(["anna"] * 18 + ["mary ann"]), False),
        ("to be or not\nto be that is\nthe question\n", False),
        ("anna\n\nbob\n", False),
        ("anna\n  \nbob\n", False),
        ("a" * 40 + "\nbob\n", True),
        ("a" * 41 + "\nbob\n", False),
        ("", False),
        ("\n\n", False),
        (" ", False),
    ],
    ids=repr,
)
def test_names_are_known_by_short_lines_without_spaces(text, names):
    assert looks_like_names(text) is names


def test_what_the_reference_files_are(reference_data):
    for name, expected in {"names.txt": True, "tinyshakespeare.txt": False}.items():
        assert looks_like_names(load_text(reference_data / name)) is expected, name
    assert not looks_like_names(load_text())


def test_colour_names_come_with_their_colours():
    names, rgb = colour_names()
    assert names == load_names()
    assert len(names) == len(set(names)) == 949
    assert rgb.shape == (949, 3)
    assert rgb.dtype == np.float32
    # The survey's #cb416b and #ffffff.
    np.testing.assert_allclose(rgb[names.index("dark pink")] * 255, [0xCB, 0x41, 0x6B], rtol=1e-6)
    np.testing.assert_allclose(rgb[names.index("white")], [1, 1, 1])


def test_split_names_is_makemores(reference_data):
    names = load_names(reference_data / "names.txt")
    parts = split_names(names)
    assert [len(part) for part in parts] == [25_626, 3_203, 3_204]
    # The first words of the training part in Karpathy's lectures on makemore.
    assert parts[0][:5] == ["yuheng", "diondre", "xavien", "jori", "juanluis"]


def test_split_names_loses_nothing_and_leaves_its_argument_and_the_global_generator_alone():
    names = [f"name{i}" for i in range(100)]
    before = list(names), random.getstate()
    train, validation, test = split_names(names)
    assert (names, random.getstate()) == before
    assert [len(train), len(validation), len(test)] == [80, 10, 10]
    assert sorted(train + validation + test) == sorted(names)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_split_names_refuses_empty_parts(count):
    with pytest.raises(ValueError, match=f"{count} names are too few"):
        split_names(["anna"] * count)


def test_split_text_keeps_the_last_tenth_for_validation():
    train, validation = split_text("0123456789" * 10)
    assert (train, validation) == ("0123456789" * 9, "0123456789")
    with pytest.raises(ValueError, match="length 1 is too short"):
        split_text("a")
