"""The comparison of ways to save memory: its figures follow from its formulas."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from refusals import refused

from chapter_07_attention import GPTConfig
from chapter_09_scaling.memory_figures import plot_memory, plot_trainings
from chapter_09_scaling.save_memory import (
    Method,
    allocated,
    farthest,
    main,
    methods,
    one_step,
    part_of,
    predicted_bytes,
)

CONFIG = GPTConfig(vocab_size=23, block_size=32, n_layer=4, n_head=2, n_embd=64)


@pytest.fixture(scope="module")
def steps():
    rng = np.random.default_rng(0)
    batch = tuple(rng.integers(23, size=(2, 8, 32)))
    return {name: one_step(CONFIG, method, batch, 1) for name, method in methods(4).items()}


@pytest.mark.parametrize("name", methods(4))
def test_activations_are_what_the_formula_says(name, steps):
    rows = 8 // methods(4)[name].parts
    expected = predicted_bytes(name, CONFIG, rows)
    assert steps[name].kept == pytest.approx(expected, rel=0.02, abs=60_000), (
        f"{name} keeps {steps[name].kept:,} bytes where {expected:,} are needed: something holds "
        "an array that backward does not ask for"
    )


def test_the_contract_half_the_memory_or_less(steps):
    plain = steps["plain"]
    assert steps["checkpointed"].kept <= 0.2 * plain.kept
    assert steps["checkpointed"].most <= 0.5 * plain.most
    assert steps["both"].most < steps["checkpointed"].most
    assert steps["accumulated"].most < 0.5 * plain.most
    assert steps["float16"].kept < 0.7 * plain.kept


def test_the_same_gradients(steps):
    plain = steps["plain"].gradients
    assert farthest(steps["checkpointed"].gradients, plain) == 0, "bit for bit"
    assert farthest(steps["accumulated"].gradients, plain) < 1e-4, "to rounding"
    assert farthest(steps["both"].gradients, plain) < 1e-4, "to rounding"
    assert 0 < farthest(steps["float16"].gradients, plain) < 0.1, "to three decimal places"


def test_what_is_allocated():
    held, most = allocated(lambda: np.zeros(1000) + np.zeros(1000))
    assert 8000 <= held < 10_000 and 16_000 <= most < 26_000


def test_the_largest_part():
    assert [part_of((range(10), None), Method({}, parts)) for parts in (1, 3, 4)] == [10, 4, 3]


def test_figures():
    sizes = {"plain": 4.0, "checkpointed": 1.0}
    assert isinstance(plot_memory(sizes, sizes, sizes, "memory"), Figure)
    assert isinstance(plot_trainings({"float32": [3.0, 2.0]}, [1.0, 2.0], "training"), Figure)


def test_quick_run_reports_what_it_measured(tmp_path, capsys):
    main(["--quick", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    metrics = SimpleNamespace(**json.loads((tmp_path / "metrics.json").read_text()))
    assert metrics.checkpointed_gradient_difference == 0
    assert metrics.checkpointed_memory_ratio < 1
    assert f"{metrics.bfloat16_last_loss:.3f}" in printed
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json", "memory.png", "half_precision.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parts", "1"], "from 2 to"),
        (["--divisor", "nan"], "finite|at least"),
        (["--width", "30"], "not divisible"),
        (["--data", "no/such/file"], "no/such/file"),
    ],
    ids=str,
)
def test_bad_input(arguments, said, tmp_path, capsys):
    message, _ = refused(main, [*arguments, "--out", str(tmp_path)], capsys)
    assert any(part in message for part in said.split("|")), message
