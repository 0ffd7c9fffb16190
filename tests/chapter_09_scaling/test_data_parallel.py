"""Data parallelism: every rank's gradients and parameters are those of one process."""

from __future__ import annotations

import numpy as np
import parallel_work
import pytest

from chapter_09_scaling import DataParallel, RankError, SharedBatches, SingleProcess, launch, shared
from chapter_09_scaling.backends import run
from chapter_09_scaling.replicas import buckets_of

TWO, FOUR = (pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))
SOME = [1, TWO, 3, FOUR]


@pytest.mark.parametrize("ranks", SOME)
def test_gradients_and_steps_are_those_of_one_process(ranks):
    results = run(parallel_work.data_parallel, "local", ranks)
    parallel_work.check(results, "with overlap")
    for i in range(len(parallel_work.CASES)):
        total = np.sum([result[i]["losses"] for result in results], axis=0)
        one = parallel_work.single(i)["losses"]
        np.testing.assert_allclose(total, one, rtol=1e-5, err_msg="the shares must add up")


OPTIONS = [(False, 1 << 10, "tree"), (True, 1, "ring"), (True, 1 << 30, "naive")]


@pytest.fixture(scope="module")
def with_options():
    """What two ranks found with each of them."""
    return dict(zip(OPTIONS, zip(*launch(parallel_work.data_parallel_with, 2, OPTIONS))))


@pytest.mark.parametrize("options", OPTIONS)
def test_so_with_any_bucket_any_algorithm_and_without_overlap(options, with_options):
    parallel_work.check(with_options[options], f"{options}")


def test_two_backward_passes_need_a_synchronize_between():
    with pytest.raises(RankError, match="without `synchronize` between them"):
        launch(parallel_work.forgets_to_synchronize, 2)


def test_different_models_are_found_out():
    with pytest.raises(RankError, match="all ranks must make the same calls"):
        launch(parallel_work.another_model, 2)


def test_what_some_or_none_use():
    for used, never in launch(parallel_work.unused, 2):
        assert used == 2, "one rank's gradient is the sum"
        assert never == 0


def test_buckets_close_when_they_are_full_and_hold_one_dtype():
    model = parallel_work.gpt(SingleProcess(), {"dtype": "float32"})
    params = list(model.parameters())
    params[3].astype = None
    for size in (1, 1000, 1 << 30):
        buckets = buckets_of(params, size)
        assert [p for bucket in buckets for p in bucket.params] == params
        assert all(b.flat.nbytes >= size for b in buckets[:-1])
    assert len(buckets) == 1


def test_shared_batches_pass_on_their_place():
    case = {"batch": 5}
    comm = SingleProcess()
    first = parallel_work.batches(comm, case)
    next(first)
    second = parallel_work.batches(comm, case)
    second.load_state_dict(first.state_dict())
    for a, b in zip(next(first), next(second)):
        np.testing.assert_array_equal(a, b)
    assert isinstance(first, SharedBatches) and iter(first) is first


def test_a_share_without_targets_is_zero_and_has_zero_gradients():
    model = parallel_work.gpt(SingleProcess(), {"dtype": "float64"})
    loss = shared()(model, np.zeros((0, 8), int), np.zeros((0, 8), int), 10)
    loss.backward()
    assert loss.item() == 0
    assert all(np.all(p.grad == 0) for p in model.parameters())


def test_one_process_needs_no_thread():
    model = parallel_work.gpt(SingleProcess(), {"dtype": "float32"})
    parallel = DataParallel(SingleProcess(), model)
    shared()(model, *next(parallel_work.batches(SingleProcess(), {"batch": 4}))).backward()
    before = parallel_work.gradients_of(model)
    parallel.synchronize()
    np.testing.assert_array_equal(parallel_work.gradients_of(model), before)


def test_a_closed_one_leaves_the_model_alone():
    launch(parallel_work.closes, 2)
