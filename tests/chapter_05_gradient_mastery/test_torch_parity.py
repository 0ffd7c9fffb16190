"""Chapter 5 beside PyTorch: every kernel's value and gradients, and two hundred steps of Adam."""

from __future__ import annotations

import numpy as np
import pytest

import chapter_03_neural_nets as chapter_03
import chapter_05_gradient_mastery as chapter_05
from chapter_05_gradient_mastery import Adam, AdamW, cross_entropy
from utils import Tensor

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"
)
F = torch.nn.functional

DTYPES = [np.float32, np.float64]
TOLERANCE = {"float32": 1e-5, "float64": 1e-10, "int64": 0}
IDS, TARGETS = np.array([[0, 4, 4], [2, 0, 4]]), np.array([[1, 0, 3], [3, 3, 2]])
KEPT = np.random.default_rng(5).random((4, 5)) < 0.6
ACTIVATIONS = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
}

# Kernel, keywords, PyTorch's function of the same floats, their shapes, what follows them.
CASES = [
    ("linear", {}, F.linear, [(2, 3, 4), (5, 4), (5,)], []),
    ("linear", {}, F.linear, [(4,), (5, 4)], []),
    *(
        ("linear_activation", {"activation": name}, lambda *a, f=f: f(F.linear(*a)),
         [(6, 4), (5, 4), (5,)], [])
        for name, f in ACTIVATIONS.items()
    ),
    ("gelu", {}, F.gelu, [(4, 5)], []),
    ("gelu", {"approximate": "tanh"}, ACTIVATIONS["gelu_tanh"], [(4, 5)], []),
    ("silu", {}, F.silu, [(4, 5)], []),
    *(("softmax", {"axis": k}, lambda x, k=k: F.softmax(x, k), [(3, 4, 5)], [])
      for k in (0, 1, -1)),
    *(("log_softmax", {"axis": k}, lambda x, k=k: F.log_softmax(x, k), [(3, 4, 5)], [])
      for k in (0, 1, -1)),
    ("mean_cross_entropy", {},
     lambda x: F.cross_entropy(x.view(-1, 4), torch.tensor(TARGETS.ravel())),
     [(2, 3, 4)], [TARGETS]),
    ("embedding", {}, lambda w: F.embedding(torch.tensor(IDS), w), [(6, 3)], [IDS]),
    ("embedding", {}, lambda w: F.embedding(torch.tensor(IDS), w), [(2000, 3)], [IDS]),
    *(("batch_norm", {"eps": 1e-4},
       lambda x, *p: F.batch_norm(x, None, None, *p, training=True, eps=1e-4), shapes, [])
      for shapes in ([(6, 3), (3,), (3,)], [(4, 3, 5), (3,), (3,)], [(4, 3, 2, 2)])),
    ("layer_norm", {}, lambda x, *p: F.layer_norm(x, (5,), *p), [(3, 4, 5), (5,), (5,)], []),
    ("layer_norm", {"dims": 2}, lambda x, *p: F.layer_norm(x, (4, 5), *p),
     [(3, 4, 5), (4, 5), (4, 5)], []),
    ("layer_norm", {"eps": 0.1}, lambda x: F.layer_norm(x, (5,), eps=0.1), [(4, 5)], []),
    ("rms_norm", {}, lambda x, *p: F.rms_norm(x, (5,), *p), [(3, 4, 5), (5,)], []),
    ("rms_norm", {"dims": 2, "eps": 1e-3}, lambda x, *p: F.rms_norm(x, (4, 5), *p, eps=1e-3),
     [(3, 4, 5), (4, 5)], []),
    ("masked", {"scale": 2.5}, lambda x: x * torch.tensor(KEPT) * 2.5, [(4, 5)], [KEPT]),
]  # fmt: skip


def close(found, expected, what):
    expected = expected.detach().numpy()
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    tolerance = TOLERANCE[found.dtype.name]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def compare(ours, theirs, *arrays):
    """The values of both, and the gradients of all arrays, each element of the output weighed."""
    leaves = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*leaves), theirs(*tensors)
    close(y.data, expected, "the value")
    weights = np.random.default_rng(9).uniform(0.5, 1.5, y.shape).astype(y.dtype)
    y.backward(weights)
    expected.backward(torch.tensor(weights))
    for i, (leaf, tensor) in enumerate(zip(leaves, tensors)):
        close(leaf.grad, tensor.grad, f"the gradient of argument {i}")


