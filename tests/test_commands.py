"""Every command that a README shows, run as it stands, but small.

Scripts without arguments are in test_scripts.py. Left out are what would have to be downloaded
and what asks a server that already runs: the tests of chapter 10 have one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rank_start import mpiexec
from result_tables import READMES, ROOT, full

FENCED = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?((?:python|mpiexec) [^#\n]+?)(?: +#.*)?$", re.MULTILINE)
IN_TEXT = re.compile(r"`(?:python )?([\w/]+\.py(?: [^`]+)?)`")
DOWNLOADED = ("mnist", "gpt2/")
ELSEWHERE = ("-m pytest", "-m utils.exercises", "-m utils.journey", "http://")
BY_NAME = {"names": "names.txt", "tinyshakespeare": "tinyshakespeare.txt"}


def commands() -> list[str]:
    """Those with arguments, and the benchmarks: each once, in the order of the book."""
    found: dict[str, str] = {}
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        blocks = "\n".join(FENCED.findall(text)).replace("\\\n", " ")
        spans = (f"python {full(span, readme)}" for span in IN_TEXT.findall(FENCED.sub("", text)))
        for command in (*COMMAND.findall(blocks), *spans):
            command = " ".join(command.split())
            if any(word in command for word in (*DOWNLOADED, *ELSEWHERE)):
                continue
            if "tests/benchmarks" in command or len(command.split()) > 2:
                found.setdefault(re.sub(r" --out \S+", "", command), command)
    return list(found.values())


def missing(command: str, folder: Path) -> list[str]:
    """The files of data that a command names and that are not there."""
    words = [BY_NAME.get(word, word) for word in shlex.split(command)]
    files = [word for word in words if word.endswith((".txt", ".gz", ".csv")) or word == "gpt2"]
    return [file for file in files if not (folder / file).exists()]


def small(command: str, reader: Path, folder: Path) -> subprocess.CompletedProcess:
    """Run it where a reader might be, among links to what that reader has."""
    for thing in reader.iterdir():
        (folder / thing.name).symlink_to(thing)
    for shown, here in (("FOLDER", "bytes/model"), ("runs/train_gpt/model", "bytes/model")):
        command = command.replace(shown, here)
    first, *rest = shlex.split(command)
    if "tests/benchmarks" in command:
        takes_rounds = "--rounds" in (ROOT / rest[0]).read_text(encoding="utf-8")
        rest += ["--rounds", "1"] if takes_rounds else []
    else:
        rest.append("--quick")
    begin = [sys.executable if first == "python" else mpiexec()]
    rest = [sys.executable if word == "python" else word for word in rest]
    environment = {**os.environ, "MPLBACKEND": "agg", "DLFP_DATA": str(reader)}
    return subprocess.run([*begin, *rest], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=120)  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """What a reader might have: the book, the data, by path and by name, a model of chapter 7."""
    place = tmp_path_factory.mktemp("reader")
    for name in ("chapter", "tests"):
        for path in ROOT.glob(f"{name}*"):
            (place / path.name).symlink_to(path)
    data = ROOT.parent / "shared/data"
    for path in data.iterdir() if data.is_dir() else ():
        (shutil.copy if path.is_file() else shutil.copytree)(path, place / path.name)
    # Byte pairs can say every text; the characters of a small one cannot.
    trained = subprocess.run(
        [sys.executable, str(ROOT / "chapter_07_attention/train_gpt.py"), "--vocab-size", "300",
         "--quick", "--out", "bytes"], cwd=place, capture_output=True, text=True,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    return place


@pytest.fixture(scope="module")
def ran(request, reader, tmp_path_factory):
    """What became of each command that is asked for: each once, two side by side."""
    asked = [item.callspec.params["command"] for item in request.session.items
             if item.path == request.path and hasattr(item, "callspec")]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        runs = {
            command: pool.submit(small, command, reader, tmp_path_factory.mktemp("command"))
            for command in asked
            if not missing(command, reader) and (mpiexec() or not command.startswith("mpiexec"))
        }
        yield runs
        for run in runs.values():
            run.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_of_a_readme(command, reader, ran):
    if command not in ran:
        pytest.skip(f"needs {missing(command, reader) or 'MPI (the extra distributed)'}")
    done = ran[command].result()
    if "this benchmark compares with" in done.stderr or "(the extra '" in done.stderr:
        pytest.skip(f"{done.stderr.strip()} (in an extra)")
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_a_command_waits_for_the_files_it_names(tmp_path):
    (tmp_path / "names.txt").touch()
    assert missing("python learn.py --data names --out runs/names", tmp_path) == []
    assert missing("python learn.py --gpt2 gpt2 --data tinyshakespeare", tmp_path) == [
        "gpt2",
        "tinyshakespeare.txt",
    ]
