"""Chapter 3 beside PyTorch: values, gradients, first numbers, trajectories, names and states."""

from __future__ import annotations

import numpy as np
import pytest

import chapter_03_neural_nets as nets
from chapter_03_neural_nets import (
    MLP,
    SGD,
    Adam,
    AdamW,
    Dropout,
    Embedding,
    Flatten,
    Linear,
    Parameter,
    Sequential,
    Tanh,
    cross_entropy,
)
from utils import Tensor

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"
)
functional, init = torch.nn.functional, torch.nn.init

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}


def close(found, expected, what):
    expected = expected.detach().numpy()
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    tolerance = TOLERANCE[found.dtype]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def compare(ours, theirs, *arrays):
    """The values of both functions, and the gradients of all arrays, each element weighed."""
    leaves = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*leaves), theirs(*tensors)
    close(y.data, expected, "the value")
    weights = np.random.default_rng(9).uniform(0.5, 1.5, y.shape).astype(y.dtype)
    y.backward(weights)
    expected.backward(torch.tensor(weights))
    for i, (leaf, tensor) in enumerate(zip(leaves, tensors)):
        close(leaf.grad, tensor.grad, f"the gradient of argument {i}")


def with_numbers_of(ours, theirs, dtype):
    """Both modules in the dtype, PyTorch's with our numbers: strict loading."""
    ours.astype(dtype)
    theirs.to(getattr(torch, np.dtype(dtype).name))
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()}, strict=True)
    return ours, theirs


# Activations

PLAIN = ("ReLU", "LeakyReLU", "ELU", "Tanh", "Sigmoid", "Softplus", "GELU", "SiLU")
ACTIVATIONS = [
    *((name, {}) for name in PLAIN),
    ("LeakyReLU", {"negative_slope": 0.3}),
    ("ELU", {"alpha": 2.0}),
    ("GELU", {"approximate": "tanh"}),
    *((name, {"dim": dim}) for name in ("Softmax", "LogSoftmax") for dim in (0, 1, -1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, options", ACTIVATIONS, ids=str)
def test_activations(name, options, dtype):
    ours, theirs = getattr(nets, name)(**options), getattr(torch.nn, name)(**options)
    assert repr(ours) == repr(theirs).replace("beta=1.0, threshold=20.0", "")
    rng = np.random.default_rng(0)
    compare(ours, theirs, rng.normal(0, 3, (4, 5)).astype(dtype))
    # Softplus is x itself from 20 on in PyTorch, which is off by e^-20.
    edges = [-100, -30, -6, -1e-4, 0, 1e-4, 6, 40, 100]
    compare(ours, theirs, np.array([edges, edges[::-1]], dtype))


# Layers


def pairs():
    """Our modules, PyTorch's, and what to call them with."""
    nn, x = torch.nn, np.random.default_rng(0).normal(size=(3, 2, 4))
    ids = np.array([[1, 0, 6], [6, 6, 2]])
    mlp = MLP([8, 6, 5, 3], activation=Tanh)
    return {
        "Linear": (Linear(4, 3), nn.Linear(4, 3), x),
        "Linear without bias": (Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False), x),
        "Embedding": (Embedding(7, 2), nn.Embedding(7, 2), ids),
        "padding": (Embedding(7, 2, padding_idx=6), nn.Embedding(7, 2, padding_idx=6), ids),
        "Flatten": (Flatten(), nn.Flatten(), x),
        "MLP": (
            mlp,
            nn.Sequential(
                *(nn.Flatten(), nn.Linear(8, 6), nn.Tanh()),
                *(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)),
            ),
            x,
        ),
        "embedding and MLP": (
            Sequential(Embedding(7, 2), MLP([6, 5, 4])),
            nn.Sequential(
                nn.Embedding(7, 2),
                nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)),
            ),
            ids,
        ),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", pairs())
def test_layers_and_networks(name, dtype):
    ours, theirs, x = pairs()[name]
    ours, theirs = with_numbers_of(ours, theirs, dtype)
    if x.dtype.kind == "f":
        compare(ours, theirs, x.astype(dtype))
    else:
        y, expected = ours(x), theirs(torch.tensor(x))
        close(y.data, expected, "the value")
        weights = np.random.default_rng(9).uniform(0.5, 1.5, y.shape).astype(dtype)
        y.backward(weights)
        expected.backward(torch.tensor(weights))
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters()):
        close(p.grad, q.grad, f"the gradient of {key}")


