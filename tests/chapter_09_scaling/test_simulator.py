"""The simulator: against published runs, against sums by hand, and in what it must never say."""

from __future__ import annotations

import dataclasses
import math

import pytest

from chapter_07_attention import GPTConfig, LlamaConfig
from chapter_09_scaling.accounting import Product, parameters
from chapter_09_scaling.cluster import A100_CLUSTER, CLUSTERS, LAPTOPS, Cluster
from chapter_09_scaling.layouts import Layout, kept_bytes, memory, parameters_per_gpu
from chapter_09_scaling.published import read_table
from chapter_09_scaling.simulator import best_layout, simulate
from chapter_09_scaling.step_time import step_parts

MODEL = GPTConfig(51_200, 2048, 24, 16, 2048)
LARGE = GPTConfig(51_200, 2048, 48, 64, 8192, dropout=0.1)
CLUSTER = A100_CLUSTER.of(64)
LAYOUT = Layout(tensor=4, pipeline=4, data=4, micro_batch=2)
BATCH = 256


def layout(**changes):
    return dataclasses.replace(LAYOUT, **changes)


def cluster(**changes):
    return dataclasses.replace(CLUSTER, **changes)


def test_every_published_row_within_a_fifth(reference_data):
    for row in read_table(reference_data / "megatron_lm_table_1.csv"):
        model = GPTConfig(51_200, 2048, row.layers, row.heads, row.width, dropout=0.1)
        assert parameters(model) / 1e9 == pytest.approx(float(row.name), rel=0.03)
        report = best_layout(model, A100_CLUSTER.of(row.gpus), row.batch, tensor=row.tensor,
                             pipeline=row.pipeline, recompute=True)  # fmt: skip
        ratio = report.flops_per_gpu / row.flops
        assert 0.8 < ratio < 1.2, f"{row.name} billion: {ratio:.2f} of what was measured"


def test_parts_make_up_the_step_and_flops_are_what_comes_out():
    report = simulate(MODEL, CLUSTER, LAYOUT, BATCH)
    assert report.seconds == pytest.approx(sum(report.parts.values()))
    assert report.memory_bytes == pytest.approx(sum(report.memory.values()))
    assert all(seconds > 0 for seconds in report.parts.values()), report.parts
    b, s, layers, h, v = BATCH, 2048, 24, 2048, 51_200
    paper = 96 * b * s * layers * h**2 * (1 + s / (6 * h) + v / (16 * layers * h))
    assert report.flops_per_gpu == pytest.approx(paper / (64 * report.seconds))
    assert 0 < report.utilization < report.flops_per_gpu / CLUSTER.peak_flops < 0.75


def test_a_product_by_hand():
    ideal = cluster(attained=1.0, kernel_latency=0.0, processors=4, tile=(2, 2), peak_flops=100.0,
                    memory_bandwidth=1e6)  # fmt: skip
    # 2 x 3 tiles on 4 processors are two waves, of which the second is half empty.
    assert ideal.product_seconds(Product("", 1, 4, 10, 6)) == 8 * 2 * (2 * 2) * 10 / 100
    slow = dataclasses.replace(ideal, memory_bandwidth=1.0, kernel_latency=3.0)
    assert slow.product_seconds(Product("", 1, 4, 10, 6)) == 3 + 2 * (40 + 60 + 24), "16-bit bytes"


def test_rings_by_hand():
    ideal = cluster(attained=1.0, node_latency=0.0, network_latency=0.0, gpus_per_node=4,
                    node_bandwidth=100.0, network_bandwidth=10.0)  # fmt: skip
    assert ideal.ring_seconds(1000, 1, 1, 0) == 0
    assert ideal.ring_seconds(1000, 4, 1, 6) == 10, "within a node"
    assert ideal.ring_seconds(1000, 8, 1, 14) == 25, "four cards of a node carry four rings"
    assert ideal.ring_seconds(1000, 8, 4, 14) == 100, "one member on each node"
    late = dataclasses.replace(ideal, network_latency=2.0)
    assert late.ring_seconds(1000, 8, 4, 14) == 100 + 14 * 2


