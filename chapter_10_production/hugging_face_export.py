"""A folder that transformers opens: chapter 7 writes the model, and here is what lies beside it.

Whoever loads a model from a folder expects its tokenizer there too, in that library's files, and to
be told which token ends a text. The folder appears when all is written, so that nobody ever finds
the tokenizer of one model beside the weights of another.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator

import numpy as np

from chapter_02_text_generation import BPETokenizer, CharacterTokenizer, Tokenizer
from chapter_02_text_generation.gpt2_files import byte_characters
from chapter_07_attention import GPT, GPTConfig, save_pretrained
from chapter_07_attention.hugging_face import family_of
from utils.files import atomic_write

CARD = "README.md"
TAG = "deep-learning-first-principles"  # in the head of every card: exports are known again by it
INSTALL = "pip install torch transformers (the extra 'oracle')"


def export_pretrained(
    model: GPT, folder: str | os.PathLike, card: str, tokenizer: Tokenizer | None = None
) -> Path:
    """Write a model, its tokenizer and its card, a text for its README.md, as a new folder.

    An earlier export in its place is replaced. Raises ValueError for a folder that holds anything
    else, and for a tokenizer that those files cannot say.
    """
    if TAG not in card:
        raise ValueError(f"a card's head has the tag {TAG}, by which an export is known again")
    with replaced(folder) as new:
        save_pretrained(model, new, tokenizer)
        if tokenizer is not None:
            save_tokenizer(tokenizer, new, model.config.block_size)
        end = None if tokenizer is None else next(iter(tokenizer.special_tokens.values()), None)
        # Said in any case: a Llama's file that is silent means the tokens 1 and 2.
        write_json(new / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
        with atomic_write(new / CARD) as file:
            file.write(card.encode("utf-8"))
    return Path(folder)


@contextlib.contextmanager
def replaced(folder: str | os.PathLike) -> Iterator[Path]:
    """A new folder to write in, which on success takes the place of an earlier export."""
    folder = Path(os.path.realpath(folder))
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(".tmp", f".{folder.name}.", folder.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise


def check_replaceable(folder: str | os.PathLike) -> None:
    """ValueError for what is neither an empty folder nor an earlier export."""
    folder = Path(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    card = folder / CARD
    known = card.is_file() and TAG in card.read_text(encoding="utf-8", errors="replace")
    if not known and any(folder.iterdir()):
        raise ValueError(f"{folder} holds what no export wrote: move it, or export elsewhere")


def save_tokenizer(tokenizer: Tokenizer, folder: str | os.PathLike, block_size: int) -> None:
    """Write a tokenizer in the files that transformers' AutoTokenizer reads, into a folder.

    Byte pairs become GPT-2's vocab.json and merges.txt, characters a tokenizer.json. Raises
    ValueError for other tokenizers, and for two tokens that are written alike.
    """
    save = SAVERS.get(type(tokenizer))
    if save is None:
        raise ValueError(f"transformers has nothing like a {type(tokenizer).__name__}")
    folder = Path(folder)
    end = next(iter(tokenizer.special_tokens), None)
    settings = {
        "tokenizer_class": save(tokenizer, folder),
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "bos_token": end,
        "eos_token": end,
        # None is said too: a GPT-2 that is silent about it gets a token more.
        "unk_token": None,
        "pad_token": None,
        "added_tokens_decoder": {str(i): added(t) for t, i in tokenizer.special_tokens.items()},
    }
    write_json(folder / "tokenizer_config.json", settings)


def save_byte_pairs(tokenizer: BPETokenizer, folder: Path) -> str:
    """Write the two files of GPT-2; returns the class that reads them."""
    letters, state = byte_characters(), tokenizer._state()
    written = [letters[byte] for byte in state["byte_order"]]
    lines = ["#version: 0.2"]
    for left, right in state["merges"]:
        lines.append(f"{written[left]} {written[right]}")
        written.append(written[left] + written[right])
    ids: dict[str, int] = {}
    for i, token in enumerate(written + state["special_tokens"]):
        if ids.setdefault(token, i) != i:
            raise ValueError(f"vocab.json has one id a token, and {token!r} would have two")
    write_json(folder / "vocab.json", ids)
    with atomic_write(folder / "merges.txt") as file:
        file.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
    return "GPT2Tokenizer"


def save_characters(tokenizer: CharacterTokenizer, folder: Path) -> str:
    """Write each character as a word of its own, and no word for those that are not known."""
    ids = {tokenizer.decode([i]): i for i in range(tokenizer.vocab_size)}
    every_character = {"Regex": r"[\s\S]"}
    content = {
        "version": "1.0",
        "added_tokens": [{"id": i, **added(t)} for t, i in tokenizer.special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": every_character, "behavior": "Isolated",
                          "invert": False},
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        # A word for the unknown must be named; as it has no id, the unknown is refused, as here.
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": ""},
    }  # fmt: skip
    write_json(folder / "tokenizer.json", content)
    return "PreTrainedTokenizerFast"


SAVERS = {BPETokenizer: save_byte_pairs, CharacterTokenizer: save_characters}


def added(token: str) -> dict[str, Any]:
    """A special token as transformers writes it: taken from the text as it stands."""
    stripping = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    return {"content": token, **stripping, "special": True}


def write_json(path: Path, value: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2).encode("ascii") + b"\n")


def known_to_transformers(config: GPTConfig) -> bool:
    """Whether the model is a GPT-2 or a Llama in all its choices."""
    return family_of(config) in ("gpt2", "llama")


def transformers_model(folder: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
    """The model that transformers finds in a folder: ids (B, T) to logits (B, T, vocab_size)."""
    transformers = load_transformers()
    import torch

    loader = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(os.fspath(folder), local_files_only=True).float().eval()

    def logits(ids: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(np.asarray(ids, np.int64))).logits.numpy()

    return logits


def transformers_tokenizer(folder: str | os.PathLike) -> Any:
    """The tokenizer that transformers finds in a folder."""
    return load_transformers().AutoTokenizer.from_pretrained(
        os.fspath(folder), local_files_only=True
    )


def load_transformers() -> ModuleType:
    """The library, told to be quiet; ImportError, with what to do, without it or PyTorch."""
    try:
        import torch  # noqa: F401 (without it, transformers has no models)
        import transformers
    except ImportError as error:
        raise ImportError(f"the folder opens in transformers ({error}): {INSTALL}") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
