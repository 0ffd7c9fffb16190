"""The ravine, the landscape's figures, and the two scripts: what they write, what they refuse."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from refusals import refused

from chapter_03_neural_nets import SGD, Adam
from chapter_08_optimization import SAM, compare_regularizers, draw_landscape
from chapter_08_optimization.landscape_figures import (
    plot_path_between,
    plot_surface_with_paths,
    plot_two_minima,
)
from chapter_08_optimization.ravine import VALLEYS, path_on, ravine, rosenbrock, walks

SCRIPTS = {"draw_landscape": draw_landscape, "compare_regularizers": compare_regularizers}
SMALL = {
    "draw_landscape": ["--quick", "--steps", "4", "--pictures", "30"],
    "compare_regularizers": ["--quick", "--steps", "2", "--pictures", "20"],
}
FIGURES = {
    "draw_landscape": {"ravine", "paths", "minima", "between_seeds", "average"},
    "compare_regularizers": {"losses"},
}


def test_a_step_of_sgd_by_hand():
    path = path_on(ravine, lambda params: SGD(params, 0.01), (-8, 1.5), 1)
    np.testing.assert_allclose(path, [[-8, 1.5], [-8 + 0.08, 1.5 - 0.6]], rtol=1e-12)


def test_sam_climbs_before_it_descends():
    path = path_on(ravine, lambda params: SAM(SGD(params, 0.01), 0.5), (3.0, 0.0), 1)
    np.testing.assert_allclose(path[1], [3 - 0.01 * 3.5, 0], rtol=1e-12)


def test_what_diverges_says_so_in_its_path():
    path = path_on(ravine, lambda params: SGD(params, 10.0), (-8, 1.5), 400)
    assert path.shape == (401, 2) and not np.isfinite(path[-1]).all()


@pytest.mark.parametrize("start", [(1,), (1, 2, 3), (math.nan, 0), [[1, 2]]], ids=str)
def test_a_start_is_two_finite_numbers(start):
    with pytest.raises(ValueError, match="two finite numbers"):
        path_on(ravine, Adam, start, 1)


def test_valleys_are_lowest_where_they_say_and_every_walker_gets_down():
    assert rosenbrock(1.0, 1.0) == 0 and ravine(0.0, 0.0) == 0
    for valley in VALLEYS.values():
        first = valley.function(*valley.start)
        assert valley.function(*valley.lowest) == 0
        for name, path in walks(valley).items():
            assert valley.function(*path[-1]) < first / 3, f"{name} in {valley.title}"


def test_figures_bear_what_is_infinite_or_flat(rng):
    ticks = np.linspace(-1, 1, 4)
    wild = np.exp(rng.standard_normal((4, 4)))
    wild[0, 0], wild[1, 1] = np.inf, np.nan
    surfaces = {"wild": wild, "flat": np.ones((4, 4))}
    assert isinstance(plot_two_minima(ticks, surfaces), Figure)
    assert isinstance(plot_two_minima(ticks, {"zero": np.zeros((4, 4))}), Figure)
    path = rng.standard_normal((3, 2))
    figure = plot_surface_with_paths(ticks, ticks, wild, {"a": path, "b": path}, "title")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["a", "b", "start"]
    figure = plot_path_between(ticks, {"loss": ticks}, ("here", "there"))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["here", "half way", "there"]


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A folder to work in, with pictures, and files that are none."""
    monkeypatch.chdir(tmp_path)
    images = rng.integers(256, size=(60, 28, 28)).astype(np.uint8)
    labels = rng.integers(3, size=60)
    np.savez("images.npz", images=images, labels=labels)
    np.savez("three.npz", images=images[:3], labels=labels[:3])
    np.savez("one.npz", images=images[:1], labels=labels[:1])
    np.savez("large.npz", images=np.zeros((9, 32, 32), np.uint8), labels=np.zeros(9, int))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "text.txt").write_text("no pictures here")
    return tmp_path


def run(name, *arguments) -> dict:
    SCRIPTS[name].main([*SMALL[name], "--data", "images.npz", "--out", "out", *arguments])
    with open("out/metrics.json", encoding="utf-8") as file:
        return json.load(file)


