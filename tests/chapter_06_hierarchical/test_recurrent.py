"""Recurrent networks and packed sequences: by hand, gradients, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import tensors

from chapter_06_hierarchical import (
    CELLS,
    GRU,
    LSTM,
    RNN,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    recur,
)
from utils import Tensor, check_gradients, grad

NETWORKS = [RNN, LSTM, GRU]


def gradients(y, leaves, arriving):
    """Those of the leaves, as arrays, by the gradient that arrives at y."""
    return [g.data for g in grad(y, leaves, arriving)]


def test_a_memory_by_hand():
    net = RNN(1, 1).astype(np.float64)
    state = {"weight_ih_l0": [[2.0]], "weight_hh_l0": [[-1.0]], "bias_ih_l0": [0.5]}
    net.load_state_dict({**{k: np.array(v) for k, v in state.items()}, "bias_hh_l0": np.zeros(1)})
    y, end = net(np.array([[[1.0]], [[0.0]]]))
    first = np.tanh(2.5)
    np.testing.assert_allclose(y.data.ravel(), [first, np.tanh(0.5 - first)])
    assert end.shape == (1, 1, 1) and end.item() == y.data[1, 0, 0]


def test_gates_that_are_shut_keep_the_memory():
    x, r = np.zeros((1, 4)), np.array([[-50.0, 50.0, 3.0, 50.0]])  # in, forget, new, out
    (h, c), _ = CELLS["lstm"].step(x, r, np.zeros((1, 1)), np.array([[0.7]]))
    np.testing.assert_allclose([c[0, 0], h[0, 0]], [0.7, np.tanh(0.7)])
    (h,), _ = CELLS["gru"].step(np.array([[0.0, 50.0, 3.0]]), np.zeros((1, 3)), np.array([[0.7]]))
    np.testing.assert_allclose(h, 0.7)


@pytest.mark.parametrize("kind", CELLS)
def test_the_gradient_of_a_step(kind, rng):
    cell = CELLS[kind]
    shapes = [(2, cell.gates * 3)] * 2 + [(2, 3)] * cell.states
    check_gradients(
        lambda *args: np.stack(cell.step(*args)[0]), [rng.normal(size=s) for s in shapes]
    )


def test_the_gradient_of_an_lstm_step_by_hand(rng):
    args = [rng.normal(size=s) for s in [(2, 12), (2, 12), (2, 3), (2, 3)]]
    arriving = rng.normal(size=(2, 2, 3))
    _, kept = CELLS["lstm"].step(*args)
    dx, dr, dh, dc = CELLS["lstm"].backward(*arriving, *kept)
    leaves = tensors(args)
    of_x, of_r, of_h, of_c = gradients(np.stack(CELLS["lstm"].step(*leaves)[0]), leaves, arriving)
    for i, gate in enumerate(("in", "forget", "new", "out")):
        for name, found, expected in (("x", dx, of_x), ("r", dr, of_r)):
            own = slice(3 * i, 3 * i + 3)
            assert np.allclose(found[:, own], expected[:, own]), f"{name}: the gate {gate}"
    assert np.allclose(dc, of_c), "c: the old memory is kept as far as the gate f is open"
    assert np.allclose(dh, of_h), "h: it is seen in r alone"


@pytest.mark.parametrize("kind", CELLS)
def test_back_through_time(kind, rng):
    """Sequences of 4, 3 and 1 tokens: by hand as by the engine, which records every step."""
    gates, states = CELLS[kind][:2]
    shapes = [(8, gates * 2), (gates * 2, 2), (gates * 2,), *[(3, 2)] * states]
    leaves = tensors([rng.normal(size=shape) for shape in shapes])
    arriving, options = rng.normal(size=(states, 8, 2)), {"cell": kind, "batch_sizes": (3, 2, 2, 1)}
    found, expected = (
        gradients(way(*leaves, **options), leaves, arriving) for way in (recur, recur.composed)
    )
    names = ("x", "weight", "bias", "first h", "first c")
    for name, own, by_engine in zip(names, found, expected):
        assert np.allclose(own, by_engine), f"the gradient of {name}"


@pytest.mark.parametrize("network", NETWORKS)
def test_what_comes_later_is_not_seen(network, rng):
    net, x = network(3, 4, num_layers=2), rng.normal(size=(6, 1, 3)).astype(np.float32)
    y, _ = net(x)
    changed = x.copy()
    changed[3:] = 0
    z, _ = net(changed)
    assert np.array_equal(y.data[:3], z.data[:3]) and not np.array_equal(y.data[3:], z.data[3:])


@pytest.mark.parametrize("network", NETWORKS)
def test_a_sequence_in_two_pieces(network, rng):
    net, x = network(3, 4, num_layers=2), rng.normal(size=(6, 2, 3)).astype(np.float32)
    y, end = net(x)
    first, state = net(x[:4])
    second, end_in_pieces = net(x[4:], state)
    np.testing.assert_allclose(np.concatenate([first.data, second.data]), y.data, atol=1e-6)
    ends = zip(*((e if isinstance(e, tuple) else (e,)) for e in (end, end_in_pieces)))
    for a, b in ends:
        np.testing.assert_allclose(a.data, b.data, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("both", [False, True])
def test_in_company_as_alone(network, both, rng):
    net = network(3, 4, num_layers=2, bidirectional=both).astype(np.float64)
    sequences = [rng.normal(size=(n, 3)) for n in (2, 5, 1, 4)]
    packed, _ = net(pack_sequence(sequences, enforce_sorted=False))
    padded, lengths = pad_packed_sequence(packed)
    assert lengths.tolist() == [2, 5, 1, 4]
    for i, sequence in enumerate(sequences):
        alone, _ = net(sequence[:, None])
        np.testing.assert_allclose(padded.data[: len(sequence), i], alone.data[:, 0], atol=1e-12)
        assert not padded.data[len(sequence) :, i].any()


@pytest.mark.parametrize("first", [False, True])
def test_packing_and_back(first, rng):
    x, lengths = Tensor(rng.normal(size=(3, 4, 2)), requires_grad=True), [3, 1, 2, 3]
    if first:
        x, lengths = Tensor(rng.normal(size=(4, 3, 2)), requires_grad=True), [3, 1, 2, 3]
    packed = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [4, 3, 2] and packed.data.shape == (9, 2)
    back, found = pad_packed_sequence(packed, batch_first=first, padding_value=-1, total_length=4)
    assert found.tolist() == lengths
    y = back.data if first else back.data.swapaxes(0, 1)
    given = x.data if first else x.data.swapaxes(0, 1)
    for i, n in enumerate(lengths):
        assert np.array_equal(y[i, :n], given[i, :n]) and (y[i, n:] == -1).all()
    back.sum().backward()
    assert x.grad.sum() == 9 * 2, "only tokens that count have a gradient"


def test_dropout_is_between_layers_and_in_training_only(rng):
    x = rng.normal(size=(4, 3, 5)).astype(np.float32)
    for layers, differs in ((1, False), (2, True)):
        net = LSTM(5, 6, num_layers=layers, dropout=0.5)
        assert np.array_equal(net(x)[0].data, net(x)[0].data) != differs
        net.eval()
        assert np.array_equal(net(x)[0].data, net(x)[0].data)


def test_repr_says_what_is_unusual():
    assert repr(GRU(3, 4)) == "GRU(3, 4)"
    assert repr(GRU(3, 4, 2, dropout=0.1)) == (
        "GRU(\n  3, 4, num_layers=2\n  (dropout): Dropout(p=0.1)\n)"
    )
    assert "num_layers=2, batch_first=True" in repr(LSTM(3, 4, 2, batch_first=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(3, 0), "hidden_size=0"),
        (lambda: LSTM(3, 4, num_layers=0), "num_layers=0"),
        (lambda: RNN(3, 4, nonlinearity="gelu"), "'tanh' or 'relu', not 'gelu'"),
        (lambda: GRU(3, 4)(np.ones((5, 2, 4))), "needs 3 features"),
        (lambda: GRU(3, 4)(np.ones((5, 3))), r"three axes or packed, not \(5, 3\)"),
        (lambda: GRU(3, 4)(np.ones((0, 2, 3))), "one token or more"),
        (lambda: GRU(3, 4)(np.ones((5, 2, 3)), np.ones((1, 3, 4))), "starts from 1 of"),
        (lambda: LSTM(3, 4)(np.ones((5, 2, 3)), np.ones((1, 2, 4))), "starts from 2 of"),
        (lambda: pack_padded_sequence(np.ones((3, 2, 1)), [3, 0]), "from 1 to 3"),
        (lambda: pack_padded_sequence(np.ones((3, 2, 1)), [4, 1]), "from 1 to 3"),
        (lambda: pack_padded_sequence(np.ones((3, 2, 1)), [3]), "2 numbers"),
        (lambda: pack_padded_sequence(np.ones((3, 2, 1)), [1, 3]), "do not fall"),
        (lambda: pack_sequence([]), "no sequences"),
        (
            lambda: pad_packed_sequence(pack_sequence([np.ones((3, 1))]), total_length=2),
            "total_length=2",
        ),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
