"""The script that measures attention by the length of the text, and its figures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from refusals import refused

from chapter_03_neural_nets import History
from chapter_09_scaling import long_context
from chapter_09_scaling.attention_figures import (
    plot_adaptations,
    plot_by_length,
    plot_trainings,
)

SMALL = [
    "--quick",
    "--steps",
    "2",
    "--repeats",
    "1",
    "--context",
    "8",
    "--data",
    "text.txt",
    "--out",
    "out",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 30)
    (tmp_path / "short.txt").write_text("to be")
    return tmp_path


def test_it_writes_what_it_prints(folder, capsys):
    long_context.main([*SMALL, "--lengths", "40", "70"])
    output, metrics = capsys.readouterr(), json.loads((folder / "out/metrics.json").read_text())
    assert output.err == "" and all(math.isfinite(x) for x in metrics.values())
    assert metrics["largest_gradient_difference_70"] < 1e-5
    assert metrics["largest_gradient_difference_70_float64"] < 1e-12
    for kind in long_context.KINDS:
        assert f"{metrics[f'memory_mib_{kind}_70']:.2f}" in output.out
        assert metrics[f"seconds_{kind}_70"] > 0
    for name in ("softmax", "linear"):
        assert f"{metrics[f'val_nll_{name}']:.4f}" in output.out
    drawn = {path.name for path in (folder / "out").glob("*.png")}
    assert drawn == {"memory.png", "seconds.png", "losses.png"}, "times in a file of that name"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--data nowhere.txt", "nowhere.txt"),
        ("--data short.txt", "too short"),
        ("--lengths 0", "from 1 to"),
        ("--heads 1.5", "whole number"),
        ("--lr nan", "above 0"),
    ],
)
def test_bad_input_is_one_line(arguments, said, folder, capsys):
    message, printed = refused(long_context.main, [*SMALL, *arguments.split()], capsys)
    assert said in message and printed == "", "it is refused before anything is measured"


def test_memory_at_4096_places_is_a_tenth_at_most_and_the_gradient_the_same():
    """The contract: nothing of 4,096 x 4,096 numbers, and no difference but rounding."""
    packed = np.random.default_rng(0).standard_normal((1, 4096, 24), np.float32)
    naive, blockwise = (
        long_context.measured(long_context.attention_of(kind, 4096, np.float32), packed, 1, 0)
        for kind in ("naive", "blockwise")
    )
    assert blockwise.memory < naive.memory / 10
    largest = np.abs(naive.gradient).max()
    np.testing.assert_allclose(blockwise.gradient / largest, naive.gradient / largest, atol=1e-5)


def test_figures_are_values():
    lines = {"naive": [1.0, 4.0], "blockwise": [1.0, 2.0]}
    figure = plot_by_length([256, 512], lines, "MiB", "Memory")
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == list(lines)
    histories = {"softmax": History([3.0, 2.0]), "linear": History([3.0, 2.5])}
    assert isinstance(plot_trainings(histories, "Two"), Figure)
    line = [{"step": 0, "loss": 2.0, "old": 1.0}, {"step": 5, "loss": 1.0, "old": 2.0}]
    figure = plot_adaptations({"LoRA": line}, ("names", "prose"))
    assert [ax.get_title() for ax in figure.axes] == ["New: names", "Old: prose"]
