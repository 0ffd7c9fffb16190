"""The gradient of every line by hand: equal to autodiff's of the same line, and to the module's."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import ContextMLP, cross_entropy
from chapter_04_training_dynamics import BatchNorm1d
from chapter_05_gradient_mastery import backward, forward
from utils import Tensor, grad

SIZES = [  # B, T, E, H, V
    (32, 3, 4, 8, 27),
    (2, 1, 1, 1, 2),
    (7, 5, 2, 3, 4),
    (1, 2, 3, 4, 5),
    (64, 2, 10, 16, 65),
]


def problem(size, seed=0):
    """A network in float64, its arrays with numbers that are far from the first ones, a batch."""
    b, t, e, h, v = size
    rng = np.random.default_rng(seed)
    model = ContextMLP(v, t, e, [h], normalization=BatchNorm1d, rng=rng).astype(np.float64)
    for p in model.parameters():
        p.data += rng.normal(0, 0.3, p.shape)
    return model, rng.integers(v, size=(b, t)), rng.integers(v, size=b)


def floats(model) -> dict[str, np.ndarray]:
    return {name: p.data for name, p in model.named_parameters()}


def by_autodiff(p, ids, targets, eps=1e-5):
    """The values of `forward` on Tensors, and the gradients of the loss by all and by `p`."""
    leaves = {name: Tensor(a, requires_grad=True) for name, a in p.items()}
    v = forward(leaves, ids, targets, eps)
    asked = {**v, **leaves}
    return v, dict(zip(asked, (g.data for g in grad(v["loss"], list(asked.values())))))


def equal(by_hand, expected):
    """Every gradient to 1e-12; raises AssertionError that names the first line that is wrong."""
    for name, g in expected.items():
        assert name in by_hand, f"backward lacks the gradient of {name}"
        assert by_hand[name].shape == g.shape, (
            f"d[{name!r}] has shape {by_hand[name].shape}: a gradient has the shape of its "
            f"variable, {g.shape}; what was broadcast is summed"
        )
        np.testing.assert_allclose(by_hand[name], g, rtol=0, atol=1e-12, err_msg=f"d[{name!r}]")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_gradient_is_autodiffs(size):
    model, ids, targets = problem(size)
    p = floats(model)
    _, expected = by_autodiff(p, ids, targets)
    d = backward(p, forward(p, ids, targets), ids, targets)
    assert set(d) == set(expected), "a gradient for every value and every parameter, and no other"
    equal(d, expected)


def test_another_eps():
    model, ids, targets = problem(SIZES[0])
    p = floats(model)
    _, expected = by_autodiff(p, ids, targets, eps=0.1)
    equal(backward(p, forward(p, ids, targets, eps=0.1), ids, targets), expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_is_the_same_on_arrays_and_on_tensors(size):
    model, ids, targets = problem(size)
    p = floats(model)
    on_tensors, _ = by_autodiff(p, ids, targets)
    on_arrays = forward(p, ids, targets)
    assert list(on_arrays) == list(on_tensors)
    for name, value in on_arrays.items():
        assert isinstance(on_tensors[name], Tensor), f"{name} has left the graph"
        np.testing.assert_allclose(value, on_tensors[name].data, rtol=1e-14, err_msg=name)


@pytest.mark.parametrize("size", [s for s in SIZES if s[0] > 1], ids=str)
def test_the_network_is_the_module(size):
    model, ids, targets = problem(size)
    state = model.state_dict()
    v = forward(state, ids, targets)
    d = backward(state, v, ids, targets)
    logits = model(ids)
    loss = cross_entropy(logits, targets)
    loss.backward()
    np.testing.assert_allclose(v["logits"], logits.data, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(v["loss"], loss.data, rtol=1e-12)
    equal(d, {name: p.grad for name, p in model.named_parameters()})


def test_a_token_that_stands_in_several_places_gathers_from_all():
    model, ids, targets = problem(SIZES[0])
    ids[:] = 5
    p = floats(model)
    d = backward(p, forward(p, ids, targets), ids, targets)
    _, expected = by_autodiff(p, ids, targets)
    equal(d, expected)
    table = d["embedding.weight"]
    np.testing.assert_allclose(table[5], d["vectors"].sum(axis=(0, 1)), atol=1e-15)
    assert not table[np.arange(27) != 5].any(), "tokens that did not occur get no gradient"


def test_the_bias_before_a_normalization_has_no_gradient():
    model, ids, targets = problem(SIZES[0])
    p = floats(model)
    d = backward(p, forward(p, ids, targets), ids, targets)
    np.testing.assert_allclose(d["mlp.1.bias"], 0, atol=1e-15, err_msg="the mean takes it away")
    np.testing.assert_allclose(d["logits"].sum(axis=1), 0, atol=1e-15, err_msg="p - onehot")


def test_nothing_is_overwritten():
    model, ids, targets = problem(SIZES[0])
    p = floats(model)
    v = forward(p, ids, targets)
    held = {**p, **v, "ids": ids, "targets": targets}
    before = {name: np.array(a).tobytes() for name, a in held.items()}
    first = backward(p, v, ids, targets)
    assert {name: np.array(a).tobytes() for name, a in held.items()} == before
    for name, g in backward(p, v, ids, targets).items():
        np.testing.assert_array_equal(g, first[name], err_msg=name)


FAULTS = {
    "centred": ("one use forgotten", lambda d, p, v: d["normal"] * v["inverse_std"]),
    "mean": ("the sum forgotten", lambda d, p, v: -d["centred"]),
    "exponentials": ("one use forgotten", lambda d, p, v: d["probabilities"] * v["inverse"]),
    "total": ("the sign", lambda d, p, v: -d["total"]),
    "variance": ("the power", lambda d, p, v: -0.5 * d["inverse_std"] * v["inverse_std"] ** 2),
    "shifted": ("the slope of tanh", lambda d, p, v: d["active"] * (1 - v["active"])),
    "mlp.4.weight": ("a thousandth", lambda d, p, v: d["mlp.4.weight"] * 1.001),
    "embedding.weight": ("repeated ids", None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name):
    model, ids, targets = problem(SIZES[0])
    p = floats(model)
    v = forward(p, ids, targets)
    d = dict(backward(p, v, ids, targets))
    _, expected = by_autodiff(p, ids, targets)
    equal(d, expected)
    _, plant = FAULTS[name]
    if plant is None:  # assignment in place of np.add.at: the last place wins
        wrong = np.zeros_like(p[name])
        wrong[ids] += d["vectors"]
    else:
        wrong = plant(d, p, v)
    d[name] = wrong
    with pytest.raises(AssertionError, match=name.replace(".", r"\.")):
        equal(d, expected)
