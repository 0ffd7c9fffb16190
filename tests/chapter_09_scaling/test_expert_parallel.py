"""Experts on many ranks: the same as on one."""

from __future__ import annotations

import json
import subprocess
import sys

import expert_work
import numpy as np
import pytest
from rank_start import FIND, NO_MPI, environment, mpiexec

from chapter_07_attention import GPT
from chapter_09_scaling import SingleProcess, launch
from chapter_09_scaling.collectives import bounds
from chapter_09_scaling.expert_parallel import (
    ExpertParallelMixture,
    expert_parallel_layer,
    gather_state,
    replicated,
    travel,
)
from chapter_09_scaling.parallel_state import shard_state
from chapter_09_scaling.traffic import expert_parallel_bytes
from utils import Tensor, check_gradients

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
RANKS = [1, 2, 3, 4]
CASES = [(n, name) for n in RANKS for name, case in expert_work.CASES.items() if case.experts >= n]


@pytest.fixture(scope="module")
def reports():
    """What the ranks of every group found; one launch a group."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FIND)
        groups = {n: launch(expert_work.report, n) for n in RANKS[1:]}
    return {1: [expert_work.report(SingleProcess())], **groups}


@pytest.mark.parametrize("ranks, name", CASES)
def test_the_same_as_one_process(reports, ranks, name):
    tolerance = TOLERANCE[expert_work.CASES[name].dtype]
    for rank, report in enumerate(reports[ranks]):
        found = report["cases"][name]
        for what in ("gradients", "parameters"):
            error, where = found[what]
            assert error <= tolerance, (
                f"rank {rank} of {ranks}, {name}: {what} of {where} differ by {error:.1e} "
                "from those of one process"
            )
        assert found["loss"] <= tolerance, "the shares of the loss do not add up to the whole"
        assert found["names"], "gather_state must give the names of the whole model"


@pytest.mark.parametrize("ranks, name", CASES)
def test_all_ranks_gather_the_same(reports, ranks, name):
    digests = {report["cases"][name]["digest"] for report in reports[ranks]}
    assert len(digests) == 1, "the copies on the ranks have come apart"


@pytest.mark.parametrize("ranks", RANKS)
def test_bytes_follow_from_the_routing(reports, ranks):
    """Tokens and answers forward, their gradients backward, and once the counts."""
    case = expert_work.CASES["5 experts, top 2"]
    ends = bounds(case.experts, ranks)
    found = [report["traffic"] for report in reports[ranks]]
    table = np.array([report["counts"] for report in found])  # (ranks, layers, experts)
    to = np.add.reduceat(table, ends[:-1], axis=2)  # (from, layers, to)
    for rank, report in enumerate(found):
        sent = sum(to[rank, :, i].sum() for i in range(ranks) if i != rank)
        taken = sum(to[i, :, rank].sum() for i in range(ranks) if i != rank)
        counts = len(table[0]) * (ranks - 1) * case.experts * 8
        expected = 2 * (sent + taken) * expert_work.WIDTH * 8 + counts
        assert report["sent"] == expected, f"rank {rank} sends {report['sent']}, not {expected}"


def test_bytes_are_those_of_the_formula_where_all_are_asked_alike():
    """k B T C four times, of which 1 / N stays; here 4 experts on 2 ranks, 12 tokens each."""
    to = np.array([[6, 6, 6, 6], [6, 6, 6, 6]])  # 12 tokens, top 2
    travelling = 2 * (to[0, 2:].sum() + to[1, :2].sum()) * expert_work.WIDTH * 8
    config = expert_work.CONFIGS["gpt"]
    assert travelling == expert_parallel_bytes(config, 2, 6, 8, ranks=2, experts_per_token=2)


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_more_ranks_than_experts_are_refused_everywhere(reports, ranks):
    for report in reports[ranks]:
        assert report["refused"].startswith(
            f"{ranks - 1} experts cannot be cut among {ranks} ranks"
        )


@pytest.mark.parametrize("ranks", RANKS)
def test_inside_a_checkpoint(reports, ranks):
    for report in reports[ranks]:
        error, where = report["checkpoint"]
        assert error <= 1e-12, f"the gradient of {where} differs by {error:.1e}"


def test_mpi():
    pytest.importorskip("mpi4py", reason=NO_MPI)
    names = ["5 experts, top 2", "a batch of 1"]
    command = [mpiexec(), "-n", "3", sys.executable, "-m", "mpi4py", expert_work.__file__, *names]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for report in json.loads(done.stdout):
        for name in names:
            found = report["cases"][name]
            assert max(found["gradients"][0], found["parameters"][0]) <= 1e-12, name


# On one rank.


def parallel_gpt(experts=5):
    layer = expert_parallel_layer(SingleProcess(), experts=experts)
    return GPT(expert_work.CONFIGS["gpt"], layer=layer)


def test_states_there_and_back():
    whole = expert_work.whole_model(expert_work.Case(5, 2, dtype="float32"))
    part = parallel_gpt()
    part.load_state_dict(shard_state(part, whole.state_dict()))
    state = gather_state(part, SingleProcess())
    assert set(state) == set(whole.state_dict())
    for name, array in whole.state_dict().items():
        assert np.array_equal(state[name], array), name
        assert not np.shares_memory(state[name], part.state_dict()[name]), "a copy, not a view"


def test_the_state_of_a_mixture_alone():
    mixture = ExpertParallelMixture(4, 6, 3, comm=SingleProcess())
    assert set(gather_state(mixture, SingleProcess())) == set(mixture.state_dict())


def test_a_state_that_lacks_an_expert():
    part = parallel_gpt()
    state = {k: v for k, v in part.state_dict().items() if ".experts.3." not in k}
    with pytest.raises(ValueError, match=r"lacks layers\.0\.mixture\.experts\.3\.linear1\.weight"):
        shard_state(part, state)


def test_what_is_alike_on_all_ranks():
    model = parallel_gpt()
    names = {id(p): name for name, p in model.named_parameters()}
    alike = [names[id(p)] for p in replicated(model)]
    assert "layers.0.mixture.router.weight" in alike, "the router is on all ranks"
    assert alike == [name for name in names.values() if ".experts." not in name]


def test_ranks_must_be_given():
    with pytest.raises(ValueError, match="give comm"):
        ExpertParallelMixture(4, 6)


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_what_travels(order, rng):
    check_gradients(
        lambda x: np.tanh(travel(x * 2, SingleProcess(), [4], [4])),
        [rng.normal(size=(4, 3))],
        order=order,
        tolerance=1e-6,
    )
    assert travel(np.ones((2, 3)), SingleProcess(), [2], [2]).shape == (2, 3)
    assert not travel(Tensor(np.ones((2, 3))), SingleProcess(), [2], [2]).requires_grad