def numbers(metrics) -> list:
    if isinstance(metrics, (dict, list)):
        values = metrics.values() if isinstance(metrics, dict) else metrics
        return [n for value in values for n in numbers(value)]
    return [] if metrics is None else [metrics]


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_writes_what_it_prints(name, folder, capsys):
    metrics, output = run(name), capsys.readouterr()
    found = numbers(metrics)
    assert output.err == "" and found and all(map(math.isfinite, found))
    for printed in output.out.split():
        style = {"%": ".1%"}.get(printed[-1]) or (".1e" if "e-" in printed else None)
        decimals = printed.partition(".")[2]
        if style is None and decimals.isdigit() and printed[0].isdigit():
            style = f".{len(decimals)}f"
        if style is not None and printed[0].isdigit():
            assert printed in {format(n, style) for n in found}, f"{printed} is not in metrics.json"
    drawn = {path.stem: path.read_bytes() for path in (folder / "out").glob("*.png")}
    assert drawn.keys() == FIGURES[name]
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take most of a small run's time."""
    for module in SCRIPTS.values():
        monkeypatch.setattr(module, "save_figure", lambda figure, path: path)


def test_the_keys_of_the_landscape(folder, undrawn):
    metrics = run("draw_landscape")
    assert set(metrics["ravine"]) == {"SGD", "momentum", "RMSprop", "Adam", "Lion"}
    assert set(metrics["paths"]) == {"momentum", "Adam", "Muon", "Lion"}
    assert set(metrics["minima"]) == {"batch of 20", "batch of 30", "SAM"}
    assert set(metrics["averages"]) == {"last", "EMA", "SWA"}
    assert 0 < metrics["held_by_the_plane"] <= 1 and "barrier" in metrics


def test_the_remedies_that_are_asked_for(folder, undrawn):
    metrics = run("compare_regularizers", "--remedies", "nothing", "SAM", "--last-lr", "0")
    assert set(metrics["remedies"]) == {"nothing", "SAM"}
    assert metrics["pictures"] == {"learnt": 20, "watched": 20, "test": 20}
    nothing = metrics["remedies"]["nothing"]
    assert {"train_accuracy", "test_loss", "test_accuracy", "steps"} <= set(nothing)


def test_the_same_seed_is_the_same_run_and_another_is_another(folder, undrawn):
    first, again, other = (
        run("compare_regularizers", "--remedies", "mixup", "dropout", "--seed", seed)
        for seed in "112"
    )
    assert first == again and first != other


@pytest.mark.parametrize("name", SCRIPTS)
def test_three_pictures_are_enough_or_refused(name, folder, undrawn, capsys):
    """Some to learn from and some to be judged on; the regularisers want a third part."""
    try:
        run(name, "--data", "three.npz", "--batch", "1000")
    except SystemExit as stop:
        assert stop.code == 2 and "without images" in capsys.readouterr().err


FLAGS = {
    "draw_landscape": ["--steps 1", "--pictures 0", "--batch 0", "--steps 2.5", "--seed -1",
                       "--lr 1"],
    "compare_regularizers": ["--steps 0", "--pictures many", "--batch 0", "--lr 0", "--lr nan",
                             "--last-lr -1", "--seeds 0", "--remedies prayer", "--remedies"],
}  # fmt: skip
FILES = {
    "nowhere.npz": "neither a file nor a known name",
    "names": "'names' is neither",
    "empty.txt": "empty",
    "text.txt": "begins with the bytes",
    ".": "is a folder",
    "one.npz": "without images",
    "large.npz": "(9, 32, 32), not (N, 28, 28)",
}
BAD = [
    *((name, flags.split(), flags.split()[0]) for name in SCRIPTS for flags in FLAGS[name]),
    *((name, ["--data", file], said) for name in SCRIPTS for file, said in FILES.items()),
    *((name, ["--out", "text.txt"], "no folder can be made") for name in SCRIPTS),
]


@pytest.mark.parametrize(
    ("name", "arguments", "said"), BAD, ids=[f"{name} {' '.join(a)}" for name, a, _ in BAD]
)
def test_bad_input_is_one_line_and_costs_nothing(name, arguments, said, folder, capsys):
    (folder / "out").mkdir()
    (folder / "out" / "metrics.json").write_text("from an earlier run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    message, _ = refused(SCRIPTS[name].main, [*SMALL[name], "--out", "out", *arguments], capsys)
    assert message.startswith(f"{name}.py: error: ") and said in message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_training_that_diverges_says_to_lower_the_learning_rate(folder, undrawn, capsys):
    with pytest.raises(SystemExit) as stop:
        run("compare_regularizers", "--lr", "1e30", "--remedies", "nothing")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "learning rate" in error
