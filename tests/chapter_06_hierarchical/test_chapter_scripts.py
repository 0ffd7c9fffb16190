"""The chapter's scripts: what they write is what they print, and how they refuse bad input."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
from refusals import refused

from chapter_06_hierarchical import convolutional_network, train_trees, train_wavenet

SCRIPTS = {
    "convolutional_network": convolutional_network,
    "train_wavenet": train_wavenet,
    "train_trees": train_trees,
}
SMALL = {
    "convolutional_network": ["--quick", "--epochs", "1", "--batch", "16", "--net", "lenet"],
    "train_wavenet": ["--quick", "--steps", "2", "--channels", "4", "--hidden", "4"],
    "train_trees": ["--quick", "--steps", "2", "--size", "4", "--examples", "100"],
}
FIGURES = {
    "convolutional_network": {"filters", "feature_maps", "confusion", "validation"},
    "train_wavenet": {"validation", "receptive_field", "loss", "influence"},
    "train_trees": {"validation", "accuracy_by_depth", "expression"},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, rng):
    """A folder to work in, with data of both kinds, and a library that is read at once."""
    monkeypatch.chdir(tmp_path)
    images, labels = rng.integers(256, size=(60, 28, 28)), rng.integers(3, size=60)
    save = lambda name, n: np.savez(name, images=images[:n].astype(np.uint8), labels=labels[:n])
    save("images.npz", 60), save("two.npz", 2), save("one.npz", 1)
    np.savez("large.npz", images=np.zeros((20, 32, 32), np.uint8), labels=np.zeros(20, int))
    names = ["".join(parts) for parts in itertools.product(["ka", "lo", "mi"], repeat=3)]
    files = {"names.txt": names, "letters.txt": "abcdefghijkl", "two.txt": "ab", "line.txt": ["a"]}
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"\0\0\0\2" + b"\0\0\0\x1c" * 2)
    monkeypatch.setattr(train_trees, "library_expressions", lambda files=None: EXPRESSIONS)
    return tmp_path


def nested(depth, names):
    if depth == 0:
        return [None]
    return [(name, part, None) for name in names for part in nested(depth - 1, names)]


EXPRESSIONS = [e for depth in (1, 2, 3, 4) for e in nested(depth, ["And", "Or", "Add"])]


def run(name, *arguments) -> dict:
    SCRIPTS[name].main([*SMALL[name], "--out", "out", *arguments])
    with open("out/metrics.json", encoding="utf-8") as file:
        return json.load(file)


DATA = {"convolutional_network": "images.npz", "train_wavenet": "names.txt"}


def data(name):
    return ["--data", DATA[name]] if name in DATA else []


def steps_of(metrics) -> int:
    """How many steps were taken: by each network, or by all alike."""
    return min(value for key, value in metrics.items() if key.endswith("steps"))


def numbers(metrics):
    if isinstance(metrics, dict):
        return [n for value in metrics.values() for n in numbers(value)]
    return [metrics] if isinstance(metrics, (int, float)) else []


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_writes_what_it_prints(name, folder, capsys):
    metrics = run(name, *data(name))
    output, found = capsys.readouterr(), numbers(metrics)
    assert output.err == "" and steps_of(metrics) >= 2
    for printed in re.findall(r"\d+\.\d+%?", output.out):
        digits = len(printed.rstrip("%").split(".")[1])
        style = f".{digits}%" if printed.endswith("%") else f".{digits}f"
        assert printed in {format(n, style) for n in found}, f"{printed} is not in metrics.json"
    drawn = {path.stem for path in (folder / "out").glob("*.png")}
    assert drawn >= FIGURES[name]


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take most of a small run's time."""
    for script in SCRIPTS.values():
        monkeypatch.setattr(script, "save_figure", lambda figure, path: path)
    for name in ("plot_feature_maps", "plot_images"):
        monkeypatch.setattr(convolutional_network, name, lambda *args, **options: None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_another_seed_is_another_run(name, undrawn):
    first, other = (run(name, *data(name), "--seed", seed) for seed in "12")
    assert first.keys() == other.keys() and numbers(first) != numbers(other)


def test_the_networks_that_are_asked_for(undrawn, capsys):
    metrics = run("convolutional_network", *data("convolutional_network"), "--net", "resnet")
    assert "resnet_parameters" in metrics and "lenet_parameters" not in metrics
    assert "kernels" not in capsys.readouterr().out, "only LeNet-5's are drawn"
    metrics = run("train_wavenet", *data("train_wavenet"), "--net", "pairs", "gru")
    assert "WaveNet" not in capsys.readouterr().out, "nothing of WaveNet was drawn"
    assert {"parameters_pairs", "parameters_gru"} <= set(metrics)
    assert "parameters_wavenet" not in metrics and len(metrics["invented"]) == 10


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("convolutional_network", ["--data", "two.npz", "--net", "lenet", "resnet", "separable"]),
        ("convolutional_network", ["--data", "images.npz", "--batch", "1000"]),
        ("train_wavenet", ["--data", "letters.txt"]),
        ("train_wavenet", ["--data", "letters.txt", "--batch", "1000", "--dropout", "1"]),
        ("train_trees", ["--batch", "1000", "--learnt-depth", "1"]),
    ],
    ids=str,
)
def test_tiny_data_is_enough(name, arguments, undrawn):
    """A batch is never larger than the data, a name may be one letter, a test one picture."""
    assert steps_of(run(name, *arguments)) >= 1


