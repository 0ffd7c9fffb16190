"""The classes of chapter 5 beside those they extend: same names, same numbers, same manners.

Both start from one state, see the same input, and must agree to 1e-12 in float64.
"""

from __future__ import annotations

import numpy as np
import pytest

import chapter_03_neural_nets as chapter_03
import chapter_04_training_dynamics as chapter_04
import chapter_05_gradient_mastery as chapter_05
from utils import Tensor

FOUR = ("BatchNorm1d", "BatchNorm2d", "LayerNorm", "RMSNorm")
CALLS = [  # class, arguments, options, shape of the input (for an embedding, of its ids)
    ("Linear", (4, 3), {}, (5, 4)),
    ("Linear", (4, 3), {"bias": False}, (2, 5, 4)),
    ("Embedding", (7, 3), {}, (5, 4)),
    ("Embedding", (7, 3), {"padding_idx": 2}, (5, 4)),
    ("GELU", (), {}, (5, 4)),
    ("GELU", ("tanh",), {}, (5, 4)),
    ("SiLU", (), {}, (5, 4)),
    ("Softmax", (), {}, (5, 4)),
    ("Softmax", (0,), {}, (5, 4)),
    ("LogSoftmax", (1,), {}, (5, 4, 2)),
    ("BatchNorm1d", (4,), {}, (5, 4)),
    ("BatchNorm1d", (4,), {"eps": 0.1, "momentum": None}, (5, 4, 3)),
    ("BatchNorm1d", (4,), {"affine": False}, (5, 4)),
    ("BatchNorm1d", (4,), {"track_running_stats": False}, (5, 4)),
    ("BatchNorm2d", (4,), {"momentum": 0.3}, (5, 4, 3, 2)),
    ("LayerNorm", (4,), {}, (5, 4)),
    ("LayerNorm", ((3, 4),), {"eps": 0.1}, (5, 3, 4)),
    ("LayerNorm", (4,), {"bias": False}, (5, 4)),
    ("LayerNorm", (4,), {"elementwise_affine": False}, (5, 4)),
    ("RMSNorm", (4,), {}, (5, 4)),
    ("RMSNorm", ((3, 4),), {"eps": 0.1}, (2, 3, 4)),
    ("RMSNorm", (4,), {"elementwise_affine": False}, (5, 4)),
    *(("MLP", ([4, 6, 5, 3],), {"activation": name}, (5, 4))
      for name in ("ReLU", "Tanh", "GELU", "SiLU", "Sigmoid", "LeakyReLU")),
    ("MLP", ([4, 3],), {}, (5, 4)),
    ("MLP", ([12, 6, 3],), {}, (5, 3, 4)),
    ("MLP", ([4, 6, 5, 3],), {"normalization": chapter_04.BatchNorm1d}, (5, 4)),
    ("MLP", ([4, 6, 5, 3],), {"normalization": chapter_04.LayerNorm}, (5, 4)),
]  # fmt: skip
CLASSES = sorted({name for name, *_ in CALLS} | {"Dropout", "Adam", "AdamW"})


def below(name):
    return getattr(chapter_04 if name in FOUR else chapter_03, name)


def pair(name, args, options):
    """An instance of the class below and one of ours, with its state, in float64."""
    if isinstance(options.get("activation"), str):
        options = {**options, "activation": getattr(chapter_03, options["activation"])}
    theirs, ours = (c(*args, **options) for c in (below(name), getattr(chapter_05, name)))
    rng = np.random.default_rng(0)
    for p in theirs.parameters():
        p.data = rng.normal(size=p.shape).astype(np.float32)
    theirs.astype(np.float64)
    ours.astype(np.float64).load_state_dict(theirs.state_dict())
    return theirs, ours


def run(module, x, g=None):
    """The output, the gradients of input and parameters, and the state afterwards."""
    floating = x.dtype.kind == "f"
    leaf = Tensor(x, requires_grad=True) if floating else x
    module.zero_grad()
    y = module(leaf)
    if y.requires_grad:
        y.backward(np.random.default_rng(2).normal(size=y.shape))
    gradients = {name: p.grad for name, p in module.named_parameters()}
    return {"y": y.data, "x": leaf.grad if floating else None, **gradients, **module.state_dict()}


def equal(ours, theirs):
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        if expected is None:
            assert ours[name] is None, name
            continue
        assert ours[name].shape == expected.shape and ours[name].dtype == expected.dtype, name
        np.testing.assert_allclose(ours[name], expected, 1e-12, 1e-12, err_msg=name)


