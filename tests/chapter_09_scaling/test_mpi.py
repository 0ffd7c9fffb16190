"""The backend of MPI: what it says where MPI is missing, and how its ranks end."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest
import rank_start

from chapter_09_scaling.mpi import load_mpi

SCRIPT = """
import argparse
from chapter_09_scaling import run
from chapter_09_scaling.backends import add_flags
from rank_work import told
from utils.commandline import script

@script
def main(argv=None):
    flags = argparse.ArgumentParser()
    add_flags(flags)
    args = flags.parse_args(argv)
    print(run(told, args.backend, args.ranks))

if __name__ == "__main__":
    main()
"""


class Broken(types.ModuleType):
    """An mpi4py that is there, where MPI itself is not."""

    def __getattr__(self, name):
        raise RuntimeError("cannot load MPI library")


def test_without_mpi4py_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(
        ImportError, match="needs mpi4py .*: pip install mpi4py mpich .*distributed"
    ):
        load_mpi()


def test_without_an_mpi_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", Broken("mpi4py"))
    with pytest.raises(ImportError, match="an MPI library .cannot load.*pip install .*distributed"):
        load_mpi()


def fake(folder, text: str) -> None:
    (folder / "mpi4py").mkdir()
    (folder / "mpi4py" / "__init__.py").write_text("")
    (folder / "mpi4py" / "MPI.py").write_text(text)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ImportError('libmpi.so.12: cannot open shared object file')", "libmpi.so.12"),
        ("RuntimeError('cannot load MPI library')", "cannot load MPI library"),
        ("ModuleNotFoundError('No module named mpi4py')", "needs mpi4py"),
    ],
    ids=["mpi4py 3", "mpi4py 4", "no mpi4py"],
)
def test_a_script_says_it_in_one_line(raised, said, tmp_path):
    fake(tmp_path, f"raise {raised}\n")
    (tmp_path / "example.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(tmp_path / "example.py"), "--backend", "mpi"],
                          env=rank_start.environment(), text=True, timeout=90,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("example.py: error: ") and done.stderr.count("\n") == 1
    assert said in done.stderr and "pip install mpi4py mpich" in done.stderr, done.stderr


class TestWithMPI:
    @pytest.fixture(autouse=True)
    def need(self):
        pytest.importorskip("mpi4py", reason=rank_start.NO_MPI)
        if rank_start.mpiexec() is None:
            pytest.skip(rank_start.NO_MPI)

    def test_only_the_first_rank_has_the_results(self):
        """Were there more than one line, two ranks would have printed."""
        done = rank_start.started("mpi", 3, "told", "naïve 東京", [1])
        assert rank_start.answer(done)["results"] == [[i, 3, "naïve 東京", [1]] for i in range(3)]
        assert done.returncode == 0 and done.stderr == ""

    def test_a_result_of_a_million_letters(self):
        first, second = rank_start.answer(rank_start.started("mpi", 2, "long_text", 10**6))[
            "results"
        ]
        assert first[:2] == "0é" and second[:2] == "1é" and len(first) == len(second) == 10**6 + 2

    def test_without_mpiexec_it_is_one_rank(self):
        done = subprocess.run(
            [sys.executable, str(rank_start.WORK), "mpi", "1", "told", "[]"],
            env=rank_start.environment(), text=True, timeout=90, capture_output=True,
        )  # fmt: skip
        assert rank_start.answer(done)["results"] == [[0, 1]]

    @pytest.mark.parametrize("how", ["1", "2", "with"])
    def test_work_may_leave_the_group_when_it_is_done(self, how):
        done = rank_start.started("mpi", 2, "closes", how)
        assert done.returncode == 0, done.stderr
        assert rank_start.answer(done)["results"] == [2, 2]

    @pytest.mark.parametrize("rank", [0, 1])
    def test_an_error_in_one_ends_all(self, rank):
        done = rank_start.started("mpi", 2, "fails_in", rank, seconds=60)
        assert done.returncode != 0 and done.stdout == ""
        assert f"rank {rank} has failed: Traceback" in done.stderr
        assert "ValueError: a planted" in done.stderr

    @pytest.mark.parametrize("way", ["SIGKILL", "os._exit(3)"])
    def test_a_rank_that_is_gone_ends_all(self, way, tmp_path):
        folder = str(tmp_path)
        done = rank_start.started("mpi", 2, "failing", folder, way, "in", "all_reduce", seconds=60)
        assert done.returncode != 0 and "results" not in done.stdout
        assert not rank_start.survivors(folder)

    def test_a_rank_that_leaves_early_does_not_keep_the_others(self, tmp_path):
        folder = str(tmp_path)
        done = rank_start.started(
            "mpi", 2, "failing", folder, "sys.exit(0)", "before", "all_reduce", seconds=60
        )
        assert done.returncode != 0, "its work was not done"
