"""The grid of small models, the script that bets on a larger one, and its figures."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from refusals import refused

from chapter_03_neural_nets import Batches
from chapter_07_attention import fit, text_corpus
from chapter_08_optimization import muon_and_adamw, wsd
from chapter_09_scaling import scaling_figures, scaling_laws
from chapter_09_scaling.power_law import PowerLaw
from chapter_09_scaling.small_models import (
    Run,
    Size,
    Training,
    parameters_of,
    small_gpt,
    tokens_of,
    trained,
)
from utils import manual_seed

TEXT = "the cat sat on the mat and saw the hat of the rat\n" * 40
TINY = Training(batch=4, rise=2)


@pytest.fixture(scope="module")
def corpus():
    return text_corpus(TEXT, 8)


def test_parameters_are_those_between_the_tables(corpus):
    width, layers = 32, 2
    model = small_gpt(Size(layers, width), corpus)
    matrices = 12 * width**2  # 3 + 1 for attention, 4 + 4 for the perceptron
    vectors = (3 + 1 + 4 + 1 + 4) * width  # biases, and two norms
    assert parameters_of(model) == layers * (matrices + vectors) + 2 * width
    tables = {id(model.embedding.weight), id(model.positions.weight), id(model.head.weight)}
    rest = sum(p.size for p in model.parameters() if id(p) not in tables)
    assert parameters_of(model) == rest, "every parameter is in a table or is counted"


def test_compute_and_tokens_by_hand(corpus):
    assert tokens_of(10, corpus, TINY) == 10 * 4 * 8
    assert Run(Size(1, 16), 1000, 50, 2.0).flops == 6 * 1000 * 50


def alone(size, corpus, steps):
    """A run of its own, as chapters 7 and 8 would train it."""
    manual_seed(0)
    model = small_gpt(size, corpus)
    rates = (wsd(lr, steps, TINY.rise, TINY.fall) for lr in (TINY.muon_lr, TINY.adamw_lr))
    optimizer = muon_and_adamw(model, *rates, head=model.head)
    return fit(model, corpus, steps, TINY.batch, optimizer=optimizer, judged=1).evaluations[-1]


def test_a_branch_is_bit_for_bit_a_run_of_its_own(corpus):
    size, lengths = Size(1, 16), (10, 20, 33)
    runs = list(trained(size, corpus, lengths, TINY))
    assert [run.tokens for run in runs] == [tokens_of(n, corpus, TINY) for n in lengths]
    for run, steps in zip(runs, lengths):
        assert run.loss == alone(size, corpus, steps)["loss"], (
            f"the branch of {steps} steps must have the weights, the optimiser's state and the "
            "batches that a run of this length would have"
        )


def test_a_branch_learns_and_longer_ones_more(corpus):
    losses = [run.loss for run in trained(Size(1, 16), corpus, (120, 20), TINY)]
    assert losses[1] < losses[0] < math.log(corpus.tokenizer.vocab_size)


def test_training_is_the_same_with_the_same_seed(corpus):
    first, again, other = (
        list(trained(Size(1, 16), corpus, (6, 12), TINY, seed)) for seed in (0, 0, 1)
    )
    assert first == again and first != other


def test_batches_are_put_back_where_the_trunk_left_them(corpus, monkeypatch):
    seen = []

    class Watched(Batches):
        def __next__(self):
            batch = super().__next__()
            seen.append(batch[0].tobytes())
            return batch

    monkeypatch.setattr("chapter_09_scaling.small_models.Batches", Watched)
    list(trained(Size(1, 16), corpus, (10, 20), TINY))
    # Level to 7, fall to 10, level on from 7 to 14, fall to 20.
    assert len(seen) == 10 + 13 and seen[7:10] == seen[10:13], "the trunk goes on where it was left"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick run on a text file: its folder and its file."""
    folder = tmp_path_factory.mktemp("quick")
    text = folder / "text.txt"
    text.write_text(TEXT)
    scaling_laws.main(["--quick", "--data", str(text), "--out", str(folder / "out")])
    return folder / "out", text


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_the_script_writes_what_it_promises(quick):
    out, _ = quick
    metrics = metrics_of(out)
    assert metrics["error"] == pytest.approx(metrics["predicted"] / metrics["measured"] - 1)
    assert metrics["predicted_low"] <= metrics["predicted_high"]
    assert set(metrics["constants"]) == set(PowerLaw._fields)
    for constant in metrics["constants"].values():
        assert constant["low"] <= constant["high"] and math.isfinite(constant["value"])
    law = PowerLaw(**{name: c["value"] for name, c in metrics["constants"].items()})
    left_out = metrics["left_out"]
    assert law(left_out["parameters"], left_out["tokens"]) == pytest.approx(metrics["predicted"])
    assert left_out["loss"] == metrics["measured"]
    largest = max(run["parameters"] for run in metrics["runs"])
    assert left_out["parameters"] >= 2 * largest and metrics["times_the_flops"] > 1
    assert all(run["parameters"] != left_out["parameters"] for run in metrics["runs"])
    for figure in ("loss_against_compute", "iso_flops", "predicted_and_measured"):
        assert (out / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_the_real_and_the_built_in_grid_leave_out_a_model_twice_as_large(corpus):
    for grid in (scaling_laws.REAL, scaling_laws.BUILT_IN, scaling_laws.QUICK):
        sizes = [parameters_of(small_gpt(size, corpus)) for size in (*grid.sizes, grid.left_out)]
        assert sizes[-1] >= 2 * max(sizes[:-1])
        assert len(set(sizes)) >= 4 and len(set(grid.lengths)) >= 3
        rise, fall = grid.training.rise, grid.training.fall
        assert rise <= (1 - fall) * min(grid.lengths), "the rate must have risen before it falls"


def test_it_says_what_it_expects_before_it_trains(tmp_path, quick, capsys, monkeypatch):
    out, text = quick
    shutil.copytree(out, tmp_path / "out")
    runs = json.loads((out / "runs.json").read_text())
    runs["runs"].pop()
    (tmp_path / "out" / "runs.json").write_text(json.dumps(runs))
    said = []

    def look(*args):
        said.append((capsys.readouterr().out, metrics_of(tmp_path / "out")))
        return trained(*args)

    monkeypatch.setattr(scaling_laws, "trained", look)
    monkeypatch.setattr(scaling_laws, "save_figure", lambda *_: None)
    options = ["--quick", "--resume", "--data", str(text), "--out", str(tmp_path / "out")]
    scaling_laws.main(options)
    ((before, metrics),) = said
    after = capsys.readouterr().out
    assert f"{metrics['predicted']:.4f}" in before and "measured" not in before
    assert "measured" not in metrics, "the prediction is on record before the model is trained"
    assert f"{metrics_of(tmp_path / 'out')['measured']:.4f}" in after
    assert metrics_of(tmp_path / "out") == metrics_of(out), "a resumed run ends as a whole one"


@pytest.mark.parametrize("after", [2, 5])
def test_a_run_that_was_killed_goes_on(after, tmp_path, quick, monkeypatch):
    out, text = quick
    options = ["--quick", "--data", str(text), "--out", str(tmp_path / "out")]
    calls = []

    def killed(*args):
        for run in trained(*args):
            calls.append(run.size)
            if len(calls) > after:
                raise KeyboardInterrupt
            yield run

    monkeypatch.setattr(scaling_laws, "trained", killed)
    monkeypatch.setattr(scaling_laws, "save_figure", lambda *_: None)
    with pytest.raises(SystemExit):
        scaling_laws.main(options)
    saved = json.loads((tmp_path / "out" / "runs.json").read_text())["runs"]
    assert len(saved) == after, "every finished run is on disk"
    calls.clear()

    def counted(*args):
        calls.append(args[0])
        return trained(*args)

    monkeypatch.setattr(scaling_laws, "trained", counted)
    scaling_laws.main([*options, "--resume"])
    assert len(calls) == 4 - after // 3, "sizes that are finished are not trained again"
    assert metrics_of(tmp_path / "out") == metrics_of(out)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "no runs"),
        (b"\xff", "no runs"),
        (b"[]", "no runs"),
        (b'{"runs": [1], "setting": {}}', "no runs"),
        (b'{"runs": [[[1], 2]], "setting": {}}', "no runs"),
        (b'{"runs": [], "setting": {}}', "without --resume"),
        (b'{"runs": [], "setting": 3}', "no runs"),
    ],
)
def test_a_file_of_no_use_is_refused_and_kept(content, said, tmp_path, quick, capsys):
    _, text = quick
    (tmp_path / "runs.json").write_bytes(content)
    options = ["--quick", "--resume", "--data", str(text), "--out", str(tmp_path)]
    message, printed = refused(scaling_laws.main, options, capsys)
    assert said in message and "runs.json" in message and printed == ""
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [content]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--data", "nowhere.txt"], "nowhere.txt"),
        (["--data", "empty.txt"], "empty.txt"),
        (["--data", "short.txt"], "too short"),
        (["--resamples", "3"], "--resamples"),
        (["--seed", "-1"], "--seed"),
        (["--resume", "--seed", "7"], "of another seed"),
        (["--resume"], "of another text"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line(arguments, said, tmp_path, quick, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "short.txt").write_text("abc")
    shutil.copytree(quick[0], tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    data = ["--data", str(quick[1])] if "of another seed" in said else []
    options = ["--quick", "--out", str(tmp_path / "out"), *data, *arguments]
    message, printed = refused(scaling_laws.main, options, capsys)
    assert said in message and printed == ""
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


LAW = PowerLaw(1.2, 8.0, 60.0, 0.35, 0.33)


def runs_of(law):
    sizes = {Size(1, 16): 3_312, Size(1, 32): 12_768, Size(2, 32): 25_472}
    return [Run(s, n, t, law(n, t)) for s, n in sizes.items() for t in (500_000, 1_000_000)]


def test_figures_show_every_run_and_the_one_left_out():
    runs, left_out = runs_of(LAW), Run(Size(4, 96), 447_552, 2_000_000, 1.7)
    figure = scaling_figures.plot_loss_against_compute(runs, LAW, left_out)
    (axes,) = figure.axes
    marked = [line for line in axes.get_lines() if line.get_marker() not in ("None", "")]
    points = {(x, y) for line in marked for x, y in zip(line.get_xdata(), line.get_ydata())}
    assert points == {(run.flops, run.loss) for run in [*runs, left_out]}
    envelope = next(line for line in axes.get_lines() if line.get_label() == "lowest by the law")
    costs, lowest = envelope.get_data()
    for run in runs:
        assert np.interp(np.log(run.flops), np.log(costs), lowest) <= run.loss + 1e-6

    figure = scaling_figures.plot_predictions(runs, LAW, left_out)
    star = next(line for line in figure.axes[0].get_lines() if line.get_marker() == "*")
    np.testing.assert_allclose(star.get_xydata(), [[LAW(447_552, 2_000_000), 1.7]])


def test_iso_flop_curves_are_lowest_on_the_line():
    runs = runs_of(LAW)
    figure = scaling_figures.plot_iso_flops(runs, LAW, [2e10, 6e10, 1.2e11])
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    sizes, losses = lines["best"].get_data()
    for budget in ("2.0e+10", "6.0e+10", "1.2e+11"):
        x, y = lines[budget].get_data()
        at = np.argmin(y)
        assert 0 < at < len(y) - 1, "the minimum lies within the picture"
        assert y[at] == pytest.approx(np.interp(x[at], sizes, losses), rel=5e-3)
    points = [line for line in figure.axes[0].get_lines() if line.get_marker() in "osD^"]
    assert points, "what was measured is in the picture"
    for point in points:
        ((parameters, loss),) = point.get_xydata()
        curves = [np.interp(parameters, *lines[b].get_data()) for b in ("2.0e+10", "6.0e+10",
                                                                         "1.2e+11")]  # fmt: skip
        assert min(abs(loss / curve - 1) for curve in curves) < 0.02


@pytest.mark.parametrize(
    "number, said", [(384, "384"), (999.4, "999"), (12_768, "12.8k"), (4.096e6, "4.1M"),
                     (999_999, "1M"), (2e9, "2G")],
)  # fmt: skip
def test_counts_are_short(number, said):
    assert scaling_figures.in_short(number) == said
