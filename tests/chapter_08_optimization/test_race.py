"""The race and the recipe: fair, the same twice, and honest about what diverges."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from refusals import refused

from chapter_03_neural_nets import MLP, SGD, Batches, Embedding, cross_entropy, evaluate
from chapter_07_attention import GPT, GPTConfig
from chapter_08_optimization import (
    CONTESTANTS,
    Muon,
    Run,
    Task,
    best_of,
    compare_optimizers,
    muon_and_adamw,
    recipe,
    run,
    train_recipe,
    tuned,
)
from chapter_08_optimization.race import Contestant
from utils.data import load_images
from utils.seeding import manual_seed

SCRIPTS = {"compare_optimizers": compare_optimizers.main, "train_recipe": train_recipe.main}


def task(steps=12):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 4)).astype(np.float32)
    labels = (x.sum(axis=1) > 0).astype(np.int64)
    return Task(
        "a line",
        lambda: MLP([4, 8, 2]),
        lambda: Batches(x, labels, batch_size=16),
        lambda model, inputs, targets: cross_entropy(model(inputs), targets),
        lambda model: evaluate(model, x, labels),
        steps,
    )


@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_learns_and_does_so_twice(name):
    first, again = (run(task(40), CONTESTANTS[name], CONTESTANTS[name].usual) for _ in range(2))
    np.testing.assert_array_equal(first.losses, again.losses, err_msg="the same seed, other losses")
    assert first.judged == again.judged and first.loss == first.judged["loss"]
    assert len(first.seconds) == 40 and (np.diff(first.seconds) > 0).all()
    manual_seed(0)
    untrained = task().judge(task().model())["loss"]
    assert first.loss < untrained, f"{name} has learnt nothing at its usual rate"


def test_all_start_from_the_same_weights_and_batches():
    first = {name: run(task(2), c, c.usual).losses[0] for name, c in CONTESTANTS.items()}
    assert len(set(first.values())) == 1, f"the first losses differ: {first}"


def test_what_diverges_loses():
    wild = run(task(), Contestant(lambda model, lr: SGD(model.parameters(), lr), 1.0), 1e30)
    assert math.isinf(wild.loss) and best_of([wild, run(task(), CONTESTANTS["Adam"], 0.01)]) != wild


def test_a_race_in_which_all_rates_diverge_has_its_report_and_figures(tmp_path, capsys):
    wild = Contestant(lambda model, lr: SGD(model.parameters(), lr), 1e30)
    sweeps = {"SGD": tuned(lambda lr: run(task(), wild, lr), 1e30)}
    found = compare_optimizers.report(task(), sweeps)
    assert math.isinf(found["SGD"]["loss"]) and math.isnan(found["SGD"]["seconds_a_step"])
    compare_optimizers.draw(task(), "wild", sweeps, tmp_path)
    assert len(list(tmp_path.glob("wild_*.png"))) == 3


def test_the_steps_of_a_race_follow_its_own_data(monkeypatch, text_file, tmp_path, capsys):
    """Pictures of one's own are no text, and the other way round."""
    raced = []
    pictures = load_images()
    few = type(pictures)(*(part[:50] for part in pictures))
    monkeypatch.setattr(compare_optimizers, "load_images", lambda source: few)
    monkeypatch.setattr(compare_optimizers, "race", lambda task, *rest: raced.append(task) or {})
    monkeypatch.setattr(compare_optimizers, "draw", lambda *rest: None)
    for flags in (["--data", str(text_file)], ["--images", "mnist"]):
        options = ["--parts", "gpt", "digits", "--out", str(tmp_path / "out")]
        compare_optimizers.main([*flags, *options])
    assert [task.steps for task in raced] == [200, 30, 60, 125]


def test_what_was_not_raced_is_not_said_to_be_drawn(text_file, tmp_path, capsys):
    options = ["--quick", "--data", str(text_file), "--parts", "recipe"]
    compare_optimizers.main([*options, "--out", str(tmp_path / "out")])
    assert "drawn" not in capsys.readouterr().out and not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("best", [1e-4, 1e-2, 1.0, 3.0, 1e9])
