"""The character tokenizer, and the JSON files that all tokenizers share."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chapter_02_text_generation.character_tokenizer import CharacterTokenizer


def test_ids_follow_the_code_points_after_the_special_tokens():
    tokenizer = CharacterTokenizer.train("emma olivia", special_tokens=["."])
    assert tokenizer.vocab_size == 9
    assert tokenizer.special_tokens == {".": 0}
    assert tokenizer.encode(". aeilmov") == list(range(9))
    assert tokenizer.decode([8, 5, 4, 8, 0]) == "vliv."


def test_a_special_token_that_occurs_in_the_text_is_numbered_once():
    tokenizer = CharacterTokenizer.train("ann\nbob\n", special_tokens="\n")
    assert tokenizer.encode("\nabno") == [0, 1, 2, 3, 4]


def test_makemore_vocabulary(reference_data):
    names = (reference_data / "names.txt").read_text().split()
    tokenizer = CharacterTokenizer.train("".join(names), special_tokens=["."])
    assert tokenizer.vocab_size == 27
    assert tokenizer.encode(".emma.") == [0, 5, 13, 13, 1, 0]


@pytest.mark.parametrize("text", ["", "a", "naïve 日本 \U0001f389\r\n\x00", "\ud800"])
def test_decode_undoes_encode(text):
    tokenizer = CharacterTokenizer.train(text + "z")
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decode_takes_numpy_integers():
    tokenizer = CharacterTokenizer.train("abc")
    assert tokenizer.decode(np.array([2, 1, 0])) == "cba"


def test_unknown_character_is_named_with_its_position_and_the_vocabulary():
    tokenizer = CharacterTokenizer.train("abc\n")
    with pytest.raises(ValueError) as error:
        tokenizer.encode("abécé")
    message = str(error.value)
    assert "'é' at position 2" in message
    assert r"'\nabc'" in message
    assert "\n" not in message


@pytest.mark.parametrize("bad", [-1, 3])
def test_unknown_id_is_named(bad):
    with pytest.raises(ValueError, match=f"id {bad} is not one of the ids 0 to 2"):
        CharacterTokenizer.train("abc").decode([0, bad, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "the vocabulary is empty"),
        ((["a", "bc"],), "one character, not 'bc'"),
        ((["a", 1],), "one character, not 1"),
        (("aba",), "'a' more than once"),
        (("ab", "b"), "'b' more than once"),
    ],
)
def test_constructor_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        CharacterTokenizer(*arguments)


def test_save_and_load(tmp_path):
    tokenizer = CharacterTokenizer.train('"é\U0001f389\ud83d\n', special_tokens=["."])
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = CharacterTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.encode('.\n"é\U0001f389\ud83d') == tokenizer.encode('.\n"é\U0001f389\ud83d')
    assert loaded.special_tokens == tokenizer.special_tokens
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"tokenizer": "Chara',
        b"\xff\xfe",
        b"[1]",
        b"[" * 100_000,
        b'{"tokenizer": "BPETokenizer", "merges": []}',
        b'{"tokenizer": "CharacterTokenizer"}',
        b'{"tokenizer": "CharacterTokenizer", "characters": 5}',
        b'{"tokenizer": "CharacterTokenizer", "characters": ["a", null]}',
        b'{"tokenizer": "CharacterTokenizer", "characters": ["a"], "special_tokens": ["a"]}',
        b'{"tokenizer": "CharacterTokenizer", "characters": ["a"], "colour": 1}',
    ],
)
def test_load_names_a_bad_file_in_one_line(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bad.json: ") as error:
        CharacterTokenizer.load(path)
    assert "\n" not in str(error.value)


def test_load_of_a_missing_file_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.json"):
        CharacterTokenizer.load(tmp_path / "absent.json")


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    CharacterTokenizer("ab").save(path)
    monkeypatch.setattr("os.replace", _disk_full)
    with pytest.raises(OSError, match="disk full"):
        CharacterTokenizer("xyz").save(path)
    assert json.loads(path.read_text())["characters"] == ["a", "b"]
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def _disk_full(*_):
    raise OSError("disk full")
