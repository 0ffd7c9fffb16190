"""Checkpoints of Hugging Face's GPT-2 and Llama, read into a GPT and written from one.

A checkpoint is a folder: `config.json`, and `model.safetensors` or its shards with an index. Before
a weight is believed, every name and every shape is compared with what the configuration implies.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from chapter_02_text_generation import BPETokenizer, CharacterTokenizer, Tokenizer
from chapter_02_text_generation.tokenizer import read_json_object
from chapter_07_attention.config import GPTConfig, shapes_of
from chapter_07_attention.family import Family, as_stored, is_transposed, joined_parts, part_of
from chapter_07_attention.gpt import GPT
from chapter_07_attention.hugging_face import FAMILIES, family_of
from utils.files import atomic_write
from utils.weights import load_weights, save_weights

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "book_tokenizer.json"


def from_pretrained(folder: str | os.PathLike, **options: Any) -> GPT:
    """The model in a folder that Hugging Face's transformers wrote, or `save_pretrained`.

    It is in evaluation mode: what is pretrained is used before it is trained on. Weights become
    float32, whatever they were stored as; `options` go to `GPT`. Raises OSError for a missing file
    and ValueError for a damaged one, an unknown architecture, and arrays that are missing,
    unexpected or of another shape, by name.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        trouble = f"{CONFIG} is missing" if folder.is_dir() else "there is no such folder"
        raise FileNotFoundError(f"{folder} holds no model: {trouble}")
    settings = read_json_object(folder / CONFIG)
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"{folder / CONFIG}: model_type is {kind!r}; known are "
                         f"{', '.join(FAMILIES)}")  # fmt: skip
    family = FAMILIES[kind]
    try:
        config = family.read(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None
    theirs, biasless = read_arrays(folder), family.biasless(settings)
    # Before the model is built: a configuration that lies may ask for any amount of memory.
    arrays = ours_from_theirs(theirs, config, family, biasless, folder)
    model = GPT(config, **options)
    model.load_state_dict(arrays)
    return model.eval()


def save_pretrained(
    model: GPT, folder: str | os.PathLike, tokenizer: Tokenizer | None = None
) -> Path:
    """Write a model so that `from_pretrained` reads it back, and Hugging Face's transformers too.

    The latter only if it is a GPT-2 or a Llama in all its choices.
    """
    kind = family_of(model.config)
    family, folder = FAMILIES[kind], Path(folder)
    arrays: dict[str, np.ndarray] = {}
    for name, array in model.state_dict().items():
        if name == "head.weight" and model.config.tied:
            continue
        names = family.names(name)
        stored = as_stored(array, name, family)
        bounds = np.cumsum(joined_parts(name, model.config))[:-1] if len(names) > 1 else []
        arrays.update(zip(names, np.split(stored, bounds)))
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / WEIGHTS, arrays, {"format": "pt"})
    with atomic_write(folder / CONFIG) as file:
        file.write(json.dumps(family.write(model.config), indent=2).encode() + b"\n")
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER)
    elif (folder / TOKENIZER).exists():  # of the model that was here before
        (folder / TOKENIZER).unlink()
    return folder


def load_tokenizer(folder: str | os.PathLike, vocab_size: int | None = None) -> Tokenizer | None:
    """The tokenizer in a model's folder, ours or GPT-2's files; None where there is neither.

    Raises ValueError where it has more tokens than the `vocab_size` of the model, if that is given.
    """
    tokenizer = _read_tokenizer(Path(folder))
    if tokenizer is not None and vocab_size is not None and tokenizer.vocab_size > vocab_size:
        raise ValueError(f"{folder}: the model knows {vocab_size} of the tokenizer's "
                         f"{tokenizer.vocab_size} tokens")  # fmt: skip
    return tokenizer