def test_every_class_of_the_chapter_is_here():
    public = {name for name in chapter_05.__all__ if isinstance(getattr(chapter_05, name), type)}
    assert public == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_extends_the_one_below(name):
    assert issubclass(getattr(chapter_05, name), below(name))
    assert getattr(chapter_05, name).__doc__, "a public class says what it is"


@pytest.mark.parametrize("name, args, options, shape", CALLS, ids=str)
def test_the_same_from_the_same_state(name, args, options, shape):
    theirs, ours = pair(name, args, options)
    assert repr(ours) == repr(theirs)
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    rng = np.random.default_rng(1)
    for _ in range(3):
        x = rng.integers(7, size=shape) if name == "Embedding" else rng.normal(2, 3, shape)
        equal(run(ours, x), run(theirs, x))
    theirs.eval()
    equal(run(ours.eval(), x), run(theirs, x))
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize(
    "name, args", [("Linear", (5, 3)), ("MLP", ([5, 4, 2],)), ("Embedding", (5, 3))]
)
def test_the_same_seed_makes_the_same_first_numbers(name, args):
    two = [c(*args, rng=np.random.default_rng(3)) for c in (below(name), getattr(chapter_05, name))]
    for a, b in zip(*(module.parameters() for module in two)):
        np.testing.assert_array_equal(a.data, b.data)


def test_a_padding_vector_gets_no_gradient():
    layer = chapter_05.Embedding(4, 2, padding_idx=1)
    layer(np.array([[1, 3], [1, 0]])).sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1], [0, 0], [0, 0], [1, 1]]
    assert not layer.weight.data[1].any()


def test_integer_inputs_as_in_chapter_3():
    for x in (np.eye(4, dtype=np.int64), np.full((2, 4), 255, np.uint8)):
        for name, args in (("Linear", (4, 3)), ("MLP", ([4, 5, 3],))):
            theirs = below(name)(*args)
            ours = getattr(chapter_05, name)(*args)
            ours.load_state_dict(theirs.state_dict())
            assert ours(x).dtype == theirs(x).dtype, f"{name} of {x.dtype}"
            np.testing.assert_allclose(ours(x).data, theirs(x).data, 1e-5, 1e-4)


def test_batch_norm_tracks_what_chapter_4_tracks_in_float32(rng):
    ours, theirs = chapter_05.BatchNorm1d(3), chapter_04.BatchNorm1d(3)
    for size in (5, 2, 64):
        x = rng.normal(4, 2, (size, 3)).astype(np.float32)
        ours(Tensor(x)), theirs(Tensor(x))
    for name, array in theirs.state_dict().items():
        found = ours.state_dict()[name]
        assert found.dtype == array.dtype and found.shape == array.shape
        np.testing.assert_allclose(found, array, rtol=1e-5, err_msg=name)


# Dropout


def test_dropout_keeps_the_expectation_and_drops_its_share(rng):
    layer = chapter_05.Dropout(0.3, rng=rng)
    x = Tensor(np.full((400, 500), 2.0, np.float32), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.dtype == np.float32 and abs((y.data == 0).mean() - 0.3) < 0.005
    assert abs(y.data.mean() - 2) < 0.02, "what is left grows, so that the mean stays"
    np.testing.assert_allclose(np.unique(y.data), [0, 2 / 0.7], rtol=1e-4)
    np.testing.assert_allclose(x.grad, y.data / 2, rtol=1e-6, err_msg="the same mask backward")
    correlation = np.corrcoef((y.data == 0)[:, :-1].ravel(), (y.data == 0)[:, 1:].ravel())[0, 1]
    assert abs(correlation) < 0.01, "neighbours are dropped independently"


def test_dropout_at_the_ends_and_in_evaluation(rng):
    x = Tensor(rng.normal(size=(30, 4)), requires_grad=True)
    np.testing.assert_array_equal(chapter_05.Dropout(0.0)(x).data, x.data)
    np.testing.assert_array_equal(chapter_05.Dropout(0.9).eval()(x).data, x.data)
    nothing = chapter_05.Dropout(1.0)(x)
    nothing.sum().backward()
    assert not nothing.data.any() and not x.grad.any()
    for p in (1e-7, 1 - 1e-7):
        assert np.isfinite(chapter_05.Dropout(p)(x).data).all()


def test_dropout_follows_its_generator(rng):
    x = Tensor(np.ones((20, 30)))
    masks = [chapter_05.Dropout(0.5, rng=np.random.default_rng(s))(x).data for s in (4, 4, 5)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()
    layer = chapter_05.Dropout(0.5, rng=rng)
    assert (layer(x).data != layer(x).data).any(), "every pass drops others"