def test_the_bubble_is_p_minus_1_over_m_v():
    def parts_of(**changes):
        return step_parts(MODEL, CLUSTER, layout(**changes), BATCH)

    parts = parts_of()
    work = sum(parts[name] for name in ("matrix products", "memory passes", "tensor parallel",
                                        "pipeline sends"))  # fmt: skip
    # The last stage's logits are not part of what the others do first.
    assert parts["pipeline bubble"] < 3 / 32 * work
    assert parts["pipeline bubble"] == pytest.approx(3 / 32 * work, rel=0.3)
    longer = step_parts(MODEL, CLUSTER, LAYOUT, 4 * BATCH)
    assert longer["pipeline bubble"] == pytest.approx(parts["pipeline bubble"])
    shares = [p["pipeline bubble"] / sum(p.values()) for p in (parts, longer)]
    assert shares[1] < shares[0] / 3, "more micro-batches, less of the step"
    pieces = parts_of(interleaved=3)
    assert pieces["pipeline sends"] == pytest.approx(3 * parts["pipeline sends"])
    assert pieces["pipeline bubble"] < parts["pipeline bubble"] / 2
    assert parts_of(pipeline=1, data=16)["pipeline bubble"] == 0


FASTER = {
    "peak_flops": ["matrix products"],
    "memory_bandwidth": ["memory passes", "optimiser"],
    "node_bandwidth": ["tensor parallel"],
    "network_bandwidth": ["pipeline sends", "data parallel"],
}


@pytest.mark.parametrize("speed", FASTER)
def test_twice_the_speed_is_never_slower(speed):
    twice = cluster(**{speed: 2 * getattr(CLUSTER, speed)})
    for shape in ({}, {"tensor": 1, "data": 16}, {"pipeline": 1, "data": 16}, {"recompute": False}):
        slow, fast = (step_parts(MODEL, c, layout(**shape), BATCH) for c in (CLUSTER, twice))
        for name in slow:
            assert fast[name] <= slow[name] * (1 + 1e-12), f"{name} is slower with twice {speed}"
    slow, fast = (step_parts(MODEL, c, LAYOUT, BATCH) for c in (CLUSTER, twice))
    for name in FASTER[speed]:
        assert fast[name] < 0.8 * slow[name], f"{name} gains nothing from twice {speed}"


def test_a_layer_keeps_what_korthikanti_counts():
    b, s, h, a = 2, 2048, 8192, 64
    for t in (1, 8):
        inputs, inside = kept_bytes(LARGE, Layout(tensor=t, micro_batch=b), 2)
        assert inputs == 2 * b * s * h
        assert inside == b * s * h * (10 + 24 / t + 5 * a * s / (h * t))


