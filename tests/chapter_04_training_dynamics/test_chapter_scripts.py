"""The chapter's scripts: what they write, what they find, and how they refuse bad input."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from chapter_04_training_dynamics import batch_normalization, gradient_flow

SCRIPTS = {"batch_normalization": batch_normalization, "gradient_flow": gradient_flow}
SMALL = ["--quick", "--steps", "4", "--batch", "16"]


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture
def names_file(tmp_path):
    syllables = ["ka", "lo", "mi", "ren"]
    names = [a + b + c for a in syllables for b in syllables for c in ["", "tus"]]
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names))
    return path


@pytest.fixture
def images_file(tmp_path, rng):
    path = tmp_path / "images.npz"
    images = rng.integers(256, size=(60, 28, 28)).astype(np.uint8)
    np.savez(path, images=images, labels=rng.integers(3, size=60))
    return path


def test_batch_normalization_writes_what_it_prints(names_file, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--layers", "3", "--hidden", "8", "--data", str(names_file), "--out", str(out)]
    batch_normalization.main([*SMALL, *options])
    output, metrics = capsys.readouterr(), metrics_of(out)
    assert output.err == ""
    printed = ("batchnorm", "plain", "no_context")
    for key in [*(f"val_nll_{name}" for name in printed), "test_nll_plain", "train_nll_batchnorm"]:
        assert 0 < metrics[key] < 10 and f"{metrics[key]:.4f}" in output.out
    assert metrics["steps"] == 4
    assert metrics["parameters_batchnorm"] - metrics["parameters_plain"] == 3 * 2 * 8
    for when in ("first_step", "last_step"):
        for name in ("with batch norm", "without"):
            assert len(metrics[when][name]["gradients"]) == 3
    assert len(list(out.glob("*.png"))) >= 5


@pytest.mark.parametrize(
    "normal, plain, said",
    [
        (2.0, 2.8, "has not learnt to look at what came before"),
        (2.0, 2.3, "learns, but is 0.300 nats behind"),
        (2.3, 2.3, "No gain from batch norm here"),
        (2.9, 2.0, "No gain from batch norm here"),
    ],
)
def test_the_verdict_follows_from_the_numbers(normal, plain, said):
    runs = {"with batch norm": SimpleNamespace(nll=[0, normal, 0])}
    runs["without"] = SimpleNamespace(nll=[0, plain, 0])
    assert said in batch_normalization.verdict(runs, blind=2.82)


def test_both_networks_begin_with_the_same_weights_and_batches(names_file, tmp_path):
    arguments = ["--layers", "2", "--hidden", "4", "--out", str(tmp_path / "out")]
    args = batch_normalization.arguments(arguments)
    windows = [(np.zeros((20, 8), np.int64), np.zeros(20, np.int64))] * 3
    args.batch = 4
    runs = {
        name: batch_normalization.Run(name, args, 5, windows, steps=1)
        for name in batch_normalization.NETWORKS
    }
    normal, plain = (run.model for run in runs.values())
    # One step of AdamW moves no weight by more than about the learning rate, which is 1e-5.
    np.testing.assert_allclose(normal.mlp[1].weight.data, plain.mlp[1].weight.data, atol=1e-4)


def test_gradient_flow_tells_the_story(tmp_path, capsys, monkeypatch):
    # Its figures are drawn below, and by the run of all scripts.
    monkeypatch.setattr(gradient_flow, "save_figure", lambda figure, path: path)
    out = tmp_path / "out"
    gradient_flow.main(["--quick", "--width", "32", "--out", str(out)])
    metrics = metrics_of(out)
    remedies = metrics["remedies"]
    assert len(remedies) == 7
    plain, rest = remedies["nothing"], ("initialisation", "normalisation", "residual path")
    assert plain["gradients"][0] < 1e-3 * plain["gradients"][-1], "without remedies it vanishes"
    assert plain["activations"][-1] < 1e-3 * plain["activations"][0]
    for name in rest:
        gradients = remedies[name]["gradients"]
        assert gradients[0] > 0.05 * gradients[-1], f"{name} brings the gradient to the first layer"
        assert len(gradients) == 20
    rates = metrics["learning_rates"]
    assert rates["the suggestion"]["loss"] < rates["a hundredth"]["loss"]
    assert f"{metrics['suggestion']:.3g}" in capsys.readouterr().out


def test_gradient_flow_of_a_net_that_diverges(images_file, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--activation", "relu", "--lr", "1e6", "--data", str(images_file), "--layers", "4"]
    gradient_flow.main([*SMALL, *options, "--out", str(out)])
    assert "diverged at step" in capsys.readouterr().out
    losses = [r["loss"] for r in metrics_of(out)["remedies"].values()]
    assert None in losses, "a loss that is no number is null in JSON"
    assert all(loss is None or math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--data", "nowhere.bin"], "nowhere.bin"),
        (["--data", "empty.txt"], "empty.txt"),
        (["--lr", "nan"], "--lr"),
        (["--lr", "-1"], "--lr"),
        (["--steps", "0"], "--steps"),
        (["--layers", "0"], "--layers"),
        (["--batch", "1"], "--batch"),
        (["--seed", "-1"], "--seed"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_costs_nothing(
    name, arguments, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("from an earlier run")
    with pytest.raises(SystemExit) as stop:
        SCRIPTS[name].main([*arguments, "--out", "out"])
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    *usage, message = output.err.splitlines()
    assert ": error: " in message and said in message
    assert all(line.startswith(("usage:", " ")) for line in usage)
    assert (tmp_path / "out" / "metrics.json").read_text() == "from an earlier run"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.txt", "out"]
