"""GPT-2's tokenizer: its words, its files, and its ids against tiktoken's."""

from __future__ import annotations

import random
import re
import shutil
import sys
import unicodedata

import numpy as np
import pytest

from chapter_02_text_generation.byte_pair_encoding import BPETokenizer
from chapter_02_text_generation.gpt2_files import byte_characters
from chapter_02_text_generation.pretokenizer import split_words

HARD_STRINGS = [
    "",
    " ",
    "a",
    "Hello, world!",
    "We've said I'm he'll they'd it's don't you're; WE'VE 'tis 's",
    "   leading, trailing   ",
    "a  b   c    d",
    "tab\tnew\nline\r\nend\n\n\n  x",
    "\x00\x01\x1b\x1c\x1d\x1e\x1f\x7f\x80\x85\x9f \x1c a\x1c",
    "\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000 \u200b\u180e\ufeff x",
    "e\u0301 e\u0301\u0302\u0303 क्षि நி กำ",
    "日本語のテキスト、中文字符。한국어",
    "مرحبا بالعالم שלום עולם \u202eabc\u202c",
    # Joined, modified and paired symbols: a party, a family, a flag, a thumb, Japan.
    "\U0001f389\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd\U0001f1ef\U0001f1f5 x\U0001f389y",
    "½ ² Ⅷ ٣ 一二三 𝟘𝟙 ①x2",
    "ǅ ʰ ª º 𝒜𝓑 𐐷",
    "<|endoftext|> <|endoftext|>",
    "\U0010ffff \ue000 \ufffe \ufdd0",
    "'''s''t'" + "'re" * 5,
    "3.14159e-10 0x1F 1,000,000",
    "a" * 3000,
    " " * 3000 + "x",
    "ab" * 1000 + "!?" * 1000,
]


@pytest.fixture(scope="module")
def gpt2(reference_data):
    return BPETokenizer.from_gpt2(reference_data / "gpt2")


@pytest.fixture(scope="module")
def tiktoken_gpt2(reference_data, tmp_path_factory):
    tiktoken = pytest.importorskip("tiktoken", reason="install the oracle extra: tiktoken")
    cache = tmp_path_factory.mktemp("tiktoken")
    source = reference_data / "gpt2"
    shutil.copy(source / "vocab.bpe", cache / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee")
    shutil.copy(source / "encoder.json", cache / "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        return tiktoken.get_encoding("gpt2")


@pytest.fixture(scope="module")
def shakespeare(reference_data):
    return (reference_data / "tinyshakespeare.txt").read_text(encoding="utf-8")


# Words


def test_words_by_hand():
    assert split_words("They're  here, all 3.") == [
        *("They", "'re", " ", " here", ",", " all", " 3", "."),
    ]


def test_white_space_is_unicodes_not_pythons():
    assert split_words("a\u202f\x1c\x1fb") == ["a", "\u202f", "\x1c\x1f", "b"]
    assert split_words("a \u3000 b") == ["a", " \u3000", " b"]


def test_words_joined_are_the_text():
    for text in HARD_STRINGS:
        assert "".join(split_words(text)) == text


def test_every_code_point_belongs_to_some_word():
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    assert "".join(split_words(text)) == text


# Files


def test_save_and_load_gpt2(tmp_path, gpt2):
    gpt2.save(tmp_path / "gpt2.json")
    loaded = BPETokenizer.load(tmp_path / "gpt2.json")
    for text in HARD_STRINGS:
        assert loaded.encode(text) == gpt2.encode(text)


def test_byte_characters():
    characters = byte_characters()
    assert len(set(characters)) == 256
    assert characters[ord("A")] == "A"
    assert characters[ord(" ")] == "Ġ"
    assert characters[ord("\n")] == "Ċ"
    assert characters.isprintable()


@pytest.fixture
def gpt2_copy(reference_data, tmp_path):
    return shutil.copytree(str(reference_data / "gpt2"), str(tmp_path / "gpt2"))


def damage(folder, name, change):
    path = f"{folder}/{name}"
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(change(content))


def replace_line(number, line):
    def change(content):
        lines = content.split(b"\n")
        lines[number - 1] = line
        return b"\n".join(lines)

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("encoder.json", lambda c: c[:1000], "encoder.json: not a JSON file"),
        ("encoder.json", lambda c: b"{}", "encoder.json: ids 0 to 255"),
        ("encoder.json", lambda c: c.replace(b'"\\"": 1,', b'"\\"": 2,'), "encoder.json: the ids"),
        ("encoder.json", lambda c: c.replace(b'"!": 0,', b'"!": null,'), "encoder.json: the ids"),
        ("encoder.json", lambda c: c.replace(b'"!":', b'"!!!!!!!!!":'), "encoder.json: ids 0"),
        ("vocab.bpe", lambda c: b"", "vocab.bpe: line 1 .*#version"),
        ("vocab.bpe", lambda c: b"\xff" + c, "vocab.bpe: not UTF-8"),
        ("vocab.bpe", lambda c: c[:100_000], "vocab.bpe: "),
        ("vocab.bpe", lambda c: b"\n".join(c.split(b"\n")[:900]), "vocab.bpe: 899 merges do not"),
        ("vocab.bpe", replace_line(7, b"one"), "vocab.bpe: line 7 should be two tokens"),
        ("vocab.bpe", replace_line(7, b""), "vocab.bpe: line 7 should be two tokens"),
        ("vocab.bpe", replace_line(7, b"a  b"), "vocab.bpe: line 7 should be two tokens"),
        ("vocab.bpe", replace_line(7, b"xqxq z"), "vocab.bpe: line 7 merges 'xqxq', which .*"),
        ("vocab.bpe", replace_line(7, b"t h"), "vocab.bpe: line 7 should make .* 261, it makes"),
    ],
)
def test_damaged_gpt2_files_are_named_with_the_line(gpt2_copy, name, change, message):
    damage(gpt2_copy, name, change)
    with pytest.raises(ValueError, match=message) as error:
        BPETokenizer.from_gpt2(gpt2_copy)
    assert "\n" not in str(error.value)


