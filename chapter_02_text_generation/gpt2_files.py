"""GPT-2's tokenizer comes as two text files: `encoder.json` gives every token its id, and
`vocab.bpe` lists the merges, the earliest first (Hugging Face calls them `vocab.json` and
`merges.txt`). Since text files hold characters, not bytes, each of the 256 bytes is written as a
printable character of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

from chapter_02_text_generation.tokenizer import read_json_object, read_text

# What follows the merges: the mark between two documents.
SPECIAL_TOKENS = ["<|endoftext|>"]


def read_gpt2_files(
    folder: str | os.PathLike,
) -> tuple[list[tuple[int, int]], list[int], list[str]]:
    """Read the two files in `folder`, by either pair of names: merges, byte order, special tokens.

    Merges are pairs of ids; the byte order tells which byte each of the ids 0 to 255 stands for.
    Raises OSError for a missing file, and ValueError, with file and line, for a damaged one.
    Source: the `encoder.py` of OpenAI's GPT-2 (Radford et al., 2019).
    """
    theirs = (Path(folder) / "vocab.json").exists()
    names = ("vocab.json", "merges.txt") if theirs else ("encoder.json", "vocab.bpe")
    vocabulary_path, merges_path = (Path(folder) / name for name in names)
    ids = read_json_object(vocabulary_path)
    if sorted(map(repr, ids.values())) != sorted(map(repr, range(len(ids)))):
        raise ValueError(f"{vocabulary_path}: the ids are not the numbers 0 to {len(ids) - 1}")
    tokens = sorted(ids, key=ids.__getitem__)

    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    if set(tokens[:256]) != set(byte_of):
        raise ValueError(f"{vocabulary_path}: ids 0 to 255 are not the characters of the 256 bytes")
    byte_order = [byte_of[token] for token in tokens[:256]]

    merges = []
    header, *lines = read_text(merges_path).rstrip("\n").split("\n")
    if not header.startswith("#version"):
        raise ValueError(
            f"{merges_path}: line 1 should begin with '#version', it is {header[:40]!r}"
        )
    for number, line in enumerate(lines, start=2):
        where = f"{merges_path}: line {number}"
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise ValueError(
                f"{where} should be two tokens and one space between, it is {line[:40]!r}"
            )
        for part in parts:
            if part not in ids:
                raise ValueError(f"{where} merges {part!r}, which {vocabulary_path} does not name")
        merged, expected = ids.get("".join(parts)), 256 + len(merges)
        if merged != expected:
            raise ValueError(f"{where} should make the token with id {expected}, it makes {merged}")
        merges.append((ids[parts[0]], ids[parts[1]]))
    if tokens[256 + len(merges) :] != SPECIAL_TOKENS:
        raise ValueError(
            f"{merges_path}: {len(merges)} merges do not account for the {len(ids)} tokens of "
            f"{vocabulary_path}: is the end of one of the files missing?"
        )
    return merges, byte_order, SPECIAL_TOKENS


def byte_characters() -> str:
    """The 256 characters that stand for the bytes 0 to 255 in GPT-2's files.

    A byte that is printable in Latin-1 stands for itself, the others take U+0100, U+0101, ... in
    order: a space is written as "Ġ" (U+0120) and a line feed as "Ċ" (U+010A).
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("ÿ") + 1)} - {ord("\xad")}
    unprintable = [byte for byte in range(256) if byte not in printable]
    return "".join(
        chr(byte if byte in printable else 256 + unprintable.index(byte)) for byte in range(256)
    )