@pytest.mark.parametrize("name", pairs())
def test_states_pass_both_ways(name):
    ours, theirs, _ = pairs()[name]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], tensor.numpy())
        assert ours.state_dict()[key].dtype == np.float32
    ours, theirs, _ = pairs()[name]
    with_numbers_of(ours, theirs, np.float32)
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], tensor.numpy())


@pytest.mark.parametrize("name", pairs())
def test_reprs(name):
    ours, theirs, _ = pairs()[name]
    expected = repr(theirs).replace("Flatten(start_dim=1, end_dim=-1)", "Flatten()")
    assert repr(ours).replace("MLP(", "Sequential(") == expected


def test_dropout_leaves_evaluation_alone_and_scales_alike():
    x = np.ones((50, 40), np.float32)
    ours, theirs = Dropout(0.3)(Tensor(x)).data, torch.nn.Dropout(0.3)(torch.tensor(x)).numpy()
    assert ours.max() == pytest.approx(theirs.max(), rel=1e-6)
    assert set(np.unique(ours)) == {0, ours.max()}


# Losses


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy(dtype, reduction, smoothing, weighted, ignore_index):
    rng = np.random.default_rng(0)
    weight = rng.uniform(0, 2, 5).astype(dtype) if weighted else None
    options = {
        "ignore_index": ignore_index,
        "label_smoothing": smoothing,
        "reduction": reduction,
    }
    for shape in [(6,), (3, 4), ()]:
        targets = rng.integers(5, size=shape)
        if shape:
            targets.ravel()[:3] = [ignore_index, 0, 1]

        def theirs(logits, targets=targets):
            # PyTorch has the classes behind the batch, we at the end.
            moved = logits.movedim(-1, 1) if logits.ndim > 1 else logits
            tensor = None if weight is None else torch.tensor(weight)
            return functional.cross_entropy(moved, torch.tensor(targets), tensor, **options)

        compare(
            lambda logits, t=targets: cross_entropy(logits, t, weight, **options),
            theirs,
            rng.normal(0, 3, (*shape, 5)).astype(dtype),
        )


REGRESSION = [
    *((name, {}) for name in ("mse_loss", "l1_loss", "huber_loss")),
    *(("huber_loss", {"delta": delta}) for delta in (0.2, 3.0)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name, options", REGRESSION, ids=str)
def test_regression(name, options, reduction, dtype):
    options = {**options, "reduction": reduction}
    rng = np.random.default_rng(0)
    for shape in [(4, 5), (3,), ()]:
        a, b = rng.normal(size=(2, *shape)).astype(dtype)
        a, b = np.asarray(a), np.asarray(b)
        compare(
            lambda a, b: getattr(nets, name)(a, b, **options),
            lambda a, b: getattr(functional, name)(a, b, **options),
            a,
            b,
        )
    tie = np.array([-1.0, 0.0, 1.0, 3.0, -0.2], dtype)
    compare(
        lambda a: getattr(nets, name)(a, np.zeros(5), **options),
        lambda a: getattr(functional, name)(a, torch.zeros_like(a), **options),
        tie,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "names", [[], ["weight"], ["pos_weight"], ["weight", "pos_weight"]], ids=str
)
def test_binary_cross_entropy(names, reduction, dtype):
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 3, (4, 5)).astype(dtype), rng.uniform(0, 1, (4, 5)).astype(dtype)
    x[0], t[1], t[2] = [-100, 100, 0, 30, -30], 0, 1
    options = {name: rng.uniform(0.5, 2, 5).astype(dtype) for name in names}
    compare(
        lambda x: nets.binary_cross_entropy_with_logits(x, t, reduction=reduction, **options),
        lambda x: functional.binary_cross_entropy_with_logits(
            x,
            torch.tensor(t),
            reduction=reduction,
            **{name: torch.tensor(a) for name, a in options.items()},
        ),
        x,
    )


# Initialisation


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
def test_gains(name):
    assert nets.calculate_gain(name) == pytest.approx(init.calculate_gain(name), rel=1e-12)
    slope = nets.calculate_gain("leaky_relu", 0.3)
    assert slope == pytest.approx(init.calculate_gain("leaky_relu", 0.3), rel=1e-12)


INITIALISERS = [
    ("uniform_", {"a": -0.5, "b": 2.0}),
    ("normal_", {"mean": 1.0, "std": 3.0}),
    *((name, {"gain": gain}) for name in ("xavier_uniform_", "xavier_normal_") for gain in (1, 2)),
    *(
        (name, {"a": a, "mode": mode, "nonlinearity": nonlinearity})
        for name in ("kaiming_uniform_", "kaiming_normal_")
        for a, nonlinearity in [(0, "leaky_relu"), (5**0.5, "leaky_relu"), (0, "relu"), (0, "tanh")]
        for mode in ("fan_in", "fan_out")
    ),
    *(("orthogonal_", {"gain": gain}) for gain in (1, 2)),
]


@pytest.mark.parametrize("shape", [(400, 250), (50, 40, 5, 5)])
@pytest.mark.parametrize("name, options", INITIALISERS, ids=str)
def test_initialisers_have_the_same_spread(name, options, shape):
    torch.manual_seed(0)
    w, rng = Parameter(np.empty(shape, np.float32)), np.random.default_rng(0)
    ours = getattr(nets, name)(w, **options, rng=rng).data
    theirs = getattr(init, name)(torch.empty(shape), **options).numpy()
    std = float(theirs.std())
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.02 * std)
    assert ours.std() == pytest.approx(std, rel=0.01)
    if "uniform" in name:
        assert ours.min() == pytest.approx(theirs.min(), rel=1e-3), "the lower bound"
        assert ours.max() == pytest.approx(theirs.max(), rel=1e-3), "the upper bound"
    if name == "orthogonal_":
        values = [np.linalg.svd(a.reshape(shape[0], -1), compute_uv=False) for a in (ours, theirs)]
        np.testing.assert_allclose(*values, rtol=1e-4)