def test_missing_gpt2_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="encoder.json"):
        BPETokenizer.from_gpt2(tmp_path)


# GPT-2's vocabulary


def test_gpt2_known_ids(gpt2):
    assert gpt2.vocab_size == 50257
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode("<|endoftext|>", allow_special=True) == [50256]
    assert gpt2.decode(np.array([15496, 995, 50256])) == "Hello world<|endoftext|>"


@pytest.mark.parametrize("text", HARD_STRINGS, ids=ascii)
def test_hard_strings_equal_tiktoken(gpt2, tiktoken_gpt2, text):
    assert gpt2.encode(text) == tiktoken_gpt2.encode_ordinary(text)
    assert gpt2.decode(gpt2.encode(text)) == text


def test_shakespeare_equals_tiktoken(gpt2, tiktoken_gpt2, shakespeare):
    ids = gpt2.encode(shakespeare)
    assert ids == tiktoken_gpt2.encode_ordinary(shakespeare)
    assert gpt2.decode(ids) == shakespeare


@pytest.fixture(scope="module")
def assigned():
    """The characters that this Python's Unicode tables know."""
    points = map(chr, range(sys.maxunicode + 1))
    return [c for c in points if unicodedata.category(c) not in ("Cn", "Cs")]


def test_every_assigned_character_equals_tiktoken(gpt2, tiktoken_gpt2, assigned):
    # A letter and a digit beside each: the ids then tell which class the character belongs to.
    for start in range(0, len(assigned), 2000):
        text = "".join(f" {c}e1{c}" for c in assigned[start : start + 2000])
        expected = tiktoken_gpt2.encode_ordinary(text)
        assert gpt2.encode(text) == expected, f"differs near {assigned[start]!r}"


def test_random_strings_equal_tiktoken(gpt2, tiktoken_gpt2, assigned):
    rng = random.Random(5)
    common = " \n\t\r'sdmtlvre.,019\xa0\u2028\u3000\x1c\x85éÀ日\U0001f389\u0301½"
    for _ in range(2000):
        pool = assigned if rng.random() < 0.5 else common
        text = "".join(
            rng.choice(pool if rng.random() < 0.7 else common) for _ in range(rng.randrange(40))
        )
        assert gpt2.encode(text) == tiktoken_gpt2.encode_ordinary(text), repr(text)
        assert gpt2.decode(gpt2.encode(text)) == text


def test_every_gpt2_token_equals_tiktoken(gpt2, tiktoken_gpt2):
    tokens = [gpt2.decode([i]) for i in range(gpt2.vocab_size - 1)]
    readable = [token for token in tokens if not re.search("\ufffd", token)]
    assert len(readable) > 49_000
    for token, expected in zip(readable, tiktoken_gpt2.encode_ordinary_batch(readable)):
        assert gpt2.encode(token) == expected, repr(token)
