"""Decoders in files: what comes back, how large it is there, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chapter_02_text_generation import CharacterTokenizer
from chapter_07_attention import (
    GPT,
    GPTConfig,
    LlamaConfig,
    from_pretrained,
    load_tokenizer,
    save_pretrained,
)
from chapter_10_production.decoder import Decoder
from chapter_10_production.quantization import quantized
from chapter_10_production.quantized_files import load_decoder, save_decoder
from utils.weights import load_weights, read_header, save_weights

SIZES = {"vocab_size": 11, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 32}
IDS = np.random.default_rng(0).integers(11, size=(2, 12))


def model(config=GPTConfig, **options):
    return GPT(config(**SIZES, **options), rng=np.random.default_rng(0)).eval()


def decoder(config=GPTConfig, **options):
    return Decoder.from_model(model(config, **options))


FORMS = {
    "float32": lambda whole: whole,
    "8 bits": lambda whole: quantized(whole, 8),
    "4 bits": lambda whole: quantized(whole, 4),
    "4 bits in groups of 20": lambda whole: quantized(whole, 4, 20),
    "8 and 4 bits": lambda whole: quantized(whole, 4, 16, {"embedding": 8, "out_proj": 8}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "config, options", [(GPTConfig, {}), (GPTConfig, {"tied": False}), (LlamaConfig, {})]
)
def test_what_was_saved_comes_back(form, config, options, tmp_path):
    saved = FORMS[form](decoder(config, **options))
    found = load_decoder(save_decoder(saved, tmp_path / "model"))
    assert found.config == GPTConfig(**vars(saved.config)) and found.nbytes == saved.nbytes
    np.testing.assert_array_equal(found.logits(IDS), saved.logits(IDS))
    for name, weight in saved.weights.items():
        assert type(found.weights[name]) is type(weight), name
    assert (found.head is found.embedding) == saved.config.tied


def test_some_matrices_may_stay_floats(tmp_path):
    whole = decoder()
    small = quantized(whole, 8)
    name = "layers.0.linear1.weight"
    mixed = Decoder(whole.config, {**small.weights, name: whole.weights[name]})
    found = load_decoder(save_decoder(mixed, tmp_path))
    np.testing.assert_array_equal(found.logits(IDS), mixed.logits(IDS))


@pytest.mark.parametrize("bits", [8, 4])
def test_codes_are_codes_in_the_file(bits, tmp_path):
    small = quantized(decoder(), bits)
    path = save_decoder(small, tmp_path) / "model.safetensors"
    entries = read_header(path).entries
    assert entries["layers.0.linear1.weight.codes"].dtype == ("I8" if bits == 8 else "U8")
    assert sum(e.end - e.begin for e in entries.values()) == small.nbytes
    assert "head.weight.codes" not in entries, "a tied head is the embedding"
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["quantization"]["bits"] == bits


def test_float_folders_are_read_as_before(tmp_path):
    for name, config in (("gpt2", GPTConfig), ("llama", LlamaConfig)):
        save_pretrained(model(config), tmp_path / name)
        expected = from_pretrained(tmp_path / name)(IDS).data
        logits = load_decoder(tmp_path / name).logits(IDS)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    save_decoder(decoder(), tmp_path / "own")
    np.testing.assert_allclose(
        from_pretrained(tmp_path / "own")(IDS).data, decoder().logits(IDS), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(FileNotFoundError, match="no model"):
        load_decoder(tmp_path / "nowhere")


def test_the_tokenizer_goes_along(tmp_path):
    tokenizer = CharacterTokenizer.train("hello world")
    save_decoder(quantized(decoder(), 8), tmp_path, tokenizer)
    assert load_tokenizer(tmp_path).encode("hello") == tokenizer.encode("hello")
    save_decoder(quantized(decoder(), 8), tmp_path)
    assert load_tokenizer(tmp_path) is None, "that of the model that was there before is gone"


def test_a_quantised_folder_is_no_float_one(tmp_path):
    save_decoder(quantized(decoder(), 8), tmp_path)
    with pytest.raises(ValueError, match=r"embedding.weight is missing"):
        from_pretrained(tmp_path)


def with_arrays(change):
    def spoil(folder):
        arrays = load_weights(folder / "model.safetensors")
        change(arrays)
        save_weights(folder / "model.safetensors", arrays)

    return spoil


def with_settings(**changes):
    def spoil(folder):
        settings = json.loads((folder / "config.json").read_text())
        for name, value in changes.items():
            settings[name] = value
        (folder / "config.json").write_text(json.dumps(settings))

    return spoil


def put(name, value):
    return with_arrays(lambda arrays: arrays.__setitem__(name, value(arrays[name])))


def fill(name, value):
    return with_arrays(lambda arrays: arrays[name].reshape(-1).__setitem__(0, value))


UP, NORM = "layers.1.linear1.weight", "norm.weight"
DAMAGES = {
    "an array less": (with_arrays(lambda a: a.pop(f"{UP}.scales")), f"{UP}.scales is missing"),
    "an array more": (
        with_arrays(lambda a: a.update(other=np.ones(3))), "other is not expected",
    ),
    "another shape": (put(f"{UP}.codes", lambda a: a[:, :-1]), f"{UP}.codes is uint8"),
    "another dtype": (put(f"{UP}.scales", lambda a: a.astype(np.float32)), "float32.* is needed"),
    "codes of 8 bits": (put(f"{UP}.codes", lambda a: a.view(np.int8)), "int8.* where uint8"),
    "scales that are no numbers": (fill(f"{UP}.scales", np.nan), f"{UP}.scales holds"),
    "scales below 0": (fill(f"{UP}.scales", -1), "below 0"),
    "vectors that are no numbers": (fill(NORM, np.inf), f"{NORM} holds"),
    "factors too large": (fill(f"{UP}.factors", 19), "not from 0 to 18"),
    "factors below 0": (fill(f"{UP}.factors", -1), "not from 0 to 18"),
    "the code -8 below": (fill(f"{UP}.codes", 0x10), "code -8"),
    "the code -8 above": (fill(f"{UP}.codes", 0x81), "code -8"),
    "other bits": (with_settings(quantization={"bits": 8}), "is not expected"),
    "unknown bits": (with_settings(quantization={"bits": 3}), "bits are one of"),
    "bits that are none": (with_settings(quantization={"bits": True}), "bits are one of"),
    "no bits": (with_settings(quantization={}), "holds bits"),
    "no entry": (with_settings(quantization=4), "holds bits"),
    "unknown words": (with_settings(quantization={"bits": 4, "a": 1}), "holds bits"),
    "odd groups": (with_settings(quantization={"bits": 4, "group_size": 7}), "even"),
    "other groups": (with_settings(quantization={"bits": 4, "group_size": 16}), "is needed"),
    "groups of a text": (with_settings(quantization={"bits": 4, "group_size": "9"}), "even"),
    "unknown exceptions": (
        with_settings(quantization={"bits": 4, "exceptions": {"layers.7.x": 8}}), "layers.7.x",
    ),
    "exceptions of another kind": (
        with_settings(quantization={"bits": 4, "exceptions": [1]}), "bits by name",
    ),
    "another family": (with_settings(model_type="gpt2"), "'gpt2'"),
    "layers beyond count": (with_settings(n_layer=10**9), "cannot make"),
    "sizes that do not fit": (with_settings(n_embd=33), "n_embd|is needed"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused_by_name(damage, tmp_path):
    spoil, message = DAMAGES[damage]
    save_decoder(quantized(decoder(), 4), tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_decoder(tmp_path)
    assert str(tmp_path) in str(error.value), "the message names the folder or its file"
    assert "\n" not in str(error.value)


def test_damage_of_8_bits(tmp_path):
    save_decoder(quantized(decoder(), 8), tmp_path)
    fill(f"{UP}.codes", -128)(tmp_path)
    with pytest.raises(ValueError, match="code -128"):
        load_decoder(tmp_path)


def test_half_a_file_is_refused(tmp_path):
    save_decoder(quantized(decoder(), 4), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        load_decoder(tmp_path)


def test_one_size_of_groups_a_file(tmp_path):
    whole = decoder()
    small, other = quantized(whole, 4, 32), quantized(whole, 4, 16)
    name = "layers.0.linear1.weight"
    mixed = Decoder(whole.config, {**small.weights, name: other.weights[name]})
    with pytest.raises(ValueError, match="16, 32"):
        save_decoder(mixed, tmp_path / "model")
    assert not (tmp_path / "model").exists()