@pytest.mark.parametrize("name, sizes", [("Linear", (300, 200)), ("Embedding", (300, 200))])
def test_layers_begin_alike(name, sizes):
    ours = getattr(nets, name)(*sizes, rng=np.random.default_rng(0))
    for key, tensor in getattr(torch.nn, name)(*sizes).state_dict().items():
        found, expected = ours.state_dict()[key], tensor.numpy()
        assert found.std() == pytest.approx(expected.std(), rel=0.15 if key == "bias" else 0.01)
        if name == "Linear":
            assert np.abs(found).max() == pytest.approx(np.abs(expected).max(), rel=0.05)


# Optimisers

OPTIMISERS = [
    (SGD, {}),
    (SGD, {"weight_decay": 0.1}),
    (SGD, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (SGD, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    (Adam, {}),
    (Adam, {"weight_decay": 0.1}),
    (Adam, {"betas": (0.5, 0.9), "eps": 1e-3}),
    (AdamW, {}),
    (AdamW, {"weight_decay": 0.3, "betas": (0.8, 0.95)}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind, options", OPTIMISERS, ids=lambda x: getattr(x, "__name__", str(x)))
def test_trajectories_of_200_steps(kind, options, dtype):
    """A network trained by both on the same batches, the rate going up and down."""
    nn, rng = torch.nn, np.random.default_rng(0)
    ours, theirs = with_numbers_of(
        MLP([6, 8, 3], activation=Tanh, rng=rng),
        nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)),
        dtype,
    )
    lr = 0.05 if kind is SGD else 0.01
    schedule = lambda step: min((step + 1) / 50, 1 - step / 400)
    one = kind(ours.parameters(), lambda step: lr * schedule(step), **options)
    other = getattr(torch.optim, kind.__name__)(theirs.parameters(), lr, **options)
    scheduler = torch.optim.lr_scheduler.LambdaLR(other, schedule)
    x, targets = rng.normal(size=(200, 16, 6)).astype(dtype), rng.integers(3, size=(200, 16))
    for step in range(200):
        one.zero_grad()
        cross_entropy(ours(x[step]), targets[step]).backward()
        one.step()
        other.zero_grad()
        output = theirs(torch.tensor(x[step]))
        functional.cross_entropy(output, torch.tensor(targets[step])).backward()
        other.step()
        scheduler.step()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
            close(p.data, q, f"{name} after step {step}")


def test_groups_follow_their_own_options():
    values = np.random.default_rng(0).normal(size=(3, 4))
    ours = [Parameter(v.copy()) for v in values]
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]

    def groups(ps):
        return [{"params": ps[:1], "lr": 0.3}, {"params": ps[1:], "weight_decay": 0.0}]

    one = AdamW(groups(ours), lr=0.1, weight_decay=0.2)
    other = torch.optim.AdamW(groups(theirs), lr=0.1, weight_decay=0.2)
    for step in range(20):
        for p, q in zip(ours, theirs):
            g = np.random.default_rng(step).normal(size=4)
            # The last parameter has no gradient in every third step.
            skipped = p is ours[-1] and step % 3 == 0
            p.grad, q.grad = (None, None) if skipped else (g.copy(), torch.tensor(g))
        one.step()
        other.step()
    for i, (p, q) in enumerate(zip(ours, theirs)):
        close(p.data, q, f"parameter {i}")
