"""What all ranks do together, on both backends: the numbers, the bits and the bytes."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import rank_start
import rank_table
from rank_table import ALGORITHMS, LAYOUTS, OPS, table

from chapter_09_scaling import SingleProcess
from chapter_09_scaling.collectives import bounds, chunks

GROUPS = [(backend, ranks) for backend in ("local", "mpi") for ranks in (1, 2, 3, 4)]
FAMILIES = [*(f"all_reduce {algorithm}" for algorithm in ALGORITHMS), "reduce_scatter",
            "all_gather", "broadcast", "all_to_all", "send and receive"]  # fmt: skip


@functools.lru_cache(maxsize=None)
def table_of(backend: str, ranks: int) -> list:
    """The reports of all ranks, of one run."""
    return rank_start.answer(rank_start.started(backend, ranks, "table"))["results"]


def need(backend: str) -> None:
    if backend == "mpi":
        pytest.importorskip("mpi4py", reason=rank_start.NO_MPI)
        if rank_start.mpiexec() is None:
            pytest.skip(rank_start.NO_MPI)


@pytest.fixture(params=GROUPS, ids=lambda group: f"{group[0]}-{group[1]}", scope="module")
def reports(request):
    need(request.param[0])
    return table_of(*request.param)


def cases(reports, family):
    """(case, what each rank has found in it), of one family."""
    if len(reports) == 1 and family == "send and receive":
        pytest.skip("one rank alone has nobody to send to")
    assert all(list(report[family]) == list(reports[0][family]) for report in reports)
    for case in reports[0][family]:
        yield case, [report[family][case] for report in reports]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_are_numpy_s(reports, family):
    for case, found in cases(reports, family):
        for rank, row in enumerate(found):
            assert row["fits"], f"{family}, {case}: rank {rank} has {row['got']}"
            # Another order of additions: some roundings for each rank; whole numbers exactly.
            most = 4 * len(reports) * row["eps"] if len(reports) > 1 else 0.0
            assert row["error"] <= most, (
                f"{family}, {case}: rank {rank} is {row['error']} of the largest number away from "
                "NumPy's on the inputs of all ranks"
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_all_ranks_have_the_same_bits_and_every_time(reports, family):
    for case, found in cases(reports, family):
        digests = {row["digest"] for row in found}
        assert len(digests) == 1, f"{family}, {case}: some ranks have other bits than others"
        assert all(row["again"] for row in found), f"{family}, {case}: the second run differs"


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_stay_as_they_are(reports, family):
    for case, found in cases(reports, family):
        assert all(row["unchanged"] for row in found), f"{family}, {case}: an input has changed"
        assert not any(row["shares"] for row in found), f"{family}, {case}: a view of an input"


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_sent_are_what_theory_says(reports, family):
    for case, found in cases(reports, family):
        for rank, row in enumerate(found):
            assert row["theory"] in (
                None,
                row["sent"],
            ), f"{family}, {case}: rank {rank} has sent {row['sent']} bytes, not {row['theory']}"


def test_every_all_reduce_passes_the_same_bytes_in_sum(reports):
    """2 (N - 1) n bytes, also where chunks are uneven; only the ring shares them out."""
    n = len(reports)
    for algorithm in ALGORITHMS:
        found = [
            report[f"all_reduce {algorithm}"]["add, 997 float64"]["sent"] for report in reports
        ]
        assert sum(found) == 2 * (n - 1) * 997 * 8, algorithm
        if algorithm == "ring" and n > 1:
            assert max(found) - min(found) <= 2 * 8 * n, "a ring's ranks send nearly the same"
    broadcast = [report["broadcast"]["from 0, 997 float64"]["sent"] for report in reports]
    assert sum(broadcast) == (n - 1) * 997 * 8


def test_the_table_covers_what_it_says(reports):
    ring = reports[0]["all_reduce ring"]
    for size in {0, 1, len(reports) - 1, len(reports), len(reports) + 1, 997}:
        for dtype in ("float32", "float64", "int32", "int64"):
            assert f"add, {size} {dtype}" in ring
    assert {f"{op}, 997 int64" for op in OPS} <= set(ring)
    assert {f"add, {layout} {shape}" for shape, layout in LAYOUTS} <= set(ring)
    assert "add, a million float32" in ring


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_both_backends_give_the_same_bits(ranks):
    need("mpi")
    local, mpi = table_of("local", ranks), table_of("mpi", ranks)
    for family in FAMILIES:
        for case in local[0][family]:
            for a, b in zip(local, mpi):
                assert a[family][case]["digest"] == b[family][case]["digest"], (family, case)
                assert a[family][case]["sent"] == b[family][case]["sent"], (family, case)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_what_mpi_s_own_collectives_give(ranks):
    """Differences are in units of the dtype's precision: another order of additions, no more."""
    need("mpi")
    for found in rank_start.answer(rank_start.started("mpi", ranks, "beside_mpi"))["results"]:
        assert found.pop("Allreduce") <= 8 * ranks and found.pop("Reduce_scatter") <= 64 * ranks
        assert found == {"Allgather": 0.0, "Bcast": 0.0, "Alltoallv": 0.0}