def test_the_search_ends_where_the_best_has_neighbours(best):
    tried = []

    def attempt(lr):
        tried.append(lr)
        loss = abs(math.log10(lr / best))
        return Run(lr, np.zeros(1), np.zeros(1), {"loss": loss})

    runs = tuned(attempt, 0.1)
    rates = [r.lr for r in runs]
    assert rates == sorted(tried) and len(tried) <= 7, "every rate once, in order, and an end to it"
    chosen = best_of(runs)
    if len(tried) < 7:
        assert rates[0] < chosen.lr < rates[-1], "a best rate at the edge is no best rate"
        assert abs(math.log10(chosen.lr / best)) <= 0.26


def gpt():
    manual_seed(0)
    return GPT(GPTConfig(20, 8, 2, 2, 16))


def test_muon_gets_the_matrices_between_layers_and_adamw_the_rest():
    model = gpt()
    optimizer = muon_and_adamw(model, 0.01, 0.001, head=model.head)
    muon, adamw = optimizer.optimizers
    assert isinstance(muon, Muon)
    names = {id(p): name for name, p in model.named_parameters()}
    hidden = {names[id(p)] for p in muon.parameters()}
    parts = ("in_proj_weight", "out_proj.weight", "linear1.weight", "linear2.weight")
    assert hidden == {n for n in names.values() if n.startswith("layers.") and n.endswith(parts)}
    assert len(optimizer.parameters()) == len(names), "every parameter has one optimiser"
    assert {group["parts"] for group in muon.param_groups} == {1, 3}
    kept = {names[id(p)] for g in adamw.param_groups if not g["weight_decay"] for p in g["params"]}
    assert all(name.endswith("bias") or "norm" in name for name in kept), "matrices decay"
    embedding = [m for m in model.modules() if isinstance(m, Embedding)][0]
    assert any(p is embedding.weight for p in adamw.parameters())


def test_the_recipe_trains_a_gpt():
    model = gpt()
    ids = np.random.default_rng(0).integers(20, size=(4, 9))
    optimizer, losses = recipe(model, 100), []
    for _ in range(100):
        optimizer.zero_grad()
        loss = cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(part.lr == 0 for part in optimizer.optimizers), "the rates have fallen to nothing"


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat and saw the hat of the rat\n" * 40)
    return path


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_compare_optimizers_writes_what_it_prints(tmp_path, text_file, capsys):
    options = ["--quick", "--data", str(text_file), "--optimizers", "AdamW", "Muon"]
    compare_optimizers.main([*options, "--threads", "1", "--out", str(tmp_path / "out")])
    metrics, report = metrics_of(tmp_path / "out"), capsys.readouterr().out
    for kind in ("gpt", "digits"):
        assert set(metrics[kind]) == {"AdamW", "Muon"}
        for found in metrics[kind].values():
            assert found["loss"] == min(found["tried"].values()) and len(found["tried"]) >= 3
            assert f"{found['loss']:.4f}" in report
        for figure in ("rates", "race", "race_in_seconds"):
            assert (tmp_path / "out" / f"{kind}_{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert f"{metrics['val_nll_4']:.4f}" in report
    assert metrics["val_nll_4"] == pytest.approx(np.mean(metrics["val_nll_4_by_seed"]))


def test_train_recipe_writes_what_it_prints(tmp_path, text_file, capsys):
    out = tmp_path / "out"
    train_recipe.main(["--quick", "--data", str(text_file), "--out", str(out)])
    metrics, report = metrics_of(out), capsys.readouterr().out
    for name in ("adamw", "rise", "fall", "muon", "split"):
        assert f"{metrics[f'val_nll_{name}']:.4f}" in report
    assert (out / "model" / "config.json").exists()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--data", "nowhere.txt"], "nowhere.txt"),
        (["--data", "empty.txt"], "empty.txt"),
        (["--steps", "0"], "--steps"),
        (["--threads", "0"], "--threads"),
        (["--seed", "-1"], "--seed"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line(script, arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_bytes(b"")
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").write_bytes(b"from an earlier run")
    arguments = ["--quick", "--out", str(out), *arguments]
    message, printed = refused(SCRIPTS[script], arguments, capsys)
    assert said in message and printed == "", "look at the input before the work begins"
    assert [p.read_bytes() for p in out.iterdir()] == [b"from an earlier run"]
