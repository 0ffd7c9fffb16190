"""What ranks must agree on: checkpoints, overflows, running statistics, frozen stages."""

from __future__ import annotations

import agreement_work
import numpy as np
import parallel_work
import pytest

from chapter_03_neural_nets import AdamW, train
from chapter_07_attention import TransformerEncoderLayer
from chapter_08_optimization.wrapper import Wrapper
from chapter_09_scaling import RankError, SingleProcess, ZeRO, launch, shared
from utils.checkpoints import load_checkpoint

STAGES = ("1", "2", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the ranks save their runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two(folder):
    """What each of two ranks found."""
    return launch(agreement_work.everything, 2, str(folder))


@pytest.fixture(scope="module")
def three(two, folder):
    """What each of three found, who go on where the two have ended."""
    return launch(agreement_work.by_three, 3, str(folder))


def one_process(folder=None, steps=6):
    """The same training by one process, with nothing of this chapter."""
    comm = SingleProcess()
    model = parallel_work.gpt(comm, agreement_work.CASE)
    optimizer = parallel_work.OPTIMIZERS["adamw"](model.parameters())
    train(model, optimizer, parallel_work.batches(comm, agreement_work.CASE), steps, loss=shared(),
          checkpoint=folder)  # fmt: skip
    return model, optimizer


# Checkpoints of ZeRO.


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_where_it_was_bit_for_bit(stage, two):
    for found in two:
        assert found["resumed"][stage][
            "same"
        ], "a run that was resumed must be the run itself, parameters, moments and losses"


def test_a_scaled_run_goes_on_where_it_was(two):
    assert all(found["resumed, scaled"]["same"] for found in two)


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_is_that_of_one_process(stage, two, folder):
    saved = load_checkpoint(folder / stage, 6)
    model, optimizer = one_process()
    expected = {f"model.{name}": array for name, array in model.state_dict().items()}
    expected.update({f"optimizer.{name}": a for name, a in optimizer.state_dict().items()})
    found = {name: a for name, a in saved.arrays.items() if name.split(".")[0] != "losses"}
    assert found.keys() == expected.keys(), "it is whole, under the same names"
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("stage", STAGES)
def test_more_ranks_go_on_from_it(stage, three):
    expected = parallel_work.parameters_of(one_process(steps=8)[0])
    for found in three:
        np.testing.assert_allclose(found["gone on"][stage], expected, atol=1e-12)


def test_one_process_goes_on_from_it_and_another_stage_from_that(two, folder):
    expected = parallel_work.parameters_of(one_process(steps=10)[0])
    model, _ = one_process(folder / "3", 9)
    assert not np.array_equal(parallel_work.parameters_of(model), expected)
    found = agreement_work.zero_run(SingleProcess(), 2, 10, folder / "3")
    np.testing.assert_allclose(found["parameters"], expected, atol=1e-12)


def test_ranks_that_would_go_on_from_different_places_say_so(tmp_path):
    for steps, name in ((2, "first"), (4, "second")):
        one_process(tmp_path / name, steps)
    folders = [str(tmp_path / name) for name in ("first", "second", "nothing")]
    with pytest.raises(RankError, match="rank 1 goes on from step 4, and rank 0 from 2"):
        launch(agreement_work.different_places, 2, folders[:2])
    with pytest.raises(RankError, match="all ranks must make the same calls"):
        launch(agreement_work.different_places, 2, folders[::2])


def test_the_best_weights_come_back(two):
    for found in two:
        end, first, *_ = found["best"]
        assert end == first


def zero(make=AdamW):
    model = parallel_work.gpt(SingleProcess(), agreement_work.CASE, TransformerEncoderLayer)
    return ZeRO(SingleProcess(), model, make, 1)


def test_states_that_do_not_fit_are_refused_and_change_nothing():
    optimizer, own = one_process(steps=1)[1], zero()
    good = optimizer.state_dict()
    lacking = {name: array for name, array in good.items() if name != "3.exp_avg"}
    for bad, said in (
        (lacking, "3.exp_avg.* are needed together"),
        ({**good, "3.exp_avg": np.zeros(1)}, "3.exp_avg.* are needed together"),
        ({**good, "99.exp_avg": np.zeros(1)}, "99.exp_avg belong to no parameter"),
        ({name: array for name, array in good.items() if name != "steps"}, "lacks steps"),
    ):
        with pytest.raises(ValueError, match=said):
            own.load_state_dict(bad)
        assert set(own.state_dict()) == {"steps"}
    own.load_state_dict(good)
    for name, array in own.state_dict().items():
        np.testing.assert_array_equal(array, good[name], err_msg=name)


def test_what_an_optimiser_keeps_besides_cannot_be_put_together():
    with pytest.raises(TypeError, match="keeps more than a state of each parameter"):
        zero(lambda params: Wrapper(AdamW(params))).state_dict()


# Overflows.


def test_ranks_leave_a_step_out_together(two):
    for found in two:
        p, scale, skipped = found["one overflows"]
        assert (p, scale, skipped) == ([0.0, 0.0], 4.0, 1), "a step that one cannot take none takes"


@pytest.mark.parametrize("stage", STAGES)
def test_with_zero_a_scale_changes_no_step_and_an_overflow_is_everybodys(stage, two):
    for report in two:
        found = report["scaled"][stage]
        assert found["same"], "a power of two comes and goes without a trace"
        assert 0 < found["more bytes"] < 100, "a step sends no more than whether there was one"
        assert found["kept"] and found["scale"] == 2.0**7, "a step that is left out is everybody's"
        assert found["went on"]


# Buffers.


def test_running_statistics_are_rank_0s_everywhere(two):
    first, second = (found["buffers"] for found in two)
    assert first["start"] == second["start"] == [0.0] * 4, "before the first step as well"
    assert first["state"] == second["state"], "the copies come apart: who sends the buffers?"
    expected = np.zeros(4)
    for mean in first["means"]:
        expected = 0.9 * expected + 0.1 * np.array(mean)
    np.testing.assert_allclose(first["state"]["1.running_mean"], expected, rtol=1e-5)
    assert first["state"]["1.num_batches_tracked"] == 4
    assert not np.allclose(first["means"], second["means"]), "the ranks saw other rows"


def test_buffers_may_stay_each_ranks_own(two):
    first, second = (found["own buffers"] for found in two)
    assert second["start"] == [1.0] * 4
    assert first["state"]["1.running_mean"] != second["state"]["1.running_mean"]
    assert first["state"]["0.weight"] == second["state"]["0.weight"], "parameters never do"


# Stages with nothing to train.


def test_a_stage_with_nothing_to_train_passes_gradients_on(three):
    for rank, found in enumerate(three):
        held, loss = found["pipeline"].pop("no parameters")
        assert (held == 0) == (rank == 1) and np.isfinite(loss)
        for case, off in found["pipeline"].items():
            assert off < 1e-12, f"frozen is {case}: rank {rank} is {off:.1e} from one process"
