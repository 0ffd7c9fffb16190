"""Ranks in rows and columns: who is with whom, and what the groups do within themselves."""

from __future__ import annotations

import re

import numpy as np
import pytest
import rank_start
import rank_work

from chapter_09_scaling import SingleProcess, grid, launch
from chapter_09_scaling.grid import Subgroup


@pytest.fixture(params=["local", "mpi"], scope="module")
def grids(request):
    if request.param == "mpi":
        pytest.importorskip("mpi4py", reason=rank_start.NO_MPI)
    return rank_start.answer(rank_start.started(request.param, 4, "grids"))["results"]


def own(rank: int) -> np.ndarray:
    return np.arange(6.0) + 10**rank


ROWS = {0: [0, 1], 1: [0, 1], 2: [2, 3], 3: [2, 3]}  # the last axis: neighbours
COLUMNS = {0: [0, 2], 1: [1, 3], 2: [0, 2], 3: [1, 3]}


def test_the_last_axis_joins_neighbours(grids):
    for rank, found in enumerate(grids):
        assert found["ranks"] == {"data": COLUMNS[rank], "tensor": ROWS[rank]}
        assert found["numbers"] == {"data": [rank // 2, 2], "tensor": [rank % 2, 2]}


def test_sums_within_groups_are_numpy_s(grids):
    for rank, found in enumerate(grids):
        for name, members in [("data", COLUMNS[rank]), ("tensor", ROWS[rank])]:
            expected = sum(own(member) for member in members)
            np.testing.assert_array_equal(found["sums"][name], expected, f"rank {rank}, {name}")


def test_all_other_collectives_stay_within_the_group(grids):
    for rank, found in enumerate(grids):
        row = ROWS[rank]
        assert found["gathered"] == row
        assert found["from the last"] == row[1], "the root is numbered within the group"
        assert found["scattered"] == ([0.0, 2.0], [4.0, 6.0])[rank // 2]
        assert found["exchanged"] == [10 * member + rank % 2 for member in row]


def test_bytes_count_in_the_group_and_in_all(grids):
    for found in grids:
        assert found["sent"] == [48, 48, 96], "2 (N - 1) / N n bytes in each group of two"
        assert found["nested"] == [48, 48, 48], "once on each level"


def test_a_grid_within_a_group(grids):
    for rank, found in enumerate(grids):
        members, total = found["inner"]
        assert members == ROWS[rank]
        np.testing.assert_array_equal(total, sum(own(member) for member in members))


def test_groups_of_one_do_it_at_once():
    assert launch(rank_work.groups_of_one, 2) == [[0, 2, 1], [1, 2, 1]]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"data": 2, "tensor": 2}, "3 ranks cannot be arranged as 2 data x 2 tensor"),
        pytest.param({"data": -3, "tensor": -1},
                     "3 ranks cannot be arranged as -3 data x -1 tensor", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_sizes_that_do_not_make_up_all_are_refused_on_every_rank(sizes, said):
    assert launch(rank_work.wrong_grid, 3, sizes) == [said] * 3


@pytest.mark.parametrize("sizes", [{}, {"data": 2}, {"data": 0}, {"data": -1, "tensor": -1}])
def test_sizes_are_refused_alone_as_well(sizes):
    with pytest.raises(ValueError, match="1 ranks cannot be arranged as"):
        grid(SingleProcess(), **sizes)


def test_one_process_is_a_grid_of_ones():
    groups = grid(SingleProcess(), data=1, tensor=1, pipeline=1)
    assert list(groups) == ["data", "tensor", "pipeline"]
    for group in groups.values():
        assert (group.rank, group.size, group.ranks) == (0, 1, [0])
        np.testing.assert_array_equal(group.all_reduce(np.arange(3)), np.arange(3))


@pytest.mark.parametrize("ranks", [[0, 0], [], [1], [0, 1], [0, -1]])
def test_a_group_is_of_different_ranks_that_exist_and_has_its_own_rank(ranks):
    with pytest.raises(ValueError, match=re.escape(str(ranks))):
        Subgroup(SingleProcess(), ranks)


def test_a_mismatch_within_a_group_names_the_ranks_of_all(tmp_path):
    found = rank_start.outcome(tmp_path, rank_work.apart_in_a_group, 4)
    both = r"rank ([23]) is in call 1 .*, but rank (?!\1)[23] is in call 1 "
    assert re.search(both, found.error), found.error
    for rank in range(4):
        told = found.lines(rank)
        assert len(told) == 1 and re.search(both, told[0]), f"rank {rank} said {told}"
