"""Tensor parallelism: a GPT whose matrices are cut among ranks is the GPT of a single process."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import tensor_work
from rank_start import FIND, NO_MPI, mpiexec

from chapter_03_neural_nets.losses import IGNORED
from chapter_05_gradient_mastery import Linear, cross_entropy
from chapter_07_attention import GPT
from chapter_09_scaling import SingleProcess, launch
from chapter_09_scaling.tensor_parallel import cuts_of, shard_state, tensor_parallel_gpt
from chapter_09_scaling.tensor_parallel_layers import (
    ColumnParallelLinear,
    Cut,
    RowParallelLinear,
    TensorParallelAttention,
    copied,
    shares,
    stacked,
    stretched,
    summed,
)
from chapter_09_scaling.vocab_parallel import vocab_parallel_cross_entropy
from utils import Tensor, check_gradients, detect_anomaly, manual_seed
from utils.seeding import generator_state

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
TWO, FOUR = (pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))
SOME = [1, TWO, 3, FOUR]
NAMES = [", ".join(map(str, case)) for case in tensor_work.CASES]


@pytest.fixture(scope="module", autouse=True)
def findable():
    """Ranks find what they work on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FIND)
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        yield


@functools.lru_cache(maxsize=None)
def reports(ranks: int) -> list:
    """What each of so many ranks found; once for all tests."""
    if ranks == 1:
        return [tensor_work.table(SingleProcess())]
    return launch(tensor_work.table, ranks)


def highest(by_name: dict) -> tuple:
    """The largest difference, and whose it is."""
    return max((value, name) for name, value in by_name.items())


# Ranks beside a single process.


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("ranks", SOME)
def test_gradients_and_twenty_steps_equal_the_single_process(ranks, case):
    tolerance = TOLERANCE[case.split(", ")[1]]
    for rank, report in enumerate(reports(ranks)):
        found = report["trained"][case]
        for when in ("begin", "gradients", "end"):
            wrong, name = highest(found[when])
            assert wrong <= tolerance, (
                f"rank {rank} of {ranks}, {when}: {name}, gathered from all ranks, differs from "
                f"the single process's by {wrong:.2g}"
            )
        assert found["loss"] <= 4 * tolerance, "the loss is not the single process's"
        assert found.get("next", 0) <= 4 * tolerance, "next_logits are not the single process's"


@pytest.mark.parametrize("ranks", SOME)
def test_the_norm_that_clips_is_of_the_whole_gradient(ranks):
    for report in reports(ranks):
        for case, found in report["trained"].items():
            tolerance = 4 * TOLERANCE[case.split(", ")[1]]
            assert found["norm"] <= tolerance, (
                f"{case}: if the gradients are right, the squares of the cut ones are added up "
                "over the ranks, and the others counted once"
            )


@pytest.mark.parametrize("ranks", SOME[1:])
def test_what_is_not_cut_stays_alike_bit_for_bit_though_nothing_is_sent(ranks):
    for case in NAMES:
        digests = {report["trained"][case]["common"] for report in reports(ranks)}
        assert len(digests) == 1, f"{case}: copies of norms or biases have drifted apart"


@pytest.mark.parametrize("ranks", SOME)
def test_a_step_sends_what_the_formula_says(ranks):
    for rank, report in enumerate(reports(ranks)):
        for case, found in report["trained"].items():
            assert found["sent"] == found["theory"], (
                f"rank {rank}, {case}: four sums of B T C numbers a layer and step, two forward "
                "and two backward, and with a cut vocabulary B T C twice and three a target"
            )
        sent, theory, wrong = report["checkpointed"]
        assert sent == theory, "with checkpointing the layers' forward sums are made twice: six"
        assert wrong <= 1e-12


def test_the_bytes_of_two_ranks_by_hand():
    # 2 layers, 4 sums of 5 x 6 x 16 float64; of two ranks each sends half, twice.
    assert reports(2)[0]["trained"][NAMES[0]]["sent"] == 2 * 4 * 5 * 6 * 16 * 8


@pytest.mark.parametrize("ranks", SOME)
def test_the_two_operations_by_hand(ranks):
    total = ranks * (ranks + 1) // 2  # 1 + 2 + ...
    for report in reports(ranks):
        found = report["by hand"]
        assert found["y"] == 3 * total
        assert found["dx"] == total, "copied: the gradients of all ranks are added up"
        assert (
            found["dx of an own x"] == report["by hand"]["factor"]
        ), "summed: the gradient goes to each rank as it is, not added up once more"
        assert found["on arrays"] == [2.0, 2.0 * ranks]


@pytest.mark.parametrize("ranks", SOME)
def test_derivatives_of_derivatives_cross_the_ranks(ranks):
    assert all(report["second derivatives"] <= 1e-12 for report in reports(ranks))


