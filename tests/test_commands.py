"""Every command that a README shows, run as it stands, but small.

Scripts without arguments are in test_scripts.py, the server's and the clients' commands in the
tests of chapter 10. What would have to be downloaded is left out.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from rank_start import mpiexec
from result_tables import READMES, ROOT

FENCED = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?((?:python|mpiexec) [^#\n]+?)(?: +#.*)?$", re.MULTILINE)
IN_TEXT = re.compile(r"`(python [^`]+)`")
DOWNLOADED = ("mnist", "gpt2/")
ELSEWHERE = ("-m pytest", "-m utils.exercises", "-m utils.journey", "serve.py")


def commands() -> list[str]:
    """Those with arguments, each once, in the order of the book."""
    found: dict[str, str] = {}
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        blocks = "\n".join(FENCED.findall(text)).replace("\\\n", " ")
        for command in (*COMMAND.findall(blocks), *IN_TEXT.findall(FENCED.sub("", text))):
            command = " ".join(command.split())
            measures = "tests/benchmarks" in command
            if any(word in command for word in (*DOWNLOADED, *ELSEWHERE)):
                continue
            if measures or len(command.split()) > 2:
                found.setdefault(re.sub(r" --out \S+", "", command), command)
    return list(found.values())


@pytest.fixture(scope="module")
def folder(reference_data, tmp_path_factory):
    """Where a reader might be who has the data, by path and by name, and a model of chapter 7."""
    place = tmp_path_factory.mktemp("reader")
    for name in ("chapter", "tests"):
        for path in ROOT.glob(f"{name}*"):
            (place / path.name).symlink_to(path)
    for path in reference_data.iterdir():
        if path.is_file():
            shutil.copy(path, place)
    (place / "GPT2").symlink_to(reference_data / "gpt2")
    # Byte pairs can say every text; the characters of a small one cannot.
    trained = small(place, "python chapter_07_attention/train_gpt.py --vocab-size 300 --out bytes")
    assert trained.returncode == 0, trained.stderr
    return place


def small(folder, command: str) -> subprocess.CompletedProcess:
    for shown, here in (("FOLDER", "GPT2"), ("runs/train_gpt/model", "bytes/model")):
        command = command.replace(shown, here)
    first, *rest = shlex.split(command)
    if "tests/benchmarks" in command:
        takes_rounds = "--rounds" in (ROOT / rest[0]).read_text(encoding="utf-8")
        rest += ["--rounds", "1"] if takes_rounds else []
    else:
        rest.append("--quick")
    begin = [sys.executable if first == "python" else mpiexec()]
    rest = [sys.executable if word == "python" else word for word in rest]
    environment = {**os.environ, "MPLBACKEND": "agg", "DLFP_DATA": str(folder)}
    return subprocess.run([*begin, *rest], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=120)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_of_a_readme(command, folder):
    if command.startswith("mpiexec") and mpiexec() is None:
        pytest.skip("needs MPI (the extra 'distributed')")
    done = small(folder, command)
    if "this benchmark compares with" in done.stderr:
        pytest.skip(f"{done.stderr.strip()} (in an extra, 'oracle' or 'develop')")
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
