"""ZeRO: each rank steps on its own part, and all together are one process."""

from __future__ import annotations

import functools

import parallel_work
import pytest

from chapter_03_neural_nets import AdamW
from chapter_07_attention import TransformerEncoderLayer
from chapter_09_scaling import SingleProcess, ZeRO, launch, run, sharded
from chapter_09_scaling import zero as script
from chapter_09_scaling.accounting import model_state_bytes
from chapter_09_scaling.traffic import data_parallel_bytes

TWO, FOUR = (pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))
SOME = [1, TWO, 3, FOUR]


@functools.lru_cache(maxsize=None)
def reports(ranks: int) -> list:
    """What each of so many ranks found in every stage; once for all tests."""
    return run(parallel_work.zero, "local", ranks)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("ranks", SOME)
def test_gradients_and_steps_are_those_of_one_process(ranks, stage):
    results = [report[stage - 1] for report in reports(ranks)]
    parallel_work.check(results, f"stage {stage}")
    for result in results:
        for found in result:
            assert abs(found["share"] - 1 / ranks) < 0.02, "each rank has an even share of numbers"


def model():
    return parallel_work.gpt(SingleProcess(), {"dtype": "float32"})


def test_there_are_three_stages():
    with pytest.raises(ValueError, match="the stages of ZeRO are 1, 2 and 3, not 4"):
        ZeRO(SingleProcess(), model(), AdamW, stage=4)


def test_stage_3_asks_for_layers_that_can_be_fetched():
    with pytest.raises(ValueError, match="stage 3 needs layers that are sharded"):
        ZeRO(SingleProcess(), model(), AdamW, stage=3)


def test_memory_and_traffic_are_what_the_formulas_say():
    settings = {
        "layers": 6,
        "heads": 4,
        "width": 64,
        "context": 8,
        "batch": 4,
        "seed": 0,
        "steps": 1,
    }
    for results in run(script.work, "local", 2, settings):
        for stage, found in enumerate(results):
            predicted = model_state_bytes(found["parameters"], 2, stage)
            assert found["memory_held"] == pytest.approx(predicted, rel=0.15), f"stage {stage}"
            traffic = data_parallel_bytes(found["parameters"], 4, 2, stage)
            assert found["bytes_sent"] == pytest.approx(traffic, rel=0.15), f"stage {stage}"


@pytest.fixture(scope="module")
def small_works():
    return launch(parallel_work.small_zero_works, 2)


@pytest.mark.parametrize("stage", [1, 2])
def test_layers_of_one_size_are_not_mixed_up(stage, small_works):
    for found in (report["another order"][stage - 1] for report in small_works):
        assert found == [1 - 1000 - 500, 1 - 1000], "each layer gets its own gradients' sum"


@pytest.mark.parametrize("stage", [1, 2])
def test_gradients_of_several_backward_passes_add_up(stage, small_works):
    for weight in (report["twice"][stage - 1] for report in small_works):
        assert weight == pytest.approx(1 - 0.1 * 2 * 2 * 0.5)


def test_frozen_parameters_are_those_of_rank_0(small_works):
    first, second = (report["frozen"] for report in small_works)
    assert first == second


def sharded_model():
    return parallel_work.gpt(
        SingleProcess(), {"dtype": "float32"}, sharded(TransformerEncoderLayer)
    )


def test_the_state_of_stage_3_is_put_together():
    model = sharded_model()
    expected = {name: array.copy() for name, array in model.state_dict().items()}
    optimizer = ZeRO(SingleProcess(), model, AdamW, stage=3)
    for _ in range(2):
        for name, array in model.state_dict().items():
            assert (array == expected[name]).all(), name
        model.load_state_dict({name: array + 1 for name, array in expected.items()})
        with optimizer.whole():
            for name, p in model.named_parameters():
                assert (p.data == expected[name] + 1).all(), f"{name} was not loaded"
        model.load_state_dict(expected)


def test_layers_that_share_a_parameter_cannot_be_fetched_apart():
    model = sharded_model()
    model.layers[1].linear1.weight = model.layers[0].linear1.weight
    with pytest.raises(ValueError, match="two of the layers share"):
        ZeRO(SingleProcess(), model, AdamW, stage=3)
