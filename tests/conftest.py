"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path

import exercise_judge
import my_work
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    my_work.add_option(parser)


def pytest_cmdline_main(config):
    return my_work.run(config) if config.getoption("--my-work") else None


def pytest_configure(config):
    if exercise_judge.REPORT in os.environ:
        config.pluginmanager.register(exercise_judge.Judge(config))


def pytest_collection_finish():
    """The garbage collector need not look through 15,000 tests each time that one asks for it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def bytecode():
    """Hundreds of processes import the chapters: the first one compiles them, for all.

    Where PYTHONDONTWRITEBYTECODE is set, that is for the time of the tests, in a folder of theirs.
    """
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            patch.delenv("PYTHONDONTWRITEBYTECODE")
            patch.setenv("PYTHONPYCACHEPREFIX", folder)
        yield


@pytest.fixture(autouse=True)
def one_thread():
    """On arrays this small, PyTorch's threads take most of the time, waiting for each other."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference data beside the checkout; tests skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
