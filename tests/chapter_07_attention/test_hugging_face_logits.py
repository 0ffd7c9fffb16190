"""The logits of Hugging Face's models, stored ones and those of models made here, to 1e-4."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chapter_07_attention import from_pretrained, save_pretrained
from utils.weights import load_weights, save_weights

IDS = np.array([[1, 5, 7, 2, 64, 3]])
GPT2 = {"vocab_size": 65, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 3}
LLAMA = {
    "vocab_size": 65, "max_position_embeddings": 32, "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip

MODELS = [
    ("GPT2", GPT2),
    ("GPT2", {**GPT2, "n_layer": 3, "n_head": 1, "n_embd": 16, "vocab_size": 70}),
    ("GPT2", {**GPT2, "n_inner": 20, "activation_function": "gelu"}),
    ("GPT2", {**GPT2, "activation_function": "relu", "layer_norm_epsilon": 0.1}),
    ("GPT2", {**GPT2, "activation_function": "gelu_pytorch_tanh", "tie_word_embeddings": False}),
    ("GPT2", {**GPT2, "activation_function": "silu", "tie_word_embeddings": True}),
    ("Llama", LLAMA),
    ("Llama", {**LLAMA, "num_key_value_heads": 2, "rms_norm_eps": 0.01}),
    ("Llama", {**LLAMA, "num_key_value_heads": 1, "head_dim": 10}),
    ("Llama", {**LLAMA, "head_dim": 4, "attention_bias": True}),
    ("Llama", {**LLAMA, "mlp_bias": True, "tie_word_embeddings": True}),
    ("Llama", {**LLAMA, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2}),
    ("Llama", {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
]


def agree(found, expected):
    assert found.dtype == np.float32 and found.shape == expected.shape
    apart = np.abs(found - expected).max()
    assert apart < 1e-4, f"the logits are {apart:.1e} from Hugging Face's"


@pytest.mark.parametrize("name", ["hf_tiny_gpt2", "hf_tiny_llama"])
def test_stored_logits(name, reference_data):
    folder = reference_data / name
    agree(from_pretrained(folder).eval()(IDS).data, np.load(folder / "logits.npy"))


@pytest.mark.parametrize("name", ["hf_tiny_gpt2", "hf_tiny_llama"])
def test_stored_checkpoints_go_out_as_they_came(name, reference_data, tmp_path):
    model = from_pretrained(reference_data / name)
    again = from_pretrained(save_pretrained(model, tmp_path / "copy"))
    assert again.config == model.config
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[key], array, key)


@pytest.mark.parametrize(("family", "settings"), MODELS, ids=str)
def test_models_made_at_random(family, settings, hugging_face, tmp_path, rng):
    theirs = hugging_face.make(family, **settings)
    folder = hugging_face.save(theirs, tmp_path)
    ids = rng.integers(settings["vocab_size"], size=(2, 20))
    expected = hugging_face.logits(theirs, ids)
    assert np.ptp(expected) > 1, "such logits would agree by chance"
    ours = from_pretrained(folder).eval()
    agree(ours(ids).data, expected)

    back = hugging_face.read(save_pretrained(ours, tmp_path / "back"))
    agree(hugging_face.logits(back, ids), expected)
    twice = from_pretrained(tmp_path / "back").eval()
    agree(twice(ids).data, expected)


@pytest.mark.parametrize(
    "places",
    [
        {"rope_theta": 50.0},
        {"rope_theta": 50.0, "rope_scaling": None},
        {"rope_theta": 50.0, "rope_scaling": {"rope_type": "default"}},
        {"rope_theta": 50.0, "rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_theta": 50.0, "rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 50.0}},
    ],
    ids=str,
)
def test_the_base_of_rotary_positions_in_every_place(places, hugging_face, tmp_path, rng):
    settings = {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}
    theirs = hugging_face.make("Llama", **settings)
    folder, ids = hugging_face.save(theirs, tmp_path), rng.integers(65, size=(1, 30))
    config = json.loads((folder / "config.json").read_text())
    for name in ("rope_theta", "rope_parameters", "rope_scaling"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps({**config, **places}))
    model = from_pretrained(folder).eval()
    assert model.config.rope_theta == 50.0
    agree(model(ids).data, hugging_face.logits(theirs, ids))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("family", "settings"), [MODELS[0], MODELS[7]], ids=["GPT2", "Llama"])
def test_halves_are_read_exactly(family, settings, dtype, hugging_face, tmp_path, rng):
    import torch

    theirs = hugging_face.make(family, **settings).to(getattr(torch, dtype))
    folder = hugging_face.save(theirs, tmp_path)
    ours, theirs = from_pretrained(folder).eval(), hugging_face.read(folder)
    assert {p.dtype for p in ours.parameters()} == {np.dtype(np.float32)}
    ids = rng.integers(65, size=(2, 12))
    agree(ours(ids).data, hugging_face.logits(theirs, ids))


@pytest.mark.parametrize(("family", "settings"), [MODELS[4], MODELS[7]], ids=["GPT2", "Llama"])
def test_shards_and_the_body_alone(family, settings, hugging_face, tmp_path, rng):
    theirs, ids = hugging_face.make(family, **settings), rng.integers(65, size=(2, 12))
    sharded = hugging_face.save(theirs, tmp_path / "shards", max_shard_size="8KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2 and list(sharded.glob("*.index.json"))
    agree(from_pretrained(sharded).eval()(ids).data, hugging_face.logits(theirs, ids))


def test_gpt2_models_in_practice_are_stored_without_their_prefix(hugging_face, tmp_path, rng):
    """As openai-community/gpt2 is: no `transformer.`, no head, and buffers that nobody needs."""
    theirs, ids = hugging_face.make("GPT2", **GPT2), rng.integers(65, size=(1, 9))
    path = hugging_face.save(theirs, tmp_path) / "model.safetensors"
    arrays = {name[len("transformer.") :]: array for name, array in load_weights(path).items()}
    assert "wte.weight" in arrays and "lm_head.weight" not in arrays
    for layer in range(2):
        arrays[f"h.{layer}.attn.bias"] = np.ones((1, 1, 32, 32), bool)
        arrays[f"h.{layer}.attn.masked_bias"] = np.float32(-1e4)
    save_weights(path, arrays)
    agree(from_pretrained(tmp_path).eval()(ids).data, hugging_face.logits(theirs, ids))


def test_models_trained_here_open_there(small_gpt, hugging_face, tmp_path, rng):
    ids = rng.integers(11, size=(2, 12))
    for options in ({}, {"llama": True}, {"tied": False, "activation": "relu", "hidden": 12},
                    {"llama": True, "n_head": 4, "n_kv_head": 1, "head_dim": 6, "tied": True},
                    {"llama": True, "bias": True, "rope_theta": 77.0}):  # fmt: skip
        ours = small_gpt(**options)
        theirs = hugging_face.read(save_pretrained(ours, tmp_path / str(len(str(options)))))
        agree(ours(ids).data, hugging_face.logits(theirs, ids))
