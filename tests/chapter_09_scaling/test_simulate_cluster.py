"""The simulator's script and figures: what they say and write, and what they refuse."""

from __future__ import annotations

import json
import math

import pytest
from matplotlib.figure import Figure
from refusals import refused

from chapter_07_attention import GPTConfig
from chapter_09_scaling import simulate_cluster
from chapter_09_scaling.cluster import A100_CLUSTER
from chapter_09_scaling.published import read_table
from chapter_09_scaling.simulator import best_layout
from chapter_09_scaling.simulator_figures import plot_memory, plot_predictions, plot_step_parts

HEADER = ("parameters_b,attention_heads,hidden_size,layers,tensor_parallel,pipeline_parallel,gpus,"
          "batch_size,tflops_per_gpu\n")  # fmt: skip
ROWS = "0.4,16,1024,24,1,1,8,64,100\n0.8,16,1536,24,2,2,16,64,120\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with tables, good and bad."""
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "table.csv": "# where it is from\n" + HEADER + ROWS,
        "empty.csv": "",
        "header.csv": HEADER,
        "columns.csv": HEADER.replace("gpus,", "") + ROWS,
        "words.csv": HEADER + ROWS.replace("1024", "wide"),
        "short.csv": HEADER + "0.4,16,1024\n",
        "nan.csv": HEADER + ROWS.replace("100", "nan"),
        "zero.csv": HEADER + ROWS.replace("24", "0"),
        "twice.csv": HEADER + ROWS + ROWS,
        "odd.csv": HEADER + ROWS.replace(",2,2,16", ",2,5,16"),
        "huge.csv": HEADER + "900,16,65536,16,1,1,8,64,100\n",
    }.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00\x80")
    return tmp_path


def run(*arguments) -> dict:
    simulate_cluster.main([*arguments, "--out", "out"])
    with open("out/metrics.json", encoding="utf-8") as file:
        return json.load(file)


def numbers(metrics) -> list:
    if isinstance(metrics, dict):
        return [n for value in metrics.values() for n in numbers(value)]
    return [metrics]


@pytest.mark.parametrize(
    ("arguments", "figures"),
    [(["--quick"], {"time", "memory"}), (["--table", "table.csv"], {"published"})],
    ids=["layouts", "table"],
)
def test_it_writes_what_it_prints(arguments, figures, folder, capsys):
    metrics, output = run(*arguments), capsys.readouterr()
    found = numbers(metrics)
    assert output.err == "" and found and all(map(math.isfinite, found))
    for printed in output.out.split():
        digits = printed.rstrip("%")
        if digits.replace(".", "").isdigit() and "." in digits:
            style = f".{len(digits.partition('.')[2])}" + ("%" if printed != digits else "f")
            known = {format(n, style) for n in found} | set(metrics.get("rows", ()))
            assert printed in known, f"{printed} is not in metrics.json"
    drawn = {path.stem: path.read_bytes() for path in (folder / "out").glob("*.png")}
    assert drawn.keys() == figures
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(simulate_cluster, "save_figure", lambda figure, path: path)


def test_the_table_is_compared_row_by_row(folder, undrawn):
    metrics = run("--table", "table.csv")
    assert list(metrics["rows"]) == ["0.4", "0.8"]
    for row, published in zip(metrics["rows"].values(), (100, 120)):
        assert row["published_tflops"] == pytest.approx(published)
        assert row["ratio"] == pytest.approx(row["tflops_per_gpu"] / published)
        assert row["recompute"] is True
    errors = [abs(row["ratio"] - 1) for row in metrics["rows"].values()]
    assert metrics["largest_error"] == max(errors)
    assert metrics["rows"]["0.8"]["tensor"] == metrics["rows"]["0.8"]["pipeline"] == 2


def test_the_published_table(reference_data, folder, undrawn):
    metrics = run("--table", str(reference_data / "megatron_lm_table_1.csv"))
    assert len(metrics["rows"]) == 10 and metrics["largest_error"] < 0.1


def test_a_model_of_ones_own(folder, undrawn):
    own = ["--layers", "8", "--width", "512", "--heads", "8", "--context", "128"]
    metrics = run(*own, "--nodes", "2", "--batch", "32", "--tensor", "2", "--pipeline", "4")
    yours = metrics["yours"]
    assert (yours["gpus"], yours["batch"]) == (16, 32)
    assert (yours["tensor"], yours["pipeline"], yours["data"]) == (2, 4, 2)
    assert run(*own, "--cluster", "laptops")["yours"]["batch"] == 4 * 8


def test_a_known_model_on_other_gpus(folder, undrawn):
    metrics = run("--model", "1.7B", "--gpus", "64")
    assert list(metrics) == ["1.7B"] and metrics["1.7B"]["gpus"] == 64
    assert run("--model", "1.7B", "--layers", "12")["1.7B"]["parameters"] < 1e9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--layers 0", "from 1 to"),
        ("--layers 4", "all of --layers, --width and --heads"),
        ("--layers 4 --width 100 --heads 3", "not divisible"),
        ("--model 1.7B --gpus 8 --nodes 1", "give one of them"),
        ("--model 2T", "invalid choice"),
        ("--cluster toasters", "invalid choice"),
        ("--model 1.7B --tensor 5", "no layout divides"),
        ("--model 1.7B --pipeline 7", "no layout divides"),
        ("--model 1T --gpus 8 --batch 8", "GB a GPU"),
        ("--batch 2.5", "not a whole number"),
        ("--table nowhere.csv", "nowhere.csv"),
        ("--table .", "directory"),
        ("--table empty.csv", "no column parameters_b"),
        ("--table header.csv", "no rows"),
        ("--table columns.csv", "no column gpus"),
        ("--table words.csv", "these are no sizes"),
        ("--table short.csv", "these are no sizes"),
        ("--table nan.csv", "these are no sizes"),
        ("--table zero.csv", "these are no sizes"),
        ("--table twice.csv", "two rows of 0.4"),
        ("--table bytes.csv", "no text"),
        ("--table odd.csv", "no layout divides"),
        ("--table huge.csv", "GB a GPU"),
        ("--out table.csv", "no folder can be made"),
    ],
)
def test_bad_input_is_one_line_and_costs_nothing(arguments, said, folder, capsys):
    (folder / "out").mkdir()
    (folder / "out" / "metrics.json").write_text("from an earlier run")
    message, _ = refused(simulate_cluster.main, ["--out", "out", *arguments.split()], capsys)
    assert message.startswith("simulate_cluster.py: error: ") and said in message
    assert (folder / "out" / "metrics.json").read_text() == "from an earlier run"


def test_tables_are_read_by_their_header(folder):
    first, second = read_table("table.csv")
    assert first.name == "0.4" and first.width == 1024 and first.flops == 1e14
    assert (second.tensor, second.pipeline, second.gpus, second.batch) == (2, 2, 16, 64)


def test_figures_show_every_part():
    model = GPTConfig(1000, 128, 4, 4, 256)
    reports = {str(n): best_layout(model, A100_CLUSTER.of(n), 16) for n in (1, 8)}
    for figure, parts in (
        (plot_step_parts(reports), reports["1"].parts),
        (plot_memory(reports), reports["1"].memory),
    ):
        assert isinstance(figure, Figure)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(parts)
        assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["1", "8"]
    bars = plot_step_parts(reports).axes[0].containers
    assert sum(bar[1].get_width() for bar in bars) == pytest.approx(100)
    figure = plot_predictions(["a", "b"], [1e14, 2e14], [1.1e14, 2e14])
    assert list(figure.axes[0].lines[1].get_ydata()) == [100, 200]
