"""Ranks that come apart: all are told, nobody waits for ever, and the message says who did what."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import rank_start
import rank_work

from chapter_09_scaling import launch

AT_MOST = 10.0  # seconds; the design says 5, on a machine that does nothing else
CALLS = {  # what the message says of rank 1, and of another
    "lengths": (
        "call 2 (all_reduce add ring, 5 float64)",
        "call 2 (all_reduce add ring, 6 float64)",
    ),
    "shapes of one size": ("add ring, 2x3 float64)", "add ring, 3x2 float64)"),
    "dtypes": ("add ring, 6 float32)", "add ring, 6 float64)"),
    "dtypes of one size": ("add ring, 6 float32)", "add ring, 6 int32)"),
    "an empty array": ("add ring, 0 float32)", "add ring, 6 float32)"),
    "ops": ("call 2 (all_reduce add ring", "call 2 (all_reduce maximum ring"),
    "algorithms": ("call 2 (all_reduce add ring", "call 2 (all_reduce add tree"),
    "large arrays": ("1000000 float64)", "1000001 float64)"),
    "roots": ("call 2 (broadcast from 1", "call 2 (broadcast from 0"),
    "order": ("call 2 (reduce_scatter", "call 2 (broadcast"),
    "lengths of chunks": ("call 2 (all_gather, 12 float64)", "call 2 (all_gather, 9 float64)"),
    "pieces": ("call 2 (all_to_all, 3 float64)", "call 2 (all_to_all, 2 float64)"),
    "one call fewer": ("call 2 (all_reduce", "call 2 (broadcast"),
    "one call more": ("call 2 (broadcast", "call 2 (all_reduce"),
    "one barrier more at the end": ("call 2 (barrier", ""),
    "one barrier fewer at the end": ("", "call 2 (barrier"),
    "long names": ("call 1 (activations", "call 1 (activations"),
    "never received from the left": ("", "call 1 (activations, 3 float64)"),
    "never received from the right": ("", "call 1 (activations, 3 float64)"),
    "one waits for what nobody sends": ("call 2 (all_reduce", "call 1 (activations, 3 float64)"),
}
WAITING = ["two wait for one another", "three wait in a circle"]


QUICK = {"shapes of one size", "dtypes of one size", "ops", "roots", "one call fewer",
         "one barrier more at the end", "long names", "never received from the right"}  # fmt: skip
MISMATCHES = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow)
              for kind in CALLS]  # fmt: skip


@pytest.fixture(scope="module")
def of(request, tmp_path_factory):
    """What came of a mismatch: those that are asked for run side by side, as most only wait."""
    asked = {item.callspec.params["mismatch"]: None for item in request.session.items
             if "mismatch" in getattr(getattr(item, "callspec", None), "params", {})}  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        runs = {kind: pool.submit(rank_start.outcome, tmp_path_factory.mktemp("ranks"),
                                  rank_work.mismatch, 3, kind) for kind in asked}  # fmt: skip
        yield lambda kind: runs[kind].result(timeout=120)


@pytest.mark.parametrize("mismatch", [*MISMATCHES, *WAITING])
def test_every_rank_is_told_and_none_hangs(mismatch, of):
    found = of(mismatch)
    assert found.error, f"{mismatch} went unnoticed"
    assert found.seconds < AT_MOST
    said = "\n".join(found.said)
    assert "Traceback" not in said, f"a mismatch is not a fault of the program's:\n{said}"
    for rank in range(3):
        told = found.lines(rank)
        assert len(told) == 1, f"rank {rank} must end with one line: {found.said[rank]!r}"
        assert re.search(r"rank \d.*call \d+ \(", told[0]), told[0]
    assert not found.left


@pytest.mark.parametrize("mismatch", MISMATCHES)
def test_the_message_names_both_ranks_and_both_calls(mismatch, of):
    said = of(mismatch).error
    odd, others = CALLS[mismatch]
    assert odd in said and others in said, said
    assert said.count("rank 1") == 1 and re.search("rank [02]", said), said


@pytest.mark.parametrize("mismatch", WAITING)
def test_a_circle_of_ranks_that_wait_is_named(mismatch, of):
    said = of(mismatch).error
    assert said.startswith("all wait for one another: ")
    for rank, source in rank_work.CIRCLES[mismatch].items():
        assert f"rank {rank} waits for rank {source} in call 1 (activations, 3 float64)" in said


def test_ranks_that_wait_long_for_one_that_computes_are_not_stuck():
    assert launch(rank_work.slow_one, 3, 3.5) == [3.0] * 3


SLOW = pytest.mark.slow


@pytest.mark.parametrize("kind", ["dtypes of one size", "one call fewer",
                                  *(pytest.param(kind, marks=SLOW) for kind in ("order", "roots",
                                    "lengths", "large arrays", "pieces"))])  # fmt: skip
def test_on_mpi_a_mismatch_ends_all(kind, tmp_path):
    pytest.importorskip("mpi4py", reason=rank_start.NO_MPI)
    done = rank_start.started("mpi", 3, "mismatch", str(tmp_path), kind, seconds=60)
    late = time.time() - (tmp_path / "apart").stat().st_mtime
    assert late < AT_MOST
    assert done.returncode != 0, "mpiexec must say that it failed"
    odd, others = CALLS[kind]
    said = "".join((tmp_path / f"rank {rank}").read_text() for rank in range(3))
    assert odd in said and others in said and "rank 1" in said, said


def test_on_mpi_a_rank_that_is_silent_for_too_long_is_named():
    pytest.importorskip("mpi4py", reason=rank_start.NO_MPI)
    done = rank_start.started("mpi", 2, "silent", 1.0, seconds=60)
    assert done.returncode != 0
    assert "rank 1 has been silent for 1 s in call 1 (activations, 3 float64)" in done.stderr