@pytest.mark.parametrize("ranks", SOME)
def test_parts_alone_equal_whole_ones(ranks):
    for report in reports(ranks):
        wrong, name = highest(report["exact"])
        assert wrong <= 1e-12, f"{name}: {wrong}"


@pytest.mark.parametrize("ranks", SOME)
def test_states_are_cut_and_joined_without_a_change(ranks):
    assert all(not any(report["states"].values()) for report in reports(ranks))


@pytest.mark.parametrize("ranks", SOME)
def test_a_rank_holds_its_share_of_what_is_cut(ranks):
    whole, everything = reports(1)[0]["held"]
    held = [report["held"] for report in reports(ranks)]
    assert sum(cut for cut, _ in held) == whole
    assert all(own - cut == everything - whole for cut, own in held), "the rest all ranks have"
    assert ranks != 2 or held[0] == held[1]


def test_data_and_tensor_parallelism_on_a_grid_equal_the_single_process():
    for report in reports(4):
        found = report["grid"]
        assert highest(found["gradients"])[0] <= 1e-12
        assert highest(found["end"])[0] <= 1e-12, "after 20 steps, gradients clipped"
        assert found["norm"] <= 1e-12, "the norm is over the ranks that hold one copy"


@pytest.mark.parametrize("ranks", SOME[1:])
def test_every_rank_refuses_what_cannot_be_cut(ranks):
    few = f"{ranks - 1} cannot be cut among {ranks} ranks, as each must have at least one"
    for rank, report in enumerate(reports(ranks)):
        said = report["refusals"]
        for name, what in {
            "heads": "heads of keys and values",
            "groups": "heads of keys and values",
            "hidden": "numbers of the hidden layer",
            "tokens": "tokens",
            "outputs": "outputs",
            "inputs": "inputs",
        }.items():
            assert said.get(name) == f"{what}: {few}", f"rank {rank}: {name}"
        assert "dropout" in said["dropout"] and "must be 0, not 0.1" in said["dropout"]
        own = len(range(13 * rank // ranks, 13 * (rank + 1) // ranks))
        assert f"has the logits of {own} of 13 tokens, not (2, 13)" in said["logits"]
        assert "targets must be from 0 to 12" in said["targets"]
        assert "mean of no targets" in said["none"]
        assert "max_norm must be a number from 0 up, not nan" in said["max_norm"]


def test_the_same_under_mpi():
    pytest.importorskip("mpi4py", reason=NO_MPI)
    if mpiexec() is None:
        pytest.skip(NO_MPI)
    command = [mpiexec(), "-n", "2", sys.executable, "-m", "mpi4py", tensor_work.__file__]
    done = subprocess.run(command, capture_output=True, timeout=120, text=True)
    assert done.stdout, done.stderr
    for ours, local in zip(json.loads(done.stdout), reports(2)):
        assert highest(ours["trained"]["end"])[0] <= TOLERANCE["float32"]
        assert ours["trained"]["sent"] == local["trained"][NAMES[1]]["sent"]
        assert highest(ours["exact"])[0] <= 1e-12
        assert ours["refusals"] == local["refusals"]


# One process.


class Twice(SingleProcess):
    """As if a second rank did the same as this one."""

    def all_reduce(self, array, op=np.add, algorithm="ring", out=None):
        return 2 * array if op is np.add else np.array(array)


def test_gradients_by_differences():
    x, w = np.random.default_rng(0).normal(size=(2, 3, 4))
    # With y = x + x on two ranks alike, dL/dx of one rank's x is dL/dy, half of the difference.
    check_gradients(lambda x, w: summed(np.tanh(copied(x, SingleProcess())) * w, SingleProcess()),
                    [x, w], order=2)  # fmt: skip
    # Two ranks alike: the loss is a function of 2 f(x), and `copied` adds up both ranks' gradients.
    check_gradients(lambda x: np.sin(summed(np.tanh(copied(x, Twice())), Twice())), [x], order=2)


def test_the_checker_sees_an_operation_that_is_left_out():
    x = np.random.default_rng(0).normal(size=(3, 4))
    with pytest.raises(AssertionError):
        check_gradients(lambda x: np.sin(summed(np.tanh(x), Twice())), [x])


def test_the_loss_by_differences_and_by_hand():
    logits = np.log(np.array([[1.0, 2.0, 5.0]]))
    comm = SingleProcess()
    loss = functools.partial(vocab_parallel_cross_entropy, vocab_size=3, comm=comm)
    assert np.isclose(loss(Tensor(logits), np.array([1])).item(), np.log(4))  # 2 of 8
    rng = np.random.default_rng(1)
    targets = np.array([[0, 2, IGNORED], [1, 1, 2]])
    x = rng.normal(size=(2, 3, 3))
    check_gradients(lambda x: loss(x, targets), [x], order=2)
    own = Tensor(x, requires_grad=True)
    loss(own, targets).backward()
    assert not own.grad[0, 2].any(), "an ignored target has no gradient"
    assert (x == own.data).all(), "the logits are others' too: work on a copy"


def test_shares_are_nearly_equal_and_complete():
    assert [list(own) for own in shares(5, 3, "heads")] == [[0], [1, 2], [3, 4]]
    assert [list(own) for own in stretched(shares(3, 2, "heads"), 2)] == [[0, 1], [2, 3, 4, 5]]
    halves = shares(3, 2, "hidden")
    assert [list(own) for own in stacked((halves, 3), (halves, 3))] == [
        [0, 3],
        [1, 2, 4, 5],
    ], "gate and up are cut alike, so that each number meets its own gate"


def test_a_cut_joins_what_it_parts():
    whole = np.arange(24.0).reshape(4, 6)
    halves = shares(3, 2, "hidden")
    cut = Cut(1, stacked((halves, 3), (halves, 3)))
    parts = [cut.part(whole, rank) for rank in (0, 1)]
    assert parts[0].tolist() == whole[:, [0, 3]].tolist()
    assert (cut.whole(parts) == whole).all()
    parts[0][...] = -1
    assert (whole >= 0).all(), "a part is an array of its own"


class SecondOfTwo(SingleProcess):
    """A rank that is asked for its part only."""

    def __init__(self) -> None:
        super().__init__()
        self.rank, self.size = 1, 2


def test_layers_keep_their_part_of_what_linear_draws():
    whole = Linear(4, 6, rng=np.random.default_rng(0))
    column, row = (
        kind(4, 6, rng=np.random.default_rng(0), comm=SecondOfTwo())
        for kind in (ColumnParallelLinear, RowParallelLinear)
    )
    assert (column.weight.data == whole.weight.data[3:]).all()
    assert (column.bias.data == whole.bias.data[3:]).all()
    assert (row.weight.data == whole.weight.data[:, 2:]).all()
    assert (row.bias.data == whole.bias.data).all(), "the bias comes after the sum: all have it"
    assert (column.out_features, row.in_features) == (3, 2)


def test_queries_keys_and_values_are_cut_by_groups():
    part = TensorParallelAttention(4, 4, num_kv_heads=2, head_dim=1, comm=SecondOfTwo())
    assert (part.num_heads, part.num_kv_heads) == (2, 1)
    places = part.cuts["in_proj_weight"].places
    assert places[1].tolist() == [2, 3, 5, 7], "queries 2 and 3, their key, their value"
    assert part.out_proj.weight.shape == (4, 2)


@pytest.mark.parametrize("name", tensor_work.CONFIGS)
def test_names_are_those_of_the_whole_model(name):
    config = tensor_work.CONFIGS[name]
    whole = GPT(config).state_dict()
    model = tensor_parallel_gpt(config, SingleProcess())
    assert list(model.state_dict()) == list(whole)
    cut = {n.split(".", 2)[2] for n in cuts_of(model)}
    matrices = {"self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight",
                "linear2.weight"}  # fmt: skip
    assert cut == matrices | ({"self_attn.in_proj_bias", "linear1.bias"} if config.bias else set())
    assert shard_state(model, whole, SingleProcess()).keys() == whole.keys()


def test_dropout_is_as_ever_where_nothing_is_cut():
    layer = TensorParallelAttention(4, 2, dropout=0.5, comm=SingleProcess())
    assert layer(Tensor(np.ones((1, 2, 4), np.float32))).shape == (1, 2, 4)


def test_the_default_generator_is_where_a_whole_model_leaves_it():
    states = []
    for make in (GPT, lambda config: tensor_parallel_gpt(config, SingleProcess(), vocabulary=True)):
        manual_seed(0)
        make(tensor_work.CONFIGS["gpt2"])
        states.append(generator_state())
    assert states[0] == states[1], "ranks would draw other batches than a single process"


def test_anomalies_are_named():
    x = Tensor(np.ones(2), requires_grad=True)

    class Difference(SingleProcess):
        def all_reduce(self, array, *args, **options):
            return array * np.nan

    with pytest.raises(FloatingPointError, match="summed"), detect_anomaly():
        summed(x, Difference())


def test_without_gradients_there_is_no_graph():
    model = tensor_parallel_gpt(tensor_work.CONFIGS["gpt2"], SingleProcess())
    ids, targets = tensor_work.batches(1)[0]
    assert cross_entropy(model(ids), targets).requires_grad
    model.requires_grad_(False)
    assert not cross_entropy(model(ids), targets).requires_grad
