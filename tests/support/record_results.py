"""Run the commands that the READMEs' tables of results name, and record what they gave.

python tests/support/record_results.py ../shared/data              all: an hour or two
python tests/support/record_results.py ../shared/data chapter_03   those with these letters
python tests/support/record_results.py ../shared/data --list       what would be run

The tests hold the READMEs to the record, which is tests/results.json. What is in the given folder
(names.txt, tinyshakespeare.txt and the test digits of MNIST) is found by the commands by its name.
Chapter 10 needs chapter 7's model in the same `--work`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from result_tables import READMES, figures_of, value_of

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests/results.json"


def runs() -> dict[str, list[str]]:
    """The commands and their keys, in the order of the book."""
    found: dict[str, list[str]] = {}
    for readme in (*READMES[1:], READMES[0]):
        for figure in figures_of(readme):
            keys = found.setdefault(figure.command, [])
            keys += [] if figure.key in keys else [figure.key]
    return found


def main(argv=None) -> None:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("data", type=Path, help="folder of data")
    flags.add_argument("only", nargs="?", default="", help="letters that a command has")
    flags.add_argument("--list", action="store_true", help="only say what would be run")
    flags.add_argument("--work", type=Path, default=Path("runs/results"), metavar="DIR",
                       help="folder to run them in")  # fmt: skip
    args = flags.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    for file in args.data.iterdir():
        link = args.work / file.name
        if not link.exists():
            link.symlink_to(file.resolve())
    for command, keys in runs().items():
        if args.only not in command:
            continue
        print(command, flush=True)
        if args.list:
            continue
        script, *arguments = command.split()
        out = Path("runs", Path(script).stem)
        if "--out" in arguments:
            out = Path(arguments[arguments.index("--out") + 1])
        begin = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=args.work, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        metrics = json.loads((args.work / out / "metrics.json").read_text(encoding="utf-8"))
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        record[command] = {key: value_of(metrics, key) for key in keys}
        kept = {known: record[known] for known in runs() if known in record}
        RECORD.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        print(f"  {time.perf_counter() - begin:.0f} s {record[command]}", flush=True)


if __name__ == "__main__":
    main()
