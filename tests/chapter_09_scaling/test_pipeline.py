"""The pipeline: parallel = single, on 1 to 4 stages, over processes and over MPI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pipeline_work
import pytest
from rank_start import NO_MPI, environment, mpiexec

from chapter_03_neural_nets import SGD, train
from chapter_07_attention import GPT, GPTConfig
from chapter_09_scaling import RankError, SingleProcess, launch
from chapter_09_scaling.parallel_state import shard_state
from chapter_09_scaling.pipeline import Pipeline, gather_state, stage_of
from chapter_09_scaling.pipeline_figures import plot_timelines
from chapter_09_scaling.pipeline_schedules import SCHEDULES, gpipe, timeline

NEAR = {"float32": 1e-6, "float64": 1e-12}
LAYERS = {1: [[0, 1, 2, 3, 4]], 2: [[0, 1], [2, 3, 4]], 3: [[0], [1, 2], [3, 4]],
          4: [[0], [1], [2], [3, 4]]}  # fmt: skip


TWO, FOUR = (pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))


@pytest.fixture(scope="module", params=[1, TWO, 3, FOUR], ids="{} ranks".format)
def reports(request):
    """What each rank found."""
    if request.param == 1:
        return [pipeline_work.everything(SingleProcess())]
    return launch(pipeline_work.everything, request.param)


@pytest.fixture(scope="module")
def single():
    """The trainings in a single process, each once."""
    known = {}

    def found(*case) -> dict:
        if case not in known:
            known[case] = pipeline_work.single(*case)
        return known[case]

    return found


def apart(found: dict, expected: dict) -> float:
    return pipeline_work.far({name: np.array(array) for name, array in found.items()}, expected)


def precision(case: str) -> float:
    return NEAR["float32" if "float32" in case else "float64"]


def check_table(reports: list) -> None:
    for rank, report in enumerate(reports):
        for case, found in report["table"].items():
            near = precision(case)
            assert found["loss"] < near, f"{case}: rank {rank} has another loss"
            assert found["gradients"] < near, (
                f"{case}: rank {rank}: the gradients of the micro-batches do not add up to those "
                "of the batch: is each weighted by its share of the targets?"
            )
            assert found["twice"] < near, (
                f"{case}: rank {rank}: two steps without zero_grad are not twice the gradient: "
                "is what was there before added up between the ends too?"
            )
            assert found["value"] == reports[0]["table"][case]["value"], "losses differ by rank"


def test_a_step_is_that_of_the_whole_model(reports):
    check_table(reports)


def test_bytes_are_those_of_the_theory(reports):
    for report in reports:
        for case, found in report["table"].items():
            assert found["sent"][0] == found["sent"][1], case


def test_stages_keep_as_many_micro_batches_as_their_schedule_says(reports):
    stages = len(reports)
    for rank, report in enumerate(reports):
        for case, found in report["table"].items():
            micro_batches = min(int(case.split()[-2]), pipeline_work.ROWS)
            kept = micro_batches if "gpipe" in case else min(stages - rank, micro_batches)
            assert found["kept"] == kept, case
            name = "gpipe" if "gpipe" in case else "1f1b"
            planned = SCHEDULES[name](rank, stages, micro_batches)
            assert found["order"] == [list(action) for action in planned], case
            assert found["clock"], f"{case}: two actions at the same time"


def test_stages_hold_their_layers_under_the_names_of_the_whole(reports):
    every = pipeline_work.whole("GPT-2, tied", "float32").state_dict()
    case = "GPT-2, tied, float32, gpipe, 3 micro-batches"
    for rank, report in enumerate(reports):
        own = LAYERS[len(reports)][rank]
        expected = [name for name in every if name.startswith("layers.")
                    and int(name.split(".")[1]) in own]  # fmt: skip
        if rank == 0:
            expected += ["embedding.weight", "positions.weight"]
        if rank == len(reports) - 1:
            expected += ["norm.weight", "norm.bias", "head.weight"]
        assert sorted(report["table"][case]["names"]) == sorted(expected)


def test_twenty_steps_are_those_of_the_whole_model(reports, single):
    for name, dtype, optimizer in pipeline_work.TRAININGS:
        case, expected = f"{name}, {dtype}, {optimizer}", single(name, dtype, optimizer)
        for rank, report in enumerate(reports):
            found = report["trainings"][case]
            assert apart(found["state"], expected["state"]) < NEAR[dtype], f"{case}, rank {rank}"
            np.testing.assert_allclose(found["losses"], expected["losses"], atol=NEAR[dtype] * 5)
            assert abs(found["judged"] - expected["judged"]) < NEAR[dtype] * 5
            assert found["judged by"] == ["forward"], "an evaluation needs no backward pass"
            assert set(found["gathered"]) == set(expected["state"]), "every rank gets the whole"
            assert apart(found["gathered"], expected["state"]) < NEAR[dtype], case


def test_both_copies_of_a_tied_matrix_stay_alike(reports):
    ends = [value for report in (reports[0], reports[-1]) for value in report["tied"]]
    assert len(ends) >= 2 and len(set(ends)) == 1, "the ends must begin with the same matrix"
    for case, found in reports[0]["trainings"].items():
        last = reports[-1]["trainings"][case]["state"]["head.weight"]
        if "tied" in case:
            assert found["state"]["embedding.weight"] == last, f"{case}: not bit for bit"


def test_states_and_recomputed_layers(reports):
    for report in reports:
        assert all(abs(value) < 1e-12 for value in report["states"].values()), report["states"]


def test_what_cannot_be_is_refused_on_every_rank(reports):
    for report in reports:
        said = report["refusals"]
        assert [line.endswith(end) for line, end in zip(said, ("0", "-1", "True", "1.5"))] == [
            True
        ] * 4
        if len(reports) > 1:
            layers = len(reports) - 1
            assert said.pop(4) == (
                f"{layers} layers cannot be cut into {len(reports)} stages: use fewer ranks"
            )
        assert said[4:] == [
            "the mean loss of no targets does not exist",
            "2 rows of inputs, but 1 of targets",
        ]


def test_messages_larger_than_what_is_in_flight(reports):
    if len(reports) == 1:
        return
    for report in reports:
        assert report["large"]["bytes"] > 1 << 20
        assert report["large"]["gpipe"] == pytest.approx(report["large"]["1f1b"], rel=1e-6)


def test_with_data_parallelism(reports, single):
    for case in reports[0]["grid"]:
        found = [report["grid"][case] for report in reports]
        expected = single("GPT-2, tied", "float64", "SGD", found[0]["rows"])
        for rank, stage in enumerate(found):
            assert apart(stage["state"], expected["state"]) < 1e-12, f"{case}, rank {rank}"
        # Rank 0 and 2 begin the two copies, whose losses are shares of the mean.
        losses = np.add(found[0]["losses"], found[2]["losses"])
        np.testing.assert_allclose(losses, expected["losses"], rtol=1e-12)
    assert len(reports) != 4 or len(reports[0]["grid"]) == 3


def test_another_order_is_an_error_and_not_a_wrong_gradient():
    with pytest.raises(RankError, match=r"rank 1 .*forward 1.* rank 0 .*forward 0"):
        launch(pipeline_work.other_order, 2)


def test_over_mpi():
    pytest.importorskip("mpi4py", reason=NO_MPI)
    if mpiexec() is None:
        pytest.skip(NO_MPI)
    script = str(Path(pipeline_work.__file__))
    command = [mpiexec(), "-n", "3", sys.executable, "-m", "mpi4py", script, "table_and_large"]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, timeout=100)
    reports = json.loads(done.stdout)
    assert len(reports) == 3
    check_table(reports)
    test_bytes_are_those_of_the_theory(reports)
    test_messages_larger_than_what_is_in_flight(reports)


# In one process.


def test_a_stage_is_the_model_without_what_others_hold():
    model = GPT(GPTConfig(7, 4, 3, 1, 4))
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    expected, state = model(ids).data, {k: a.copy() for k, a in model.state_dict().items()}
    x = ids
    for i in range(3):
        stage = stage_of(GPT(GPTConfig(7, 4, 3, 1, 4)), i, 3)
        stage.load_state_dict(shard_state(stage, state))
        x = stage(x)
    np.testing.assert_allclose(x.data, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="3 layers cannot be cut into 4 stages"):
        stage_of(GPT(GPTConfig(7, 4, 3, 1, 4)), 0, 4)


def test_frozen_parameters_get_no_gradient():
    pipeline = Pipeline(SingleProcess(), GPT(GPTConfig(7, 4, 2, 1, 4)), 2)
    pipeline.stage.requires_grad_(False)
    pipeline.stage.norm.requires_grad_(True)
    ids = np.zeros((3, 4), int)
    pipeline.step(ids, ids)
    found = [name for name, p in pipeline.stage.named_parameters() if p.grad is not None]
    assert found == ["norm.weight", "norm.bias"]


def test_a_training_learns():
    pipeline = Pipeline(SingleProcess(), GPT(GPTConfig(5, 4, 1, 1, 8)), 2, gpipe)
    ids = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    optimizer = SGD(pipeline.stage.parameters(), lr=0.5, momentum=0.9)
    history = train(pipeline.stage, optimizer, iter([(ids, (ids + 1) % 5)] * 30), 30,
                    loss=pipeline.loss)  # fmt: skip
    assert history.losses[-1] < 0.3 * history.losses[0]
    assert set(gather_state(pipeline.stage, SingleProcess())) == set(pipeline.stage.state_dict())


def test_the_figure_has_a_bar_for_every_action():
    timelines = {name: timeline([schedule(s, 3, 4) for s in range(3)])
                 for name, schedule in SCHEDULES.items()}  # fmt: skip
    figure = plot_timelines(timelines)
    for axes in figure.axes:
        numbers = [text.get_text() for text in axes.texts]
        assert sorted(numbers) == sorted(str(i) for i in range(4) for _ in range(6))
        assert "33 %" in axes.get_title("left")
