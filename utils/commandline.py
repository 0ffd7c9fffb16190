"""What all scripts of the book share: their flags, their manners, and where their results go."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Callable

from utils.files import atomic_write
from utils.seeding import manual_seed

# What a quick run looks at, at the most.
QUICK_CHARACTERS, QUICK_NAMES, QUICK_IMAGES = 20_000, 500, 500


def parser(script: str, description: str) -> argparse.ArgumentParser:
    """A parser with the flags that every script has: --seed, --quick and --out."""
    result = argparse.ArgumentParser(
        prog=f"{script}.py",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument("--seed", type=whole_number(0), default=0, help="seed of all randomness")
    result.add_argument("--quick", action="store_true", help="a small run of under five seconds")
    result.add_argument(
        "--out",
        type=Path,
        default=Path("runs") / script,
        metavar="DIR",
        help="folder for figures and metrics.json",
    )
    return result


def parse(flags: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse the arguments, seed the default generator, and make a folder that can be written to."""
    args = flags.parse_args(argv)
    manual_seed(args.seed)
    made, trouble = [], "no folder can be made there"
    try:
        made = [path for path in (args.out, *args.out.parents) if not path.exists()]
        args.out.mkdir(parents=True, exist_ok=True)
        trouble = "nothing can be written there"
        with tempfile.TemporaryFile(dir=args.out, buffering=0) as file:
            file.write(bytes(4096))  # a full disk makes files and fills none
    except OSError as error:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        flags.error(f"--out {args.out}: {trouble} ({error.strerror})")
    return args


def add_checkpoint(flags: argparse.ArgumentParser) -> None:
    """The flag of scripts whose training goes on after an interruption."""
    flags.add_argument(
        "--checkpoint", metavar="DIR", help="save the run there, and go on from what is there"
    )


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that decide what a training becomes, for `train`, which knows data by itself."""
    others = ("out", "checkpoint", "data")
    return {name: value for name, value in vars(args).items() if name not in others}


def beginning(args: argparse.Namespace, data: Any) -> Any:
    """The data; with --quick no more than the beginning of a text, of names, or of `Images`."""
    if not args.quick:
        return data
    if isinstance(data, tuple):  # arrays side by side
        return type(data)(*(part[:QUICK_IMAGES] for part in data))
    return data[: QUICK_CHARACTERS if isinstance(data, str) else QUICK_NAMES]


def script(main: Callable[..., None]) -> Callable[..., None]:
    """Turn what a user can mend (a bad file, a bad value) into one line and exit status 2.

    A warning is one line too, and the script goes on.
    """
    path = Path(main.__code__.co_filename)
    name = path.parent.name if path.stem == "__main__" else path.name

    def in_one_line(message, category, filename, lineno, file=None, line=None) -> None:
        print(f"{name}: warning: {' '.join(str(message).split())}", file=file or sys.stderr)

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> None:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = in_one_line
                main(argv)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # the reader of the report, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except (OSError, ValueError, ArithmeticError, ImportError, MemoryError) as error:
            message = " ".join(str(error).split()) or type(error).__name__
            print(f"{name}: error: {message}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return run


def write_metrics(folder: Path, metrics: dict[str, Any]) -> Path:
    """Write `metrics.json`, whole or not at all; what JSON cannot say (NaN, infinity) is null."""
    path = folder / "metrics.json"
    with atomic_write(path) as file:
        file.write(json.dumps(_finite(metrics), indent=2, allow_nan=False).encode() + b"\n")
    return path


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument type: a whole number in the given range."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least or (most is not None and value > most):
            limit = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be {limit}, not {value}")
        return value

    return convert


def number(
    above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> Callable[[str], float]:
    """An argument type: a finite number in the given range; never NaN."""
    limits = {"above": above, "at least": least, "at most": most}
    said = [f"{name} {limit:g}" for name, limit in limits.items() if math.isfinite(limit)]

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        finite = math.isfinite(value)
        if not (finite and value > above and least <= value <= most):
            wanted = " and ".join(said if finite else ["finite", *said])
            raise argparse.ArgumentTypeError(f"must be {wanted}, not {text}")
        return value

    return convert
