"""Checkpoints on disk without Hugging Face's library: round trips, shards, prefixes, tokenizers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chapter_02_text_generation import BPETokenizer, CharacterTokenizer
from chapter_05_gradient_mastery import Linear
from chapter_07_attention import GPT, from_pretrained, load_tokenizer, save_pretrained
from chapter_07_attention.config import POSITIONS, shapes_of
from utils.weights import load_weights, save_weights

IDS = np.array([[1, 5, 7, 2, 10, 3]])
OPTIONS = [
    {},
    {"tied": False, "activation": "relu", "hidden": 20},
    {"activation": "gelu"},
    {"activation": "silu", "dropout": 0.25},
    {"llama": True},
    {"llama": True, "n_head": 4, "n_kv_head": 2, "head_dim": 6},
    {"llama": True, "tied": True, "bias": True, "rope_theta": 123.0},
    *({"positions": name} for name in POSITIONS if name != "learned"),
    {"window": 3},
    {"bias": False},
    {"n_kv_head": 1},
    {"head_dim": 6},
    {"norm": "rms"},
    {"norm": "rms", "bias": True, "positions": "rotary"},
    {"activation": "swiglu"},
    {"llama": True, "activation": "gelu_tanh"},
    {"llama": True, "window": 2},
    {"llama": True, "norm": "layer"},
]
PREFIXES = {"gpt2": "transformer.", "llama": "model."}


def settings_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_what_was_saved_is_read_back(options, small_gpt, tmp_path):
    model = small_gpt(**options)
    folder = save_pretrained(model, tmp_path / "new" / "model")
    again = from_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert vars(again.config) == vars(model.config)
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(state[name], array, name)
    np.testing.assert_array_equal(again.eval()(IDS).data, model.eval()(IDS).data)
    assert (again.head.weight is again.embedding.weight) == model.config.tied


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_shapes_are_known_before_there_is_a_model(options, small_gpt):
    model = small_gpt(**options)
    found = {name: array.shape for name, array in model.state_dict().items()}
    assert shapes_of(model.config) == found


def test_dropout_is_part_of_every_model(small_gpt, tmp_path):
    """Whoever trains on with what was saved expects the same dropout."""
    for number, options in enumerate([{}, {"llama": True}, {"window": 3}]):
        folder = save_pretrained(small_gpt(dropout=0.25, **options), tmp_path / str(number))
        kind = settings_of(folder)["model_type"]
        assert from_pretrained(folder).config.dropout == 0.25, f"a {kind} folder loses dropout"


@pytest.mark.parametrize(
    ("options", "family"),
    [
        ({}, "gpt2"),
        ({"llama": True}, "llama"),
        ({"positions": "alibi"}, "first-principles"),
        ({"llama": True, "window": 2}, "first-principles"),
        ({"activation": "swiglu"}, "first-principles"),
    ],
    ids=str,
)
def test_the_family_follows_from_the_choices(options, family, small_gpt, tmp_path):
    assert settings_of(save_pretrained(small_gpt(**options), tmp_path))["model_type"] == family


def test_names_and_layouts_are_hugging_faces(gpt2_folder, llama_folder):
    gpt2, llama = (load_weights(f / "model.safetensors") for f in (gpt2_folder, llama_folder))
    assert gpt2["transformer.h.1.attn.c_attn.weight"].shape == (8, 24), "stored (in, out)"
    assert gpt2["transformer.wpe.weight"].shape == (12, 8)
    assert not any(name.startswith("lm_head") for name in gpt2), "a tied head is stored once"
    assert llama["model.layers.0.self_attn.q_proj.weight"].shape == (8, 8)
    assert llama["model.layers.0.self_attn.k_proj.weight"].shape == (4, 8)
    assert llama["model.layers.1.mlp.gate_proj.weight"].shape == (24, 8)
    assert llama["lm_head.weight"].shape == (11, 8)


@pytest.fixture(params=["gpt2", "llama"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


def prefix_of(folder):
    return PREFIXES[settings_of(folder)["model_type"]]


def test_shards_are_read_as_one_file(folder):
    expected = from_pretrained(folder).eval()(IDS).data
    arrays = load_weights(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{i % 3 + 1}-of-00003.safetensors" for i, name in enumerate(arrays)}
    for shard in set(places.values()):
        part = {name: array for name, array in arrays.items() if places[name] == shard}
        save_weights(folder / shard, part)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(from_pretrained(folder).eval()(IDS).data, expected)


def test_with_and_without_the_prefix(folder):
    expected = from_pretrained(folder).eval()(IDS).data
    path, prefix = folder / "model.safetensors", prefix_of(folder)
    arrays = load_weights(path)
    assert any(name.startswith(prefix) for name in arrays)
    bare = {n[len(prefix) :] if n.startswith(prefix) else n: a for n, a in arrays.items()}
    save_weights(path, bare)
    np.testing.assert_array_equal(from_pretrained(folder).eval()(IDS).data, expected)


@pytest.mark.parametrize("kind", ["float16", "float64", "bfloat16"])
def test_weights_become_float32(kind, folder):
    path = folder / "model.safetensors"
    arrays = load_weights(path)
    if kind == "bfloat16":
        save_weights(path, arrays, bfloat16=list(arrays))
    else:
        save_weights(path, {name: a.astype(kind) for name, a in arrays.items()})
    model = from_pretrained(folder)
    assert {p.dtype.name for p in model.parameters()} == {"float32"}
    # float16 keeps eleven binary digits, bfloat16 eight.
    vectors = next(array for name, array in arrays.items() if "embed" in name or "wte" in name)
    np.testing.assert_allclose(model.embedding.weight.data, vectors, rtol=2**-8)


def test_a_tied_head_that_is_stored_as_well_is_the_embedding(gpt2_folder):
    path = gpt2_folder / "model.safetensors"
    arrays = load_weights(path)
    save_weights(path, {**arrays, "lm_head.weight": arrays["transformer.wte.weight"]})
    model = from_pretrained(gpt2_folder)
    assert model.head.weight is model.embedding.weight


def test_options_go_to_the_model(gpt2_folder):
    seen = []

    def linear(*args, **options):
        seen.append(args)
        return Linear(*args, **options)

    model = from_pretrained(gpt2_folder, linear=linear)
    assert type(model) is GPT and (8, 11) in seen


def test_saving_again_replaces_the_whole_model(small_gpt, tmp_path):
    save_pretrained(small_gpt(llama=True), tmp_path)
    model = small_gpt(n_layer=1)
    assert save_pretrained(model, tmp_path) == tmp_path
    np.testing.assert_array_equal(from_pretrained(tmp_path)(IDS).data, model(IDS).data)


# Tokenizers.


def test_tokenizers_of_ours_come_back(small_gpt, tmp_path):
    characters = CharacterTokenizer.train("hello world", ["\n"])
    pairs = BPETokenizer.train("hello hello world " * 5, 260, ["<|endoftext|>"])
    for number, tokenizer in enumerate([characters, pairs]):
        folder = save_pretrained(small_gpt(), tmp_path / str(number), tokenizer)
        found = load_tokenizer(folder)
        assert type(found) is type(tokenizer)
        assert found.encode("hello") == tokenizer.encode("hello")
        assert found.special_tokens == tokenizer.special_tokens


def test_gpt2s_tokenizer_beside_its_weights(reference_data, gpt2_folder):
    source = reference_data / "gpt2"
    for theirs, name in {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}.items():
        (gpt2_folder / name).write_bytes((source / theirs).read_bytes())
    assert load_tokenizer(gpt2_folder).encode("Hello world") == [15496, 995]
    assert load_tokenizer(source).encode("Hello world") == [15496, 995]


def test_no_tokenizer_is_none_and_a_bad_one_an_error(gpt2_folder):
    assert load_tokenizer(gpt2_folder) is None
    for content in ('{"tokenizer": "Unheard"}', "[]", "no json", '{"tokenizer": 3}'):
        (gpt2_folder / "book_tokenizer.json").write_text(content)
        with pytest.raises(ValueError, match="book_tokenizer.json"):
            load_tokenizer(gpt2_folder)
