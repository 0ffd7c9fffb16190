"""Chapter 8 beside PyTorch: 200 steps of every optimiser that both have, and the schedules."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import chapter_08_optimization as chapter_08
from chapter_03_neural_nets import SGD, Parameter

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: install the oracle extra, pip install -e .[oracle]"
)

CASES = [
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 1e-3, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 1e-3, "momentum": 0.9}),
    ("RMSprop", {"lr": 1e-3, "centered": True, "momentum": 0.5, "eps": 1e-3}),
    ("NAdam", {}),
    ("NAdam", {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.1}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.1, "beta2_decay": -0.5, "weight_decay": 0.1}),
    ("Adafactor", {"lr": 0.1, "d": 2.0, "eps": (1e-4, 1e-2)}),
    ("Muon", {}),
    ("Muon", {"lr": 0.02, "weight_decay": 0.0, "momentum": 0.8, "nesterov": False}),
    ("Muon", {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}),
    ("Muon", {"adjust_lr_fn": "original", "ns_coefficients": (2.0, -1.5, 0.5)}),
]
# PyTorch keeps NAdam's product of momenta in float32.
TOLERANCE = {"float32": 1e-5, "float64": 1e-8}


@pytest.fixture
def full_precision(monkeypatch):
    """PyTorch's Muon rounds to bfloat16, which is chaotic: a last bit decides about a percent."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


def flat(arrays) -> np.ndarray:
    return np.concatenate([array.reshape(-1) for array in arrays])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, options", CASES, ids=lambda x: str(x).replace(" ", ""))
def test_200_steps_are_pytorchs(full_precision, name, options, dtype):
    rng = np.random.default_rng(0)
    shapes = [(6, 4), (3, 8), (5, 5)] + ([] if name == "Muon" else [(4,), (2, 3, 4)])
    weights = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    goals = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    factors = [rng.uniform(0.1, 2, shape).astype(dtype) for shape in shapes]
    ours = [Parameter(w.copy()) for w in weights]
    theirs = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    optimizer = getattr(chapter_08, name)(ours, **options)
    twin = getattr(torch.optim, name)(theirs, **options)
    for step in range(200):
        for p, q, goal, factor in zip(ours, theirs, goals, factors):
            noise = rng.standard_normal(goal.shape).astype(dtype) * 0.1
            p.grad = factor * (p.data - goal) + noise
            q.grad = torch.tensor(factor) * (q.detach() - torch.tensor(goal)) + torch.tensor(noise)
        optimizer.step()
        twin.step()
        np.testing.assert_allclose(
            flat(p.data for p in ours), flat(q.detach().numpy() for q in theirs),
            rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype],
            err_msg=f"{name}, step {step}, parameters of the shapes {shapes} in a row",
        )  # fmt: skip


def rates(schedule, make, steps, lr=1.0):
    """The learning rates of a schedule, and of PyTorch's scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [schedule(step) for step in range(steps)], expected


@pytest.mark.parametrize("steps", [2, 7, 100])
def test_schedules_are_pytorchs(steps):
    of = torch.optim.lr_scheduler
    for least in (0.0, 0.1):
        twin = functools.partial(of.CosineAnnealingLR, T_max=steps, eta_min=least)
        found = rates(chapter_08.cosine(1.0, steps, least), twin, steps + 1)
        np.testing.assert_allclose(*found, atol=1e-12)
    found = rates(
        chapter_08.linear(1.0, steps, 0.2), lambda o: of.LinearLR(o, 1.0, 0.2, steps), steps + 3
    )
    np.testing.assert_allclose(*found, atol=1e-12)


@pytest.mark.parametrize("steps, rise", [(10, 0.3), (100, 0.3), (57, 0.45)])
def test_one_cycle_is_pytorchs(steps, rise):
    found = rates(
        chapter_08.one_cycle(1.0, steps, rise),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, steps, pct_start=rise),
        steps,
    )
    np.testing.assert_allclose(*found, atol=1e-9)


def test_averages_are_pytorchs():
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    rng = np.random.default_rng(0)
    start = rng.standard_normal((3, 2))
    p, net = Parameter(start.copy()), torch.nn.Linear(2, 3, bias=False, dtype=torch.float64)
    ema = chapter_08.EMA(SGD([p], lr=0.1), decay=0.9, warm_up=False)
    q = Parameter(start.copy())
    swa = chapter_08.SWA(SGD([q], lr=0.1), start=1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(start))
    twins = [AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9)), AveragedModel(net)]
    twins[0].update_parameters(net)  # PyTorch's begins with the first update, ours before it
    for _ in range(30):
        g = rng.standard_normal((3, 2))
        p.grad = q.grad = g
        ema.step()
        swa.step()
        with torch.no_grad():
            net.weight -= 0.1 * torch.tensor(g)
        for twin in twins:
            twin.update_parameters(net)
    for ours, twin in zip((ema, swa), twins):
        np.testing.assert_allclose(
            ours.kept[0], twin.module.weight.detach().numpy(), atol=1e-12, err_msg=repr(ours)
        )
