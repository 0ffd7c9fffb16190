"""ZeRO: each rank steps on its own part, and all together are one process."""

from __future__ import annotations

import parallel_work
import pytest

from chapter_03_neural_nets import AdamW
from chapter_09_scaling import SingleProcess, ZeRO, run
from chapter_09_scaling import zero as script
from chapter_09_scaling.accounting import model_state_bytes
from chapter_09_scaling.traffic import data_parallel_bytes

TWO, FOUR = (pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))
SOME = [1, TWO, 3, FOUR]


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("ranks", SOME)
def test_gradients_and_steps_are_those_of_one_process(ranks, stage):
    results = run(parallel_work.zero, "local", ranks, stage)
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