def test_memory_by_hand():
    held = memory(MODEL, CLUSTER, LAYOUT, BATCH)
    layers = 6 * (12 * 2048**2 + 13 * 2048)
    count = (layers + (51_200 + 2048) * 2048) // 4
    assert parameters_per_gpu(MODEL, LAYOUT) == count
    assert [held[k] for k in ("weights", "gradients", "optimiser")] == [2 * count, 2 * count,
                                                                       12 * count]  # fmt: skip
    inputs, inside = kept_bytes(MODEL, LAYOUT, 2)
    logits = 2 * 2048 * 51_200 // 4 * (2 + 4 + 4)
    assert held["activations"] == max(4 * 6 * inputs, 6 * inputs + logits)
    assert held["recomputed"] == inside
    whole = memory(MODEL, CLUSTER, layout(recompute=False), BATCH)
    assert whole["recomputed"] == 0 and whole["activations"] >= 4 * 6 * inside
    pieces = memory(MODEL, CLUSTER, layout(recompute=False, interleaved=3), BATCH)
    assert pieces["activations"] == pytest.approx((4 + 3 / 3) * 6 * inside)
    alone = parameters_per_gpu(MODEL, Layout(tensor=4))
    assert alone == -(-parameters(MODEL) // 4)


def test_what_does_not_fit_is_told_part_by_part():
    with pytest.raises(ValueError, match="GB a GPU.*weights.*optimiser.*72 GB are usable") as error:
        simulate(LARGE, CLUSTER, Layout(data=64), 64)
    needed = sum(memory(LARGE, CLUSTER, Layout(data=64), 64).values()) / 1e9
    assert f"needs {needed:.3g} GB" in str(error.value)


WRONG = {
    "64 GPUs do not divide": {"tensor": 3},
    "are 32 GPUs, not the cluster's 64": {"data": 2},
    "must divide 16 heads": {"tensor": 32, "pipeline": 2, "data": 1},
    "must divide the 24 layers": {"pipeline": 16, "data": 1},
    "x interleaved 5 must divide": {"interleaved": 5},
    "must divide the batch of 256": {"micro_batch": 3},
    "more than one stage": {"interleaved": 2, "pipeline": 1, "data": 16},
    "by the 4, not 1": {"interleaved": 2, "micro_batch": 64},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_does_not_divide_is_refused(said):
    with pytest.raises(ValueError, match=said):
        simulate(MODEL, CLUSTER, layout(**WRONG[said]), BATCH)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_a_layout_is_made_of_whole_numbers(value):
    for name in ("tensor", "pipeline", "data", "micro_batch", "interleaved"):
        with pytest.raises(ValueError, match=name):
            layout(**{name: value})
    with pytest.raises(ValueError, match="recompute"):
        layout(recompute=1)
    with pytest.raises(ValueError, match="global_batch"):
        simulate(MODEL, CLUSTER, LAYOUT, value)
    with pytest.raises(ValueError, match="global_batch"):
        best_layout(MODEL, CLUSTER, value)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_a_cluster_is_made_of_speeds(value):
    for name in ("peak_flops", "memory_bandwidth", "network_bandwidth", "attained"):
        with pytest.raises(ValueError, match=name):
            cluster(**{name: value})
    with pytest.raises(ValueError, match="gpus"):
        cluster(gpus=value)
    if value != 0:
        with pytest.raises(ValueError, match="node_latency"):
            cluster(node_latency=value)


def test_the_best_layout_is_the_fastest_that_fits():
    model = GPTConfig(1000, 128, 4, 4, 256)
    small = dataclasses.replace(A100_CLUSTER, gpus=8, gpus_per_node=4, memory_bytes=45e6)
    best, tried, fits = best_layout(model, small, 16), 0, []
    for tensor in (1, 2, 4):
        for pipeline in (1, 2, 4):
            for micro_batch in (1, 2, 4, 8, 16):
                for interleaved in (1, 2, 4):
                    for recompute in (False, True):
                        data = 8 // (tensor * pipeline)
                        sizes = tensor, pipeline, data, micro_batch, interleaved, recompute
                        tried += 1
                        try:
                            fits.append(simulate(model, small, Layout(*sizes), 16))
                        except ValueError:
                            continue
    assert 0 < len(fits) < tried
    assert best.seconds == min(report.seconds for report in fits)
    assert best.memory_bytes <= 0.9 * 45e6


def test_fixed_sizes_stay_and_what_fits_nowhere_says_by_how_much():
    report = best_layout(MODEL, CLUSTER, BATCH, tensor=2, pipeline=3 - 1, recompute=True)
    assert (report.layout.tensor, report.layout.pipeline, report.layout.recompute) == (2, 2, True)
    with pytest.raises(ValueError, match=r"no layout divides 64 GPUs.*'tensor': 3"):
        best_layout(MODEL, CLUSTER, BATCH, tensor=3)
    with pytest.raises(ValueError, match="no layout divides"):
        best_layout(MODEL, CLUSTER, 3, tensor=1, pipeline=1)
    with pytest.raises(ValueError, match="needs .* GB a GPU"):
        best_layout(LARGE, A100_CLUSTER.of(1), 1)


def test_one_gpu_sends_nothing():
    report = best_layout(GPTConfig(1000, 128, 2, 2, 64), A100_CLUSTER.of(1), 4)
    for name in ("tensor parallel", "pipeline sends", "pipeline bubble", "data parallel"):
        assert report.parts[name] == 0


def test_grouped_queries_are_divided_by_their_keys():
    model = LlamaConfig(32_000, 2048, 8, 32, 2048, n_kv_head=4)
    report = best_layout(model, A100_CLUSTER.of(32), 64)
    assert 4 % report.layout.tensor == 0
    with pytest.raises(ValueError, match="4 of keys and values"):
        simulate(model, A100_CLUSTER.of(32), Layout(tensor=8, data=4), 64)


def test_laptops_wait_for_their_network():
    model = GPTConfig(50_257, 1024, 12, 12, 768)
    report = best_layout(model, LAPTOPS, 8)
    one = best_layout(model, LAPTOPS.of(1), 8)
    assert isinstance(report.cluster, Cluster) and CLUSTERS["laptops"] is LAPTOPS
    assert one.seconds / 8 < report.seconds < one.seconds, "faster than one, not eight times"