def needed_tokenizer(folder: str | os.PathLike, vocab_size: int) -> Tokenizer:
    """`load_tokenizer` for those who need text: ValueError where there is none."""
    tokenizer = load_tokenizer(folder, vocab_size)
    if tokenizer is None:
        raise ValueError(f"{folder} holds no tokenizer, without which there is no text")
    return tokenizer


def _read_tokenizer(folder: Path) -> Tokenizer | None:
    if (folder / TOKENIZER).exists():
        kind = read_json_object(folder / TOKENIZER).get("tokenizer")
        return (BPETokenizer if kind == "BPETokenizer" else CharacterTokenizer).load(
            folder / TOKENIZER
        )
    if any((folder / name).exists() for name in ("vocab.json", "encoder.json")):
        return BPETokenizer.from_gpt2(folder)
    return None


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint, from its one file or from its shards."""
    if (folder / WEIGHTS).exists():
        return load_weights(folder / WEIGHTS)
    if not (folder / INDEX).exists():
        raise FileNotFoundError(f"{folder} holds neither {WEIGHTS} nor {INDEX}; other files, such "
                                "as pickled .bin ones, are not read")  # fmt: skip
    places = read_json_object(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(map(is_file_name, places.values())):
        raise ValueError(f"{folder / INDEX}: weight_map must name a file of the folder for each "
                         "array")  # fmt: skip
    arrays: dict[str, np.ndarray] = {}
    for shard in sorted(set(places.values())):
        arrays.update(load_weights(folder / shard))
    missing = sorted(set(places) - set(arrays))
    if missing:
        raise ValueError(f"{folder / INDEX}: the shards do not hold {listed(missing)}")
    return arrays


def is_file_name(name: Any) -> bool:
    return isinstance(name, str) and name == os.path.basename(name) and name not in ("", ".", "..")


def ours_from_theirs(
    theirs: Mapping[str, np.ndarray],
    config: GPTConfig,
    family: Family,
    biasless: tuple[str, ...],
    folder: Path,
) -> dict[str, np.ndarray]:
    """Their arrays under our names; ValueError where some do not fit the configuration.

    Biases of the parts that are `biasless` in the file are 0.
    """
    if config.n_layer > len(theirs):
        raise ValueError(f"{folder}: {len(theirs)} arrays cannot make the {config.n_layer} layers "
                         f"that {CONFIG} asks for")  # fmt: skip
    prefix = family.prefix if any(name.startswith(family.prefix) for name in theirs) else ""
    found, used, problems = {}, set(), []
    for name, shape in shapes_of(config).items():
        if name.endswith("bias") and part_of(name) in biasless:
            found[name] = np.zeros(shape, np.float32)
            continue
        source = "embedding.weight" if name == "head.weight" and config.tied else name
        names = family.names(source, prefix)
        used.update(family.names(name, prefix), names)
        rows = joined_parts(name, config) if len(names) > 1 else shape[:1]
        for theirs_name, count in zip(names, rows):
            needed = (count, *shape[1:])[:: -1 if is_transposed(name, family) else 1]
            if theirs_name not in theirs:
                problems.append(f"{theirs_name} is missing")
            elif theirs[theirs_name].shape != needed:
                problems.append(f"{theirs_name} has shape {theirs[theirs_name].shape} where "
                                f"{needed} is needed")  # fmt: skip
        if not problems:
            parts = [as_stored(theirs[n], name, family) for n in names]
            found[name] = np.concatenate(parts) if len(parts) > 1 else parts[0]
    others = sorted(n for n in set(theirs) - used if not re.match(family.unused, n))
    problems += [f"{n} is not expected" for n in others]
    if problems:
        raise ValueError(f"{folder}: the arrays do not fit {CONFIG}: {listed(problems)}")
    damaged = [name for name, array in found.items() if not np.isfinite(array).all()]
    if damaged:
        raise ValueError(f"{folder}: there are numbers that are not finite in {listed(damaged)}")
    return found


def listed(items: list[str], most: int = 4) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
