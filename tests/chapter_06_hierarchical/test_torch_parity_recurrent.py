"""RNN, LSTM and GRU beside PyTorch's: outputs, states and every gradient, padded and packed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import chapter_06_hierarchical as chapter_06
from utils import Tensor

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"
)

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
DTYPES = [np.float32, np.float64]
LENGTHS = [2, 5, 1, 5]
KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]
OPTIONS = [
    {"num_layers": layers, "bidirectional": both, "bias": bias, "batch_first": first}
    for (layers, both), bias, first in itertools.product(
        [(1, False), (2, False), (2, True)], [True, False], [False, True]
    )
]


def pair(kind, options, dtype):
    ours = getattr(chapter_06, kind)(3, 4, **options).astype(dtype)
    theirs = getattr(torch.nn, kind)(3, 4, **options).to(getattr(torch, np.dtype(dtype).name))
    assert list(ours.state_dict()) == list(theirs.state_dict()), "PyTorch's names, in its order"
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
    return ours, theirs


def both(array):
    return Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)


def as_list(state):
    return list(state) if isinstance(state, tuple) else [state]


def near(a, b, what, tolerance):
    b = b.detach().numpy()
    assert a.shape == b.shape, f"{what}: {a.shape}, not {b.shape}"
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=what)


def compare(ours, theirs, leaves, results, expected, dtype):
    """Values of all results, then the gradients of a random sum of them."""
    rng, tolerance = np.random.default_rng(1), TOLERANCE[np.dtype(dtype).name]
    loss, loss_expected = 0, 0
    for i, (y, z) in enumerate(zip(results, expected)):
        near(y.data, z, f"result {i}", tolerance)
        g = rng.normal(size=y.shape).astype(dtype)
        loss, loss_expected = loss + (y * g).sum(), loss_expected + (z * torch.tensor(g)).sum()
    loss.backward()
    loss_expected.backward()
    for i, (x, z) in enumerate(leaves):
        near(x.grad, z.grad, f"the gradient of input {i}", tolerance)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        near(p.grad, q.grad, f"the gradient of {name}", tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("kind", "more"), KINDS, ids=str)
def test_sequences_of_equal_lengths(kind, more, options, given, dtype, rng):
    ours, theirs = pair(kind, {**more, **options}, dtype)
    shape = (2, 5, 3) if options["batch_first"] else (5, 2, 3)
    leaves = [both(rng.normal(size=shape).astype(dtype))]
    states = ()
    if given:
        layers = options["num_layers"] * (2 if options["bidirectional"] else 1)
        count = 2 if kind == "LSTM" else 1
        states = [both(rng.normal(size=(layers, 2, 4)).astype(dtype)) for _ in range(count)]
        leaves += states
        states = [tuple(s) if count == 2 else s[0] for s in zip(*states)]
    y, end = ours(leaves[0][0], *states[:1])
    z, expected = theirs(leaves[0][1], *states[1:])
    compare(ours, theirs, leaves, [y, *as_list(end)], [z, *as_list(expected)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-2]], ids=str)
@pytest.mark.parametrize(("kind", "more"), KINDS, ids=str)
def test_packed_sequences_of_unequal_lengths(kind, more, options, dtype, rng):
    ours, theirs = pair(kind, {**more, **options, "batch_first": False}, dtype)
    x, x_theirs = both(rng.normal(size=(5, 4, 3)).astype(dtype))
    layers = options["num_layers"] * (2 if options["bidirectional"] else 1)
    states = [
        both(rng.normal(size=(layers, 4, 4)).astype(dtype))
        for _ in range(2 if kind == "LSTM" else 1)
    ]
    first, first_theirs = (tuple(s) if kind == "LSTM" else s[0] for s in zip(*states))
    packed = chapter_06.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    rnn = torch.nn.utils.rnn
    packed_theirs = rnn.pack_padded_sequence(x_theirs, torch.tensor(LENGTHS), enforce_sorted=False)
    assert packed.batch_sizes.tolist() == packed_theirs.batch_sizes.tolist()
    out, end = ours(packed, first)
    out_theirs, end_theirs = theirs(packed_theirs, first_theirs)
    near(out.data.data, out_theirs.data, "the packed output", TOLERANCE[np.dtype(dtype).name])
    y, lengths = chapter_06.pad_packed_sequence(out)
    z, expected_lengths = rnn.pad_packed_sequence(out_theirs)
    assert lengths.tolist() == expected_lengths.tolist() == LENGTHS
    leaves = [(x, x_theirs), *states]
    compare(ours, theirs, leaves, [y, *as_list(end)], [z, *as_list(end_theirs)], dtype)
