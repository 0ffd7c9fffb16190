"""Decoders on disk: a model's folder whose matrices are codes, as small there as in memory.

The folder is one of chapter 7's in our own words, with one entry more: "quantization" says of how
many bits the codes are. Before anything is used, each array is compared with what that asks for.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import numpy as np

from chapter_02_text_generation import Tokenizer
from chapter_02_text_generation.tokenizer import read_json_object
from chapter_07_attention import GPTConfig, from_pretrained
from chapter_07_attention.config import shapes_of
from chapter_07_attention.hugging_face import read_own, write_own
from chapter_07_attention.pretrained import CONFIG, TOKENIZER, WEIGHTS, listed, read_arrays
from chapter_10_production.decoder import Decoder
from chapter_10_production.matrix import Matrix
from chapter_10_production.quantization import FACTORS, HIGHEST, Int4Matrix, Int8Matrix
from utils.files import atomic_write
from utils.weights import save_weights

ENTRY, PLAIN = "quantization", 32  # bits of a matrix that is left as it is
KINDS = (*HIGHEST, PLAIN)


class Plan(NamedTuple):
    """The bits of the codes, the inputs that share a factor, and matrices of other bits by name."""

    bits: int
    group_size: int = 32
    exceptions: Mapping[str, int] = {}

    def bits_of(self, name: str) -> int:
        return self.exceptions.get(name, self.bits)


def save_decoder(
    decoder: Decoder, folder: str | os.PathLike, tokenizer: Tokenizer | None = None
) -> Path:
    """Write a decoder so that `load_decoder` reads it back, codes as codes."""
    folder, arrays = Path(folder), {}
    for name, weight in decoder.weights.items():
        if not (name == "head.weight" and decoder.config.tied):
            arrays.update(weight.state(name) if isinstance(weight, Matrix) else {name: weight})
    settings, plan = write_own(decoder.config), plan_of(decoder)
    if plan.bits != PLAIN or plan.exceptions:
        settings[ENTRY] = plan._asdict()
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / WEIGHTS, arrays)
    with atomic_write(folder / CONFIG) as file:
        file.write(json.dumps(settings, indent=2).encode() + b"\n")
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER)
    elif (folder / TOKENIZER).exists():  # of the model that was here before
        (folder / TOKENIZER).unlink()
    return folder


def plan_of(decoder: Decoder) -> Plan:
    """How the matrices of a decoder are kept."""
    tied = {"head.weight"} if decoder.config.tied else set()
    matrices = {n: w for n, w in decoder.weights.items() if isinstance(w, Matrix) and n not in tied}
    bits = {name: getattr(matrix, "bits", PLAIN) for name, matrix in matrices.items()}
    ((usual, _),) = Counter(bits.values()).most_common(1)
    others = {name: own for name, own in bits.items() if own != usual}
    sizes = {m.group_size for m in matrices.values() if isinstance(m, Int4Matrix)} or {32}
    if len(sizes) > 1:
        raise ValueError(f"groups of {sorted(sizes)} inputs in one model: a file has one size")
    return Plan(usual, sizes.pop(), others)


def load_decoder(folder: str | os.PathLike) -> Decoder:
    """The decoder in a folder that `save_decoder` wrote, or any that `from_pretrained` reads.

    Raises OSError for a missing file and ValueError for a damaged one, and for arrays that are
    missing, unexpected, of another shape or dtype, or hold what no code can be, by name.
    """
    folder = Path(folder)
    settings = read_json_object(folder / CONFIG) if (folder / CONFIG).exists() else {}
    if ENTRY not in settings:
        return Decoder.from_model(from_pretrained(folder))
    arrays = read_arrays(folder)
    try:
        if settings.get("model_type") != "first-principles":
            raise ValueError(f"{ENTRY} of a {settings.get('model_type')!r} model is not known")
        config = read_own(settings)
        if config.n_layer > len(arrays):  # before a name is made for each of them
            raise ValueError(f"{len(arrays)} arrays cannot make {config.n_layer} layers")
        plan = read_plan(settings[ENTRY], config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None
    try:
        return Decoder(config, weights_from(arrays, config, plan))
    except ValueError as error:
        raise ValueError(f"{folder}: the arrays do not fit {CONFIG}: {error}") from None


def read_plan(entry: Any, config: GPTConfig) -> Plan:
    """What an entry says; ValueError where it says nothing that can be."""
    if not isinstance(entry, dict) or not {"bits"} <= entry.keys() <= set(Plan._fields):
        raise ValueError(f"{ENTRY} holds bits, group_size and exceptions, not {entry!r}")
    plan = Plan(**entry)
    if not isinstance(plan.exceptions, dict):
        raise ValueError(f"{ENTRY}: exceptions are bits by name, not {plan.exceptions!r}")
    for bits in (plan.bits, *plan.exceptions.values()):
        if type(bits) is not int or bits not in KINDS:
            raise ValueError(f"{ENTRY}: bits are one of {KINDS}, not {bits!r}")
    if type(plan.group_size) is not int or plan.group_size < 2 or plan.group_size % 2:
        raise ValueError(f"{ENTRY}: group_size is even, not {plan.group_size!r}")
    unknown = sorted(set(plan.exceptions) - set(shapes_of(config)))
    if unknown:
        raise ValueError(f"{ENTRY}: the model has no {listed(unknown)}")
    return plan


def weights_from(
    arrays: Mapping[str, np.ndarray], config: GPTConfig, plan: Plan
) -> dict[str, Matrix | np.ndarray]:
    """The weights of a decoder; ValueError, naming them, for arrays that are not as planned."""
    needed = {
        name: parts_of(name, shape, plan)
        for name, shape in shapes_of(config).items()
        if not (name == "head.weight" and config.tied)
    }
    parts = {part: needs for group in needed.values() for part, needs in group.items()}
    problems = [f"{part} is missing" for part in parts if part not in arrays]
    problems += [f"{name} is not expected" for name in sorted(set(arrays) - set(parts))]
    for part, (shape, dtypes) in parts.items():
        found = arrays.get(part)
        if found is not None and (found.shape != shape or found.dtype.name not in dtypes):
            problems.append(f"{part} is {found.dtype}{found.shape} where {dtypes[0]}{shape} is "
                            "needed")  # fmt: skip
    problems = problems or [
        problem for part in parts for problem in [trouble(part, arrays[part])] if problem
    ]
    if problems:
        raise ValueError(listed(problems))
    weights = {
        name: made([arrays[part] for part in group], shapes_of(config)[name], plan.bits_of(name))
        for name, group in needed.items()
    }
    if config.tied:
        weights["head.weight"] = weights["embedding.weight"]
    return weights


def parts_of(
    name: str, shape: tuple[int, ...], plan: Plan
) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """The arrays that stand for a weight, their shapes, and the dtypes they may have."""
    bits = plan.bits_of(name)
    if len(shape) == 1 or bits == PLAIN:
        return {name: (shape, ("float32", "float16"))}
    outputs, inputs = shape
    scales = {f"{name}.scales": ((outputs,), ("float16",))}
    if bits == 8:
        return {f"{name}.codes": ((inputs, outputs), ("int8",)), **scales}
    groups = -(-inputs // plan.group_size)
    codes = (groups * plan.group_size // 2, outputs), ("uint8",)
    return {f"{name}.codes": codes, **scales, f"{name}.factors": ((groups, outputs), ("int8",))}


def made(arrays: list[np.ndarray], shape: tuple[int, ...], bits: int) -> Matrix | np.ndarray:
    """The weight that arrays stand for, in the order of `parts_of`."""
    if len(shape) == 1:
        return arrays[0]
    if bits == PLAIN:
        return Matrix(arrays[0].astype(np.float32, copy=False))
    return Int8Matrix(*arrays) if bits == 8 else Int4Matrix(*arrays, inputs=shape[1])


def trouble(name: str, array: np.ndarray) -> str | None:
    """What an array holds that no code or scale can be, None where all is well."""
    kind = name.rpartition(".")[2]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return f"{name} holds what is no finite number"
    if kind == "scales" and not (array >= 0).all():
        return f"{name} holds a scale below 0"
    if kind == "factors" and not ((array >= 0) & (array <= FACTORS)).all():
        return f"{name} holds a factor that is not from 0 to {FACTORS}"
    # The lowest of each kind is never written: times a factor it would not fit into 8 bits.
    if kind == "codes" and array.dtype == np.int8 and (array == -128).any():
        return f"{name} holds the code -128"
    if array.dtype == np.uint8 and (((array & 15) == 0) | ((array & 240) == 128)).any():
        return f"{name} holds the code -8"
    return None
