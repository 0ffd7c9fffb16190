"""The script that adapts a model three ways: what it trains, writes and refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from refusals import refused

from chapter_02_text_generation import CharacterTokenizer
from chapter_07_attention import GPT, GPTConfig, from_pretrained, load_tokenizer, save_pretrained
from chapter_09_scaling import fine_tune
from chapter_09_scaling.lora import add_lora, merge_lora
from utils.weights import load_weights

OLD = "to be or not to be, that is the question. " * 30
NEW = "anna\nbob\neve\noona\nruth\n" * 20
SMALL = [
    "--quick",
    "--steps",
    "2",
    "--base-steps",
    "2",
    "--base",
    "old.txt",
    "--data",
    "new.txt",
    "--out",
    "out",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.txt").write_text(OLD)
    (tmp_path / "new.txt").write_text(NEW)
    (tmp_path / "short.txt").write_text("to be")
    (tmp_path / "other.txt").write_text("\u00e4\u00f6\u00fc " * 100)
    tokenizer = CharacterTokenizer.train(OLD + NEW)
    model = GPT(GPTConfig(tokenizer.vocab_size, 12, 2, 2, 8), rng=np.random.default_rng(0))
    save_pretrained(model, tmp_path / "model", tokenizer)
    save_pretrained(model, tmp_path / "bare")
    return tmp_path


def test_it_writes_what_it_prints(folder, capsys):
    fine_tune.main(SMALL)
    output, metrics = capsys.readouterr(), json.loads((folder / "out/metrics.json").read_text())
    assert output.err == ""
    assert all(math.isfinite(x) for name, x in metrics.items() if name != "sample")
    for way in ("all_weights", "lora", "last_layer"):
        assert f"{metrics[f'trained_{way}']:,}" in output.out
        assert f"{metrics[f'val_nll_{way}']:.4f}" in output.out
        assert f"{metrics[f'old_nll_{way}']:.4f}" in output.out
        assert metrics[f"moments_kb_{way}"] == pytest.approx(metrics[f"trained_{way}"] * 8 / 1000)
    assert metrics["trained_all_weights"] == metrics["parameters"]
    assert metrics["trained_lora"] < metrics["trained_last_layer"]
    assert metrics["difference_after_merging"] < 1e-5
    assert (folder / "out" / "forgetting.png").read_bytes().startswith(b"\x89PNG")


def test_a_saved_model_is_adapted_and_saved_in_its_own_layout(folder):
    fine_tune.main([*SMALL, "--model", "model"])
    base, merged = from_pretrained("model"), from_pretrained("out/model")
    assert merged.config == base.config, "a merged model is like the one it came from"
    assert load_tokenizer("out/model").vocab_size == base.config.vocab_size
    adapter = load_weights("out/adapter.safetensors")
    add_lora(base, rank=4, alpha=8).load_state_dict(adapter, strict=False)
    merge_lora(base)
    for name, array in merged.state_dict().items():
        np.testing.assert_allclose(array, base.state_dict()[name], atol=1e-6, err_msg=name)
    assert any("lora_B" in name and array.any() for name, array in adapter.items())


def test_the_last_layer_leaves_a_tied_head_alone():
    for tied in (True, False):
        model = GPT(GPTConfig(11, 12, 2, 2, 8, tied=tied))
        fine_tune.last_layer(model, None)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert ("head.weight" in trained) is not tied and "embedding.weight" not in trained
        assert all(name.startswith(("layers.1.", "norm.", "head.")) for name in trained)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--data nowhere.txt", "nowhere.txt"),
        ("--base short.txt", "too short"),
        ("--data short.txt", "too short"),
        ("--model nowhere", "nowhere"),
        ("--model bare", "no tokenizer"),
        ("--model model --data other.txt", "\u00e4"),
        ("--rank 0", "from 1 to"),
        ("--alpha nan", "above 0"),
    ],
)
def test_bad_input_is_one_line(arguments, said, folder, capsys):
    message, printed = refused(fine_tune.main, [*SMALL, *arguments.split()], capsys)
    assert said in message and printed == ""
    assert not list((folder / "out").glob("*")), "nothing is written"