@pytest.mark.parametrize("count", [10, 20, 99])
def test_few_examples_are_enough_or_refused(count, undrawn, capsys):
    """What `--examples` allows has something to be judged on, or says what it needs."""
    try:
        run("train_trees", "--examples", str(count))
    except SystemExit as stop:
        error = capsys.readouterr().err
        assert stop.code == 2 and "--examples" in error, error


FLAGS = {
    "convolutional_network": ["--epochs 0", "--epochs 1.5", "--batch 1", "--batch many", "--lr 0",
                              "--lr nan", "--weight-decay -1", "--smoothing 1.5", "--net alexnet",
                              "--smoothing nan", "--seed -1", "--net", "--hidden 3"],
    "train_wavenet": ["--steps 0", "--channels 0", "--hidden -1", "--dropout 1.1", "--dropout nan",
                      "--batch 1", "--lr -1", "--lr inf", "--weight-decay nan", "--net transformer",
                      "--seed x", "--net", "--epochs 3"],
    "train_trees": ["--steps 0", "--examples 9", "--examples 1e3", "--learnt-depth 0", "--size 0",
                    "--batch 0", "--lr 0", "--weight-decay -0.1", "--seed -1", "--data names.txt"],
}  # fmt: skip
FILES = {
    "convolutional_network": [
        ("nowhere.npz", "'nowhere.npz' is neither a file nor a known name; known for images"),
        ("names", "'names' is neither"),
        ("empty.txt", "empty"),
        ("names.txt", "names.txt: begins with the bytes"),
        (".", "is a folder"),
        ("one.npz", "1 images"),
        ("large.npz", r"\(20, 32, 32\), not \(N, 28, 28\)"),
        ("images-idx3-ubyte", "need 1,568 bytes, the file holds 0"),
    ],
    "train_wavenet": [
        ("nowhere.txt", "'nowhere.txt' is neither a file nor a known name; known for names"),
        ("mnist", "'mnist' is neither"),
        ("empty.txt", "empty"),
        ("images.npz", "not a text file"),
        (".", "is a folder"),
        ("two.txt", "2 names are too few to split"),
        ("line.txt", "one line only"),
    ],
}
BAD = [
    *((name, flag.split(), flag.split()[0]) for name, flags in FLAGS.items() for flag in flags),
    *((name, ["--data", file], said) for name, files in FILES.items() for file, said in files),
    *((name, ["--out", "names.txt"], "names.txt: no folder can be made") for name in SCRIPTS),
    *((name, ["--out", "names.txt/in"], "no folder can be made") for name in SCRIPTS),
    ("train_trees", ["--learnt-depth", "4"], "nothing deeper: the deepest expression has 4"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "said"), BAD, ids=[f"{name} {' '.join(a)}" for name, a, _ in BAD]
)
def test_bad_input_is_one_line_and_costs_nothing(name, arguments, said, folder, capsys):
    (folder / "out").mkdir()
    (folder / "out" / "metrics.json").write_text("from an earlier run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    message, _ = refused(SCRIPTS[name].main, [*SMALL[name], "--out", "out", *arguments], capsys)
    assert message.startswith(f"{name}.py: error: ") and re.search(said, message)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("lr", ["1e30", "1e6"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_training_that_diverges_says_to_lower_the_learning_rate(name, lr, undrawn, capsys):
    """Or it comes through; but warnings and a NaN for a loss are no way to say it."""
    arguments = [*data(name), "--lr", lr, "--steps", "4"]
    if name == "convolutional_network":
        arguments[-2:] = ["--epochs", "2"]
    try:
        run(name, *arguments)
    except SystemExit as stop:
        output = capsys.readouterr()
        assert stop.code == 2 and output.err.count("\n") == 1
        assert "learning rate" in output.err and "nan" not in output.out
    else:
        assert capsys.readouterr().err == ""


def test_a_library_without_expressions(monkeypatch, capsys):
    monkeypatch.setattr(train_trees, "library_expressions", lambda files=None: [])
    arguments = [*SMALL["train_trees"], "--out", "out"]
    assert "no expressions" in refused(train_trees.main, arguments, capsys)[0]
