"""Byte pair encoding: by hand, and against a plain reference implementation."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest

from chapter_02_text_generation.byte_pair_encoding import BPETokenizer
from chapter_02_text_generation.pretokenizer import split_words


@pytest.fixture(scope="module")
def shakespeare(reference_data):
    return (reference_data / "tinyshakespeare.txt").read_text(encoding="utf-8")


# A plain reference: everything counted again at every step.


def merge_everywhere(ids, pair, new):
    merged = []
    for i in ids:
        if merged and (merged[-1], i) == pair:
            merged[-1] = new
        else:
            merged.append(i)
    return merged


def plain_merges(text, count):
    words = Counter(tuple(word.encode("utf-8")) for word in split_words(text))
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        new = 256 + len(merges)
        merges.append(best)
        changed = Counter()
        for word, times in words.items():
            changed[tuple(merge_everywhere(word, best, new))] += times
        words = changed
    return merges


def plain_encode(text, merges):
    ids = []
    for word in split_words(text):
        word = list(word.encode("utf-8"))
        for rank, pair in enumerate(merges):
            word = merge_everywhere(word, pair, 256 + rank)
        ids += word
    return ids


def merges_of(tokenizer):
    return list(tokenizer.merges)


def random_texts(seed, alphabet, length, count):
    rng = random.Random(seed)
    return ["".join(rng.choices(alphabet, k=rng.randrange(length))) for _ in range(count)]


# Training


def test_merges_by_hand():
    # "aaab" twice: aa is most frequent (2 x 2), then aa-a and a-b tie at 2 and 97-98 is smaller.
    tokenizer = BPETokenizer.train("aaab\naaab", 259)
    assert merges_of(tokenizer) == [(97, 97), (97, 98), (256, 257)]
    assert tokenizer.encode("aaab") == [258]
    assert tokenizer.encode("aaaab") == [256, 256, 98]


def test_ties_go_to_the_smallest_pair():
    assert merges_of(BPETokenizer.train("zy\nba\nyz\nab", 260)) == [
        *((97, 98), (98, 97), (121, 122), (122, 121)),
    ]


@pytest.mark.parametrize("alphabet", ["ab", "ab ", "abc  .", "aàé日 \U0001f389'st1\n"])
def test_training_equals_the_plain_reference(alphabet):
    for seed, text in enumerate(random_texts(0, alphabet, 400, 40)):
        expected = plain_merges(text, 60)
        assert merges_of(BPETokenizer.train(text, 256 + 60)) == expected, f"text {seed}: {text!r}"


def test_training_on_shakespeare_equals_the_plain_reference(shakespeare):
    text = shakespeare[:60_000]
    assert merges_of(BPETokenizer.train(text, 356)) == plain_merges(text, 100)


def test_training_stops_when_no_pair_is_left():
    tokenizer = BPETokenizer.train("ab", 1000)
    assert tokenizer.vocab_size == 257
    assert BPETokenizer.train("", 1000).vocab_size == 256


def test_special_tokens_are_not_learnt_from():
    tokenizer = BPETokenizer.train("ab<|end|>ab<|end|>", 258, special_tokens=["<|end|>"])
    assert merges_of(tokenizer) == [(97, 98)]
    assert tokenizer.special_tokens == {"<|end|>": 257}


@pytest.mark.parametrize("vocab_size", [255, -1, float("nan")])
def test_vocabulary_too_small_for_the_bytes(vocab_size):
    with pytest.raises(ValueError, match="vocab_size is .* need 256"):
        BPETokenizer.train("text", vocab_size)


# Encoding


def test_encoding_equals_the_plain_reference():
    for alphabet in ["ab", "abc ", "aé日\U0001f389 b"]:
        merges = plain_merges("".join(random_texts(1, alphabet, 300, 10)), 50)
        tokenizer = BPETokenizer(merges)
        for text in random_texts(2, alphabet, 100, 50):
            assert tokenizer.encode(text) == plain_encode(text, merges), repr(text)


def test_each_learnt_token_encodes_to_itself(shakespeare):
    tokenizer = BPETokenizer.train(shakespeare[:100_000], 700)
    for i in range(256, 700):
        assert tokenizer.encode(tokenizer.decode([i])) == [i], "merges must apply in their order"


def test_decode_undoes_encode_on_random_text():
    tokenizer = BPETokenizer.train("the cat sat on the mat, the rat ate the cat", 290)
    rng = random.Random(3)
    for _ in range(300):
        points = [rng.randrange(sys.maxunicode + 1) for _ in range(rng.randrange(30))]
        text = "".join(chr(c) for c in points if not 0xD800 <= c < 0xE000)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_have_the_ids_of_their_order():
    tokenizer = BPETokenizer([(158, 157)], byte_order=range(255, -1, -1))
    assert tokenizer.encode("abc") == [256, 156], "a byte's id is its place in byte_order"


def test_long_words_without_spaces():
    text = "".join(random.Random(4).choices("ab", k=100_000)) + "a" * 100_000
    tokenizer = BPETokenizer.train(text, 300)
    assert tokenizer.vocab_size == 300
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_cache_changes_nothing_and_stays_bounded(monkeypatch):
    monkeypatch.setattr("chapter_02_text_generation.byte_pair_encoding.CACHED_WORDS", 4)
    tokenizer = BPETokenizer.train("one two three four five six seven eight", 270)
    text = "one two three four five six " * 2 + "x" * 1000
    first = tokenizer.encode(text)
    assert tokenizer.encode(text) == first == BPETokenizer(merges_of(tokenizer)).encode(text)
    assert len(tokenizer._cache) <= 4
    assert "x" * 1000 not in tokenizer._cache


def test_special_tokens_are_text_unless_allowed():
    tokenizer = BPETokenizer([], special_tokens=["<|a|>", "<|a|>b"])
    assert tokenizer.encode("<|a|>") == list(b"<|a|>")
    assert tokenizer.encode("x<|a|><|a|>by", allow_special=True) == [120, 256, 257, 121]
    assert tokenizer.decode([120, 256, 257, 121]) == "x<|a|><|a|>by"


def test_half_a_character_decodes_to_the_replacement_character():
    tokenizer = BPETokenizer([])
    assert tokenizer.decode("é".encode()[:1]) == "\ufffd"


@pytest.mark.parametrize("text", ["ab\ud800c", "ab\udfff", "ab\ude00\ud83d"])
def test_lone_surrogates_are_named_with_their_position(text):
    tokenizer = BPETokenizer([])
    for use in (tokenizer.encode, lambda text: BPETokenizer.train(text, 300)):
        with pytest.raises(ValueError, match="at position 2 is a lone surrogate") as error:
            use(text)
        assert error.type is ValueError
        str(error.value).encode("utf-8")


def test_unknown_id_is_named():
    with pytest.raises(ValueError, match="id 256 is not one of the ids 0 to 255"):
        BPETokenizer([]).decode([97, 256])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(97, 98), (300, 1)],), "merge 1 joins ids 300 and 1, not two below 257"),
        (([(97, -1)],), "merge 0 joins"),
        (([(97, 98.0)],), "merge 0 joins"),
        (([(97, 98), (97, 98)],), "merge 1 joins ids 97 and 98 a second time"),
        (([], [0] * 256), "byte_order"),
        (([], None, "<|end|>"), "list of strings"),
        (([], None, ["a", "a"]), "must differ"),
        (([], None, [""]), "none of them empty"),
    ],
)
def test_constructor_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        BPETokenizer(*arguments)


# Files


def test_save_and_load(tmp_path, shakespeare):
    tokenizer = BPETokenizer.train(shakespeare[:20_000], 400, special_tokens=["<|é|>"])
    tokenizer.save(tmp_path / "bpe.json")
    loaded = BPETokenizer.load(tmp_path / "bpe.json")
    text = shakespeare[20_000:30_000] + "<|é|>"
    assert loaded.encode(text, allow_special=True) == tokenizer.encode(text, allow_special=True)
    assert loaded.vocab_size == 400


@pytest.mark.parametrize(
    "state", ["", '"merges": 5', '"merges": [5]', '"merges": [[1, 2, 3]]', '"merges": [[1, 999]]']
)
def test_load_names_a_bad_file_in_one_line(tmp_path, state):
    path = tmp_path / "bad.json"
    path.write_text('{"tokenizer": "BPETokenizer"' + (", " + state if state else "") + "}")
    with pytest.raises(ValueError, match="bad.json: not a valid BPETokenizer: ") as error:
        BPETokenizer.load(path)
    assert "\n" not in str(error.value)
