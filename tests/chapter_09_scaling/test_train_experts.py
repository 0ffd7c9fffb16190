"""The script that trains a dense GPT and one of experts, and its figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from refusals import refused

from chapter_07_attention import text_corpus
from chapter_09_scaling import SingleProcess, train_experts
from chapter_09_scaling.expert_figures import plot_characters, plot_usage

SMALL = ["--quick", "--steps", "2", "--layers", "1", "--experts", "3"]
SETTINGS = {"seed": 0, "steps": 20, "experts": 3, "top_k": 2, "context": 8, "layers": 2,
            "heads": 2, "width": 8, "batch": 4, "lr": 3e-3}  # fmt: skip
TEXT = "all is one, one is all: who asks whom, and how often?\n" * 30


@pytest.fixture(scope="module")
def corpus():
    return text_corpus(TEXT, 8)


def run(folder, *arguments):
    train_experts.main([*SMALL, "--out", str(folder), *arguments])
    return json.loads((folder / "metrics.json").read_text())


def test_every_figure_that_is_printed_is_in_the_metrics(tmp_path, capsys):
    metrics = run(tmp_path)
    printed = capsys.readouterr().out
    for name in ("dense", "balanced", "not_balanced"):
        assert f"{metrics[f'val_nll_{name}']:.4f}" in printed
        assert f"{metrics[f'parameters_{name}']:,}" in printed
        assert f"{metrics[f'active_parameters_{name}']:,}" in printed
        assert f"{1e3 * metrics[f'step_seconds_{name}']:.1f}" in printed
    for name in ("balanced", "not_balanced"):
        (busiest,) = metrics[f"busiest_times_even_{name}"]
        assert f"{busiest:.2f}" in printed and 1 <= busiest <= 3
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "losses.png", "usage.png", "characters.png"
    }  # fmt: skip


def test_a_token_passes_as_much_as_in_the_dense_model_and_the_router(tmp_path):
    metrics = run(tmp_path)
    router = 3 * 16
    assert metrics["active_parameters_balanced"] == metrics["parameters_dense"] + router
    expert = 16 * 64 + 64 + 64 * 16 + 16
    assert metrics["parameters_balanced"] == metrics["parameters_dense"] + router + 2 * expert


def test_ranks_say_how_far_they_are_from_one_process(tmp_path, capsys):
    metrics = run(tmp_path, "--ranks", "2")
    assert metrics["ranks"] == 2
    assert metrics["largest_difference_float64"] < 1e-12
    assert metrics["val_nll_ranks"] == pytest.approx(metrics["val_nll_balanced"], abs=1e-4)
    expert = 16 * 64 + 64 + 64 * 16 + 16
    first, second = metrics["parameters_a_rank"]
    assert second - first == expert, "3 experts on 2 ranks: one, and two"
    assert f"{metrics['bytes_sent_a_step_float64']:,.0f}" in capsys.readouterr().out


def test_the_same_batches_whatever_the_rank_makes(corpus):
    """A rank's part draws other numbers than the whole: the batches must not depend on that."""

    class Second(SingleProcess):
        """The first rank of two, which never speaks to the other."""

        def __init__(self):
            super().__init__()
            self.size = 2

        def begin(self, name, array=None):
            pass

        def transfer(self, sent, taken, combine=None):
            pass

    whole, part = (
        train_experts.Trainee(comm, corpus, SETTINGS, 0.01) for comm in (SingleProcess(), Second())
    )
    assert np.array_equal(whole.batches.batches.order, part.batches.batches.order)


def test_questions_are_counted_by_token(corpus):
    trainee = train_experts.Trainee(SingleProcess(), corpus, SETTINGS, 0.01)
    counts = train_experts.questions(trainee.model, corpus)
    ids, targets = corpus.validation
    assert counts.shape == (2, corpus.tokenizer.vocab_size, 3)
    often = np.bincount(ids[targets != -100], minlength=corpus.tokenizer.vocab_size)
    for of_layer in counts:
        assert of_layer.sum(axis=1).tolist() == (2 * often).tolist(), "each token asks two"
        assert (of_layer <= often[:, None]).all(), "and no expert twice"


@pytest.mark.parametrize("arguments, said", [
    (["--top-k", "4", "--experts", "3"], "a token cannot ask 4 of 3 experts"),
    (["--ranks", "4", "--experts", "3"], "3 experts cannot be cut among 4"),
    (["--balance", "nan"], "must be"),
    (["--experts", "0"], "from 1 to"),
    (["--heads", "5"], "n_embd=64 is not divisible by n_head=5"),
    (["--data", "no-such-file"], "no-such-file"),
])  # fmt: skip
def test_bad_input_is_refused(arguments, said, tmp_path, capsys):
    message, printed = refused(train_experts.main, ["--out", str(tmp_path), *arguments], capsys)
    assert said in message and printed == ""


def test_usage_is_drawn_with_the_busiest_first():
    shares = {"a": np.array([[0.2, 0.5, 0.3]]), "b": np.array([[0.4, 0.4, 0.2]])}
    (axes,) = plot_usage(shares).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [0.5, 0.3, 0.2, 0.4, 0.4, 0.2]


def test_characters_stand_in_the_order_of_their_experts():
    counts = np.zeros((1, 4, 2), int)
    counts[0] = [[0, 9], [5, 1], [0, 0], [8, 0]]
    figure = plot_characters(counts, ["\n", "b", "never", "d"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["d", "b", "\\n"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[1, 5 / 6, 0], [0, 1 / 6, 1]])