def test_every_kernel_is_compared():
    kernels = {k for k in chapter_05.__all__ if hasattr(getattr(chapter_05, k), "composed")}
    assert kernels == {name for name, *_ in CASES}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name, options, theirs, shapes, others", CASES, ids=[f"{c[0]}-{c[3]}-{c[1]}" for c in CASES]
)
def test_kernels(name, options, theirs, shapes, others, dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    kernel = getattr(chapter_05, name)
    compare(lambda *a: kernel(*a, *others, **options), theirs, *arrays)


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype):
    far = np.array([-1000, -30, -5, -0.0, 0.0, 5, 30, 1000], dtype)
    compare(chapter_05.gelu, F.gelu, far)
    compare(lambda x: chapter_05.gelu(x, approximate="tanh"), ACTIVATIONS["gelu_tanh"], far)
    compare(chapter_05.silu, F.silu, far)
    rows = np.array([[-np.inf] * 3, [1000, -1000, 0], [0, -np.inf, 1]], dtype)
    compare(lambda x: chapter_05.softmax(x, axis=-1), lambda x: F.softmax(x, -1), rows)
    compare(chapter_05.log_softmax, lambda x: F.log_softmax(x, -1), rows)
    one = np.ones((1, 1), dtype)
    compare(chapter_05.linear_activation, lambda x, w: F.relu(F.linear(x, w)), far[:, None], one)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1},
        {"ignore_index": 2},
        {"reduction": "sum"},
        {"reduction": "none"},
    ],
    ids=str,
)
def test_cross_entropy(options, dtype):
    x, targets = np.random.default_rng(0).normal(size=(8, 5)).astype(dtype), np.arange(8) % 5
    compare(
        lambda x: cross_entropy(x, targets, **options),
        lambda x: F.cross_entropy(x, torch.tensor(targets), **options),
        x,
    )


LAYERS = [
    ("Linear", (4, 3), {}, (5, 4)),
    ("BatchNorm1d", (4,), {}, (5, 4)),
    ("BatchNorm1d", (4,), {"momentum": None}, (5, 4, 3)),
    ("BatchNorm2d", (4,), {"eps": 0.1}, (5, 4, 3, 2)),
    ("LayerNorm", (4,), {}, (5, 4)),
    ("RMSNorm", (4,), {}, (5, 4)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, args, options, shape", LAYERS, ids=str)
def test_layers_with_one_state(name, args, options, shape, dtype):
    """Strict loading both ways; the same in training, in running statistics, in evaluation."""
    ours = getattr(chapter_05, name)(*args, **options).astype(dtype)
    theirs = getattr(torch.nn, name)(*args, **options).to(getattr(torch, np.dtype(dtype).name))
    rng = np.random.default_rng(0)
    for p in ours.parameters():
        p.data[...] = rng.normal(size=p.shape)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()}, strict=True)
    for _ in range(3):
        compare(ours, theirs, rng.normal(2, 3, shape).astype(dtype))
    for key, value in theirs.state_dict().items():
        close(ours.state_dict()[key], value, key)
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters()):
        close(p.grad, q.grad, f"the gradient of {key}, summed over three passes")
    compare(ours.eval(), theirs.eval(), rng.normal(2, 3, shape).astype(dtype))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "betas": (0.8, 0.99)}], ids=str)
def test_two_hundred_steps(optimizer, options, dtype):
    """With a schedule, on a loss whose gradients have many sizes."""
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4,), (2, 2, 2)]
    targets, scales = ([rng.normal(size=s).astype(dtype) for s in shapes] for _ in range(2))
    ours = [Tensor(np.ones(s, dtype), requires_grad=True) for s in shapes]
    theirs = [torch.ones(s, dtype=getattr(torch, np.dtype(dtype).name)) for s in shapes]
    theirs = [t.requires_grad_() for t in theirs]

    def lr(step):
        return 0.02 * (1 - step / 250)

    mine = {"Adam": Adam, "AdamW": AdamW}[optimizer](ours, lr, **options)
    yours = getattr(torch.optim, optimizer)(theirs, lr=lr(0), **options)
    for step in range(200):
        for p, q, target, scale in zip(ours, theirs, targets, scales):
            p.grad = scale * np.tanh(p.data - target)
            q.grad = torch.tensor(scale) * torch.tanh(q.detach() - torch.tensor(target))
        yours.param_groups[0]["lr"] = lr(step)
        mine.step()
        yours.step()
    for i, (p, q) in enumerate(zip(ours, theirs)):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-5, atol=1e-5, err_msg=str(i))


@pytest.mark.parametrize("activation", ["ReLU", "Tanh", "GELU", "SiLU"])
def test_a_training_of_an_mlp(activation):
    """Fused layers, loss and optimiser together: the losses of PyTorch, step by step."""
    kind = getattr(chapter_03, activation)
    model = chapter_05.MLP([6, 16, 8, 3], activation=kind, rng=np.random.default_rng(0))
    theirs = torch.nn.Sequential(torch.nn.Flatten())
    for i, (a, b) in enumerate(zip([6, 16, 8], [16, 8, 3])):
        theirs.append(torch.nn.Linear(a, b))
        if i < 2:
            theirs.append(getattr(torch.nn, activation)())
    theirs.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()}, strict=True)
    mine, yours = AdamW(model.parameters(), 0.01), torch.optim.AdamW(theirs.parameters(), 0.01)
    rng = np.random.default_rng(1)
    x, targets = rng.normal(size=(32, 6)).astype(np.float32), rng.integers(3, size=32)
    for step in range(50):
        loss = cross_entropy(model(x), targets)
        expected = F.cross_entropy(theirs(torch.tensor(x)), torch.tensor(targets))
        assert abs(loss.item() - expected.item()) < 1e-4, f"step {step}"
        mine.zero_grad()
        yours.zero_grad()
        loss.backward()
        expected.backward()
        mine.step()
        yours.step()
