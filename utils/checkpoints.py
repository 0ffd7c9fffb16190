"""Checkpoints that survive a crash: named arrays and JSON state, one safetensors file a step.

A checkpoint is one file, its SHA-256 manifest inside (in `__metadata__`), and it takes its name by
one atomic rename after it has reached the disk. There is no second file that could disagree with
it, so whatever the instant at which a saver dies, the folder holds the old checkpoints and perhaps
the new one, each whole. Old ones go only after the new one is durable. Savers of one folder take
turns under a lock that dies with its holder: a temporary file found under the lock was left by a
killed saver and is removed. The loader believes no file: it computes the manifest of what it has
read, warns of what is damaged, and falls back to the checkpoint before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import os
import re
import warnings
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple

import numpy as np

from utils.weights import dtype_code, load_with_metadata, save_weights, stored_bytes

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed in any case
    fcntl = None


class Checkpoint(NamedTuple):
    """What `load_checkpoint` read, and the file that it came from."""

    step: int
    arrays: dict[str, np.ndarray]
    state: Any
    path: Path


def save_checkpoint(
    folder: str | os.PathLike,
    step: int,
    arrays: Mapping[str, np.ndarray],
    state: Any,
    keep: int = 3,
) -> Path:
    """Save a checkpoint durably, then remove all but the `keep` highest steps; return its path.

    `state` is anything that `json` writes, and comes back as `json` reads it: integers of any size
    and floats exactly, NaN and infinities too, tuples as lists, keys as strings. A step saved again
    replaces its file; the step just saved is kept even when `keep` higher ones exist.
    Raises ValueError for a bad argument before anything is written, OSError when the disk is full:
    either way the checkpoints that were there stay.
    """
    step = _whole_number("step", step, least=0)
    keep = _whole_number("keep", keep, least=1)
    try:
        state_text = json.dumps(state)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"checkpoint state must be JSON: {error} (arrays go in `arrays`, NumPy numbers through "
            ".item())"
        ) from None
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    metadata = {
        "step": str(step),
        "state": state_text,
        "manifest": _manifest(step, state_text, arrays),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder, step)
    with _turn(folder) as alone:
        if alone:
            for stale in folder.glob(".step-*.tmp"):
                with contextlib.suppress(OSError):
                    stale.unlink()
        save_weights(path, arrays, metadata)
        for old in _steps(folder)[:-keep]:
            if old != step:
                _path(folder, old).unlink(missing_ok=True)
    return path


def load_checkpoint(folder: str | os.PathLike, step: int | None = None) -> Checkpoint:
    """Load the checkpoint of the highest step that is valid, or exactly that of `step`.

    Warns of each damaged file that it passes over. Raises FileNotFoundError where there is nothing
    to load, and ValueError where the `step` asked for is damaged.
    """
    folder = Path(folder)
    if step is not None:
        step = _whole_number("step", step, least=0)
        steps = _steps(folder)
        if step not in steps:
            raise FileNotFoundError(f"no checkpoint of step {step} in {folder}; steps: {steps}")
        return _read(folder, step)
    if not folder.is_dir():
        raise FileNotFoundError(f"no checkpoint: there is no folder {folder}")
    damaged = set()

    def undamaged() -> list[int]:
        return [step for step in _steps(folder) if step not in damaged]

    while True:
        steps = undamaged()
        if not steps:
            with _turn(folder):  # a saver may have removed what was listed after adding a newer one
                steps = undamaged()
        if not steps:
            found = f"all {len(damaged)} are damaged" if damaged else "there is none"
            raise FileNotFoundError(f"no valid checkpoint in {folder}: {found}")
        try:
            return _read(folder, steps[-1])
        except FileNotFoundError:
            continue  # removed since it was listed, so there is a newer one
        except (ValueError, OSError) as error:
            warnings.warn(f"skipped a damaged checkpoint: {error}", stacklevel=2)
            damaged.add(steps[-1])


def _read(folder: Path, step: int) -> Checkpoint:
    path = _path(folder, step)
    arrays, metadata = load_with_metadata(path)
    missing = {"step", "state", "manifest"} - metadata.keys()
    if missing:
        raise ValueError(f"{path}: not a checkpoint, it lacks {', '.join(sorted(missing))}")
    if metadata["manifest"] != _manifest(metadata["step"], metadata["state"], arrays):
        raise ValueError(f"{path}: the contents do not match the SHA-256 manifest")
    if metadata["step"] != str(step):
        raise ValueError(f"{path}: this is the checkpoint of step {metadata['step']}, renamed")
    return Checkpoint(step, arrays, json.loads(metadata["state"]), path)


def _manifest(step: int | str, state_text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of the step and state, and of each array's dtype, shape and numbers, as JSON."""
    digests = {}
    for name, array in arrays.items():
        digest = hashlib.sha256(f"{dtype_code(name, array)} {array.shape} ".encode())
        digest.update(stored_bytes(array))
        digests[name] = digest.hexdigest()
    state = hashlib.sha256(f"{step} {state_text}".encode()).hexdigest()
    return json.dumps({"arrays": digests, "state": state}, sort_keys=True)


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.safetensors"


def _steps(folder: Path) -> list[int]:
    """The steps that have a file in the folder, in ascending order."""
    matches = (re.match(r"step-(\d+)\.", path.name) for path in folder.glob("step-*.safetensors"))
    steps = {int(match.group(1)) for match in matches if match}
    return sorted(step for step in steps if _path(folder, step).is_file())


def _whole_number(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} must be a whole number from {least} up, not {value!r}")
    return number


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[bool]:
    """Wait for the other savers of the folder; yield whether this one is surely alone in it."""
    if fcntl is None:
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        alone = True
    except OSError:  # network file systems without locks for folders
        alone = False
    try:
        yield alone
    finally:
        if alone:  # closing alone does not unlock while a forked child shares the descriptor
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
