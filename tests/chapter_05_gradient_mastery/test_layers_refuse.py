"""Bad input raises what chapters 3 and 4 raise; the loss with every option is chapter 3's."""

from __future__ import annotations

import numpy as np
import pytest

import chapter_03_neural_nets as chapter_03
import chapter_04_training_dynamics as chapter_04
import chapter_05_gradient_mastery as chapter_05
from utils import Tensor

ONES = Tensor(np.ones((2, 3), np.float32))
TARGETS = np.array([0, 2])

BAD_CALLS = [
    ("Linear", lambda c: c.Linear(4, 2)(ONES)),
    ("Linear", lambda c: c.Linear(4, 2)(Tensor(1.0))),
    ("MLP", lambda c: c.MLP([4, 5, 2])(ONES)),
    ("MLP", lambda c: c.MLP([4])),
    ("Embedding", lambda c: c.Embedding(4, 2)(np.array([0, 4]))),
    ("Embedding", lambda c: c.Embedding(4, 2)(np.array([-1]))),
    ("Embedding", lambda c: c.Embedding(4, 2)(np.array([0.5]))),
    ("Embedding", lambda c: c.Embedding(4, 2, padding_idx=4)),
    ("Dropout", lambda c: c.Dropout(1.5)),
    ("Dropout", lambda c: c.Dropout(float("nan"))),
    ("GELU", lambda c: c.GELU("erf")(ONES)),
    ("BatchNorm1d", lambda c: c.BatchNorm1d(3)(ONES[:1])),
    ("BatchNorm1d", lambda c: c.BatchNorm1d(4)(ONES)),
    ("BatchNorm1d", lambda c: c.BatchNorm1d(3, momentum=2)),
    ("BatchNorm2d", lambda c: c.BatchNorm2d(3)(ONES)),
    ("LayerNorm", lambda c: c.LayerNorm(4)(ONES)),
    ("LayerNorm", lambda c: c.LayerNorm(3, eps=float("nan"))),
    ("RMSNorm", lambda c: c.RMSNorm((2, 4))(ONES)),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, np.array([0, 3]))),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, np.array([0, -1]))),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, np.array([0.0, 1.0]))),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, np.array([0, 1, 2]))),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, np.array([[0], [1]]))),
    ("cross_entropy", lambda c: c.cross_entropy(ONES[:0], np.zeros(0, int))),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, np.array([-100, -100]))),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, TARGETS, weight=[1.0, 2.0])),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, TARGETS, label_smoothing=float("nan"))),
    ("cross_entropy", lambda c: c.cross_entropy(ONES, TARGETS, reduction="median")),
    ("Adam", lambda c: c.Adam([ONES], lr=-1)),
    ("Adam", lambda c: c.Adam([ONES], lr=float("nan"))),
    ("Adam", lambda c: c.Adam([ONES], betas=(0.9, 1.0))),
    ("AdamW", lambda c: c.AdamW([Tensor(np.arange(3))])),
    ("AdamW", lambda c: c.AdamW([])),
    ("AdamW", lambda c: c.AdamW([{"params": [ONES], "momentum": 0.9}])),
    ("AdamW", lambda c: c.AdamW([ONES, ONES])),
]


@pytest.mark.parametrize(
    "name, call", BAD_CALLS, ids=[f"{i}-{n}" for i, (n, _) in enumerate(BAD_CALLS)]
)
def test_bad_input_raises_the_same_message(name, call):
    below = chapter_04 if "Norm" in name else chapter_03
    with pytest.raises((ValueError, TypeError)) as expected:
        call(below)
    with pytest.raises(expected.type) as found:
        call(chapter_05)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "name, args", [("Linear", (3, 2)), ("LayerNorm", (3,)), ("Embedding", (3, 2))]
)
def test_states_that_do_not_fit_are_listed(name, args):
    layer = getattr(chapter_05, name)(*args)
    before = layer.weight.data.copy()
    with pytest.raises(ValueError, match="unexpected: weigth"):
        layer.load_state_dict({**layer.state_dict(), "weigth": np.ones(3)})
    with pytest.raises(ValueError, match="wrong shape: weight"):
        layer.load_state_dict({**layer.state_dict(), "weight": np.ones((7, 7), np.float32)})
    np.testing.assert_array_equal(layer.weight.data, before)


# Cross-entropy: with every option what chapter 3 says

WEIGHT = np.array([1.0, 0.0, 2.0, 0.5, 1.0])
OPTIONS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"ignore_index": 1},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0},
    {"weight": WEIGHT},
    {"weight": WEIGHT, "label_smoothing": 0.2, "ignore_index": 2},
    {"weight": WEIGHT, "reduction": "none", "ignore_index": 0},
    {"label_smoothing": 0.2, "reduction": "sum", "ignore_index": 4},
]


@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5), (5,)], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cross_entropy_with_every_option(options, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    targets = rng.integers(5, size=shape[:-1])
    results = []
    for module in (chapter_05, chapter_03):
        logits = Tensor(x, requires_grad=True)
        loss = module.cross_entropy(logits, targets, **options)
        loss.backward(np.ones(loss.shape) if loss.ndim else None)
        results.append((loss.data, logits.grad))
    for found, expected in zip(*results):
        assert found.shape == expected.shape and found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, 1e-12, 1e-12)


def test_cross_entropy_of_ignored_targets_leaves_the_fast_way():
    x = np.random.default_rng(0).normal(size=(4, 5))
    targets = np.array([1, -100, 0, -100])
    found, expected = (c.cross_entropy(Tensor(x), targets) for c in (chapter_05, chapter_03))
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-12)
    rest = chapter_05.cross_entropy(Tensor(x[[0, 2]]), targets[[0, 2]])
    np.testing.assert_allclose(found.data, rest.data, rtol=1e-12)


def test_the_loss_of_lists_and_of_tensors_as_targets():
    x = Tensor(np.random.default_rng(0).normal(size=(2, 3)))
    losses = [chapter_05.cross_entropy(x, t).item() for t in ([0, 2], TARGETS, Tensor(TARGETS))]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("targets", [[0, 3], [0, -1], [0, -99]], ids=str)
def test_the_kernel_itself_refuses_targets_outside_the_classes(targets):
    """It is public, and without a check -1 means the last class: a wrong loss that says nothing."""
    with pytest.raises((ValueError, IndexError)):
        chapter_05.mean_cross_entropy(ONES, np.array(targets))
