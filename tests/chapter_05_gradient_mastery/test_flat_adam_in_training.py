"""Models trained with the flat Adam: loading, casting, copying, and resuming on the way."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import chapter_03_neural_nets as chapter_03
import chapter_05_gradient_mastery as chapter_05
from chapter_03_neural_nets import Batches, train


def warm_up_and_down(step):
    return 0.02 * min((step + 1) / 10, 1 - step / 100)


def models(dtype=np.float32, **options):
    """A network of each chapter with the same numbers, and AdamW on each."""
    ours = chapter_05.MLP([3, 5, 2], rng=np.random.default_rng(0)).astype(dtype)
    theirs = chapter_03.MLP([3, 5, 2], rng=np.random.default_rng(0)).astype(dtype)
    return [
        (model, chapter.AdamW(model.parameters(), lr=0.02, **options))
        for model, chapter in ((theirs, chapter_03), (ours, chapter_05))
    ]


def train_step(model, optimizer, seed):
    rng = np.random.default_rng(seed)
    dtype = next(model.parameters()).dtype
    x, targets = rng.normal(size=(8, 3)).astype(dtype), rng.integers(2, size=8)
    optimizer.zero_grad()
    chapter_03.cross_entropy(model(x), targets).backward()
    optimizer.step()


def same_models(pair, tolerance=1e-5):
    (theirs, _), (ours, _) = pair
    for name, array in theirs.state_dict().items():
        found = ours.state_dict()[name]
        assert found.dtype == array.dtype
        np.testing.assert_allclose(found, array, tolerance, tolerance, err_msg=name)


def test_weights_loaded_on_the_way():
    pair = models(np.float64)
    saved = {k: v.copy() for k, v in pair[0][0].state_dict().items()}
    for step in range(12):
        for model, optimizer in pair:
            train_step(model, optimizer, step)
        if step == 5:
            for model, _ in pair:
                model.load_state_dict(saved)
        same_models(pair, 1e-12)


@pytest.mark.parametrize("when", [0, 4])
def test_astype_after_construction(when):
    pair = models()
    for step in range(10):
        if step == when:
            for model, _ in pair:
                model.astype(np.float64)
        for model, optimizer in pair:
            train_step(model, optimizer, step)
        same_models(pair)


def test_a_copy_of_model_and_optimizer_goes_on_alone():
    ((_, _), (model, optimizer)) = models()
    for step in range(3):
        train_step(model, optimizer, step)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    before = {k: v.copy() for k, v in model.state_dict().items()}
    for step in range(3, 6):
        train_step(twin, twin_optimizer, step)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg="the original has moved")
    for step in range(3, 6):
        train_step(model, optimizer, step)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, twin.state_dict()[name], err_msg=name)


def test_a_tied_parameter_moves_once_and_in_both_places():
    class Tied(chapter_03.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = chapter_05.Linear(3, 3), chapter_05.Linear(3, 3)
            self.second.weight = self.first.weight

    model = Tied()
    optimizer = chapter_05.Adam(model.parameters(), lr=0.1)
    before = model.first.weight.data.copy()
    for p in model.parameters():
        p.grad = np.ones(p.shape, np.float32)
    optimizer.step()
    assert model.second.weight is model.first.weight
    np.testing.assert_allclose(model.second.weight.data, before - 0.1, rtol=1e-5)


def test_exact_resume_through_train(tmp_path):
    def run(steps, folder, dropout=0.3):
        rng = np.random.default_rng(7)
        model = chapter_05.MLP([4, 8, 3], dropout=dropout, rng=np.random.default_rng(8))
        optimizer = chapter_05.AdamW(model.parameters(), lr=warm_up_and_down)
        x, targets = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(3, size=40)
        batches = Batches(x, targets, batch_size=7, rng=rng)
        history = train(model, optimizer, batches, steps, checkpoint=folder, checkpoint_every=5)
        return model, optimizer, history

    whole = run(25, tmp_path / "whole")
    run(12, tmp_path / "parts")
    resumed = run(25, tmp_path / "parts")
    assert resumed[2].losses == whole[2].losses, "resumed, the losses are others"
    for a, b in zip(whole[:2], resumed[:2]):
        assert list(a.state_dict()) == list(b.state_dict())
        for name, array in a.state_dict().items():
            np.testing.assert_array_equal(b.state_dict()[name], array, err_msg=name)


def test_a_checkpoint_of_chapter_3_is_taken_up(tmp_path):
    losses = []
    for first, then in ((chapter_03, chapter_03), (chapter_03, chapter_05)):
        for chapter, steps in ((first, 8), (then, 16)):
            rng = np.random.default_rng(7)
            model = chapter.MLP([4, 8, 3], rng=rng)
            batches = Batches(
                rng.normal(size=(40, 4)).astype(np.float32), rng.integers(3, size=40), rng=rng
            )
            optimizer = chapter.Adam(model.parameters(), lr=0.01)
            folder = tmp_path / then.__name__
            losses.append(train(model, optimizer, batches, steps, checkpoint=folder).losses)
    np.testing.assert_allclose(losses[3], losses[1], rtol=1e-5)
