"""A loss in threads: the value and the gradient of the loss itself, whatever the parts."""

from __future__ import annotations

import numpy as np
import pytest
from parted_batches import gradients, loss, problem

from chapter_03_neural_nets import Batches, train
from chapter_05_gradient_mastery import MLP, Adam, BatchNorm1d, in_threads
from chapter_05_gradient_mastery.threads import parted
from utils import grad, manual_seed, no_grad
from utils.blas import _openblas, blas_threads
from utils.seeding import generator, own_generator


@pytest.mark.parametrize("threads", [1, 2, 3, 10])
@pytest.mark.parametrize("ignored", [(), (0, 1, 2, 5)], ids=["all", "some ignored"])
def test_value_and_gradients_are_those_of_the_loss(threads, ignored, rng):
    given = problem(rng, ignored=ignored)
    parts = gradients(in_threads(loss, threads), *given)
    for found, expected in zip(parts, gradients(loss, *given)):
        np.testing.assert_allclose(found, expected, 1e-12, 1e-14, err_msg="parts must add up")


def test_a_share_without_targets_counts_for_nothing(rng):
    given = problem(rng, rows=4, ignored=(2, 3))
    for found, expected in zip(gradients(in_threads(loss), *given), gradients(loss, *given)):
        np.testing.assert_allclose(found, expected, 1e-12, 1e-14)


def test_nothing_but_the_leaves_gets_a_gradient_and_only_on_backward(rng):
    model, inputs, targets = problem(rng)
    value = in_threads(loss)(model, inputs, targets)
    assert all(p.grad is None for p in model.parameters()), "before backward nothing may change"
    (value * 2).backward()
    for p, expected in zip(model.parameters(), gradients(loss, model, inputs, targets)[1:]):
        np.testing.assert_allclose(p.grad, 2 * expected, 1e-12, 1e-14)


def test_frozen_parameters_are_left_out(rng):
    model, inputs, targets = problem(rng)
    next(model.parameters()).requires_grad = False
    in_threads(loss)(model, inputs, targets).backward()
    assert [p.grad is None for p in model.parameters()] == [True, False, False, False]


def test_the_same_seed_gives_the_same_training_bit_for_bit():
    def trained():
        manual_seed(3)
        model = MLP([4, 16, 3], dropout=0.5)
        data = np.random.default_rng(0)
        batches = Batches(
            data.normal(size=(40, 4)).astype(np.float32), data.integers(3, size=40), batch_size=8
        )
        history = train(model, Adam(model.parameters(), 0.01), batches, 20, loss=in_threads(loss))
        return history.losses, list(model.state_dict().values())

    (losses, state), (again, other) = trained(), trained()
    assert losses == again
    assert all(np.array_equal(a, b) for a, b in zip(state, other))


def test_an_error_in_a_thread_comes_out(rng):
    model, inputs, _ = problem(rng)
    with pytest.raises(ValueError, match="9"):
        in_threads(loss)(model, inputs, np.full(7, 9))


def test_second_derivatives_are_refused_not_wrong(rng):
    model, inputs, targets = problem(rng)
    with pytest.raises(NotImplementedError, match="the loss itself"):
        grad(in_threads(loss)(model, inputs, targets), list(model.parameters()), create_graph=True)


def test_no_threads_are_an_error():
    with pytest.raises(ValueError, match="0"):
        in_threads(loss, 0)


@pytest.mark.parametrize(("rows", "threads"), [(7, 3), (2, 5), (0, 2), (8, 2)])
def test_parts_are_all_the_rows_once(rows, threads):
    parts = list(parted(rows, threads))
    assert [i for part in parts for i in range(rows)[part]] == list(range(rows))
    assert all(part.start < part.stop for part in parts)


def test_a_thread_s_own_generator():
    manual_seed(1)
    expected = generator().random(3)
    manual_seed(1)
    with own_generator(5):
        own = generator().random()
    assert np.array_equal(generator().random(3), expected), "the default generator stays put"
    with own_generator(5):
        assert generator().random() == own


def test_blas_threads_come_back_as_they_were():
    functions = _openblas()
    if functions is None:
        pytest.skip("NumPy does not stand on a library whose threads can be set")
    before = functions[0]()
    with pytest.raises(ZeroDivisionError), blas_threads(1) as possible:
        assert possible and functions[0]() == 1
        _ = 1 / 0
    assert functions[0]() == before


def test_a_frozen_model_still_has_a_loss(rng):
    model, inputs, targets = problem(rng)
    expected = loss(model, inputs, targets).item()
    value = in_threads(loss)(model.requires_grad_(False), inputs, targets)
    assert value.node is None and value.item() == pytest.approx(expected, rel=1e-12)


def test_a_generator_of_the_models_own_is_refused(rng):
    model = MLP([4, 6, 3], dropout=0.5, rng=rng)
    given = rng.normal(size=(4, 4)).astype(np.float32), np.array([0, 1, 2, 0])
    with pytest.raises(ValueError, match="own generator"):
        in_threads(loss)(model, *given)
    in_threads(loss)(model.eval(), *given).backward()


def test_batch_normalisation_is_refused_in_training(rng):
    model = MLP([4, 6, 3], normalization=BatchNorm1d)
    given = rng.normal(size=(4, 4)).astype(np.float32), np.array([0, 1, 2, 0])
    with pytest.raises(ValueError, match="whole batch"):
        in_threads(loss)(model, *given)


def test_all_targets_ignored_is_the_losses_own_error(rng):
    model, inputs, _ = problem(rng)
    with pytest.raises(ValueError, match="no targets"):
        in_threads(loss)(model, inputs, np.full(7, -100))


def test_without_gradients_nothing_is_differentiated(rng):
    model, inputs, targets = problem(rng)
    with no_grad():
        assert in_threads(loss)(model, inputs, targets).node is None
