"""Every script of every chapter, run as a reader would: from another folder, with --quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path
    for path in ROOT.glob("chapter_*/*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)

MEASURED = ("second", "speedup", "memory")  # in the names of what no two runs have in common


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run(
    command, folder: Path, warnings: str = "error::RuntimeWarning"
) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONWARNINGS": warnings, "MPLBACKEND": "agg"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def check_success(done: subprocess.CompletedProcess) -> None:
    if done.returncode == 2 and "(the extra '" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr


COMMANDS = {
    "quick": lambda script: [str(script), "--quick"],
    "again": lambda script: ["-m", f"{script.parent.name}.{script.stem}", "--quick", "--seed", "0",
                             "--out", "again"],
    "help": lambda script: [str(script), "--help"],
}  # fmt: skip
NEEDS = {
    "test_quick_run": ["quick"],
    "test_as_a_module_with_the_same_seed_the_same": ["quick", "again"],
    "test_help_helps": ["help"],
}


@pytest.fixture(scope="module")
def ran(request, tmp_path_factory):
    """What a command of a script said, and the folder it ran in: each once, two side by side."""
    asked = {(item.callspec.params["script"], command): None for item in request.session.items
             if item.path == request.path for command in NEEDS[item.originalname]}  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        runs = {}
        for script, command in asked:
            folder = tmp_path_factory.mktemp(f"{script.stem}-{command}")
            runs[script, command] = pool.submit(run, COMMANDS[command](script), folder), folder
        yield lambda *which: (runs[which][0].result(), runs[which][1])
        for waiting, _ in runs.values():
            waiting.cancel()


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_quick_run(script, ran):
    done, folder = ran(script, "quick")
    check_success(done)
    assert done.stdout.strip(), "a script reports what it found"
    assert [path.name for path in folder.iterdir()] == ["runs"], "all it writes is under runs/"
    out = folder / "runs" / script.stem
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics, "metrics.json holds every figure that the script printed"
    for figure in out.glob("*.png"):
        assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_as_a_module_with_the_same_seed_the_same(script, ran):
    first_run = ran(script, "quick")[1] / "runs" / script.stem
    done, folder = ran(script, "again")
    check_success(done)
    written = [path.relative_to(first_run) for path in first_run.rglob("*") if path.is_file()]
    assert written
    for name in written:
        first, second = (contents(out / name) for out in (first_run, folder / "again"))
        assert first == second, f"{name} differs between two runs with the same seed"


def contents(path: Path):
    """What a file holds but for measured times and memory."""
    if path.name == "metrics.json":
        return without_measured(json.loads(path.read_text()))
    return None if is_measured(path.name) else path.read_bytes()


def is_measured(name: str) -> bool:
    return any(word in name for word in MEASURED)


def without_measured(metrics):
    if not isinstance(metrics, dict):
        return metrics
    return {k: without_measured(value) for k, value in metrics.items() if not is_measured(k)}


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_help_helps(script, ran):
    done, folder = ran(script, "help")
    assert done.returncode == 0
    for flag in ("--seed", "--quick", "--out"):
        assert flag in done.stdout
    assert list(folder.iterdir()) == [], "asking for help must not write anything"