def test_one_process_alone_is_exact():
    for family, rows in table(SingleProcess()).items():
        for case, row in rows.items():
            assert row["fits"] and row["error"] == 0.0, f"{family}, {case}: {row}"
            assert row["sent"] == 0, f"{family}, {case}: nobody to send to"
            assert row["unchanged"] and not row["shares"], f"{family}, {case}"


@pytest.fixture(params=["local", "mpi"], scope="module")
def small_works(request):
    need(request.param)
    return rank_start.answer(rank_start.started(request.param, 3, "small_works"))["results"]


def test_out_is_filled_and_checked(small_works):
    for found in (rank["outs"] for rank in small_works):
        refused = found.pop("refused")
        assert found == dict.fromkeys(found, True)
        assert len(refused) == 8
        assert all("out must be a C-contiguous float64 array of (6,)" in said for said in refused)


def test_what_cannot_be_is_refused_before_anything_travels(small_works):
    for rank, found in enumerate(small_works):
        said = found["refusals"]
        assert "ring, tree, naive" in said["algorithm"] and "'star'" in said["algorithm"]
        for name, given in [("root", 3), ("negative root", -1), ("to", 3)]:
            assert said[name] == f"ValueError: there are the ranks 0 to 2, not {given}"
        assert f"rank {rank} has nothing to send to itself" in said["itself"]
        assert said["strings"].startswith("TypeError") and "<U1" in said["strings"]
        assert said["objects"].startswith("TypeError") and "object" in said["objects"]
        assert "2 to send and 3 to fill" in said["few pieces"]
        assert "3 to send and 4 to fill" in said["many pieces"]
        assert "gave 5" in said["chunk"] and f"rank {rank}" in said["chunk"]
        assert "C-contiguous" in said["strided"]


def test_a_piece_for_oneself_must_fit_as_well(small_works):
    assert all(found["own piece"] for found in small_works), "(1,) was spread over (3,) in silence"


@pytest.mark.parametrize("backend", ["local", "mpi"])
def test_numbers_travel_as_numbers(backend):
    """np.ascontiguousarray makes one-element arrays of them."""
    need(backend)
    found = rank_start.answer(rank_start.started(backend, 3, "numbers"))
    expected = [[(i + 2) % 3 * 10.0, [], [i, 10.0 + i, 20.0 + i]] for i in range(3)]
    assert found.get("results", found) == expected


def test_a_piece_for_oneself_must_fit_when_alone():
    assert rank_table.own_piece(SingleProcess()), "(1,) was spread over (3,) in silence"


def test_ranks_may_send_before_they_receive():
    """A thousand headers are more than a socket holds: somebody must take them in."""
    found = rank_start.answer(rank_start.started("local", 2, "many_empty_sends", seconds=30))
    assert found.get("results", found) == [0, 0]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 997])
@pytest.mark.parametrize("parts", [1, 2, 3, 4, 7])
def test_chunks_make_up_the_array(length, parts):
    flat = np.arange(length)
    cut = chunks(flat, parts)
    assert len(cut) == parts and np.array_equal(np.concatenate(cut), flat)
    assert max(map(len, cut)) - min(map(len, cut)) <= 1, "nearly equal"
    assert all(np.shares_memory(part, flat) for part in cut if len(part)), "views, not copies"
    assert bounds(length, parts)[0] == 0 and bounds(length, parts)[-1] == length
