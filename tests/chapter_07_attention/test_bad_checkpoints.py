"""Folders that are no checkpoint: an error that names the file, and the thing in it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from chapter_07_attention import from_pretrained, save_pretrained
from utils.weights import load_weights, save_weights

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def refused(folder, *said, error=ValueError):
    """A one-line error of this kind that says all of these."""
    with pytest.raises(error) as caught:
        from_pretrained(folder)
    message = str(caught.value)
    assert "\n" not in message, f"an error message is one line, yours is {message!r}"
    assert str(folder) in message, f"the message should name the folder, yours is {message!r}"
    message = message.replace(str(folder), "FOLDER")  # whose name has words of the test's in it
    for part in said:
        options = part if isinstance(part, tuple) else (part,)
        if not [option for option in options if str(option) in message]:
            wanted = " or ".join(map(str, options))
            pytest.fail(f"the message should name {wanted}; yours is {message!r}")


def edit(folder, **changes):
    settings = {**json.loads((folder / CONFIG).read_text()), **changes}
    settings = {name: value for name, value in settings.items() if value is not ...}
    (folder / CONFIG).write_text(json.dumps(settings))


@pytest.fixture(params=["gpt2", "llama"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


# Files.


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "nowhere", error=OSError)


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "model").write_text("{}")
    refused(tmp_path / "model", error=OSError)


def test_missing_files(folder):
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    refused(folder, WEIGHTS, error=FileNotFoundError)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    refused(folder, WEIGHTS, ".bin", error=FileNotFoundError)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CONFIG).unlink()
    refused(folder, CONFIG, error=FileNotFoundError)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe{}", b"[" * 100_000],
    ids=["empty", "open", "list", "null", "not UTF-8", "deep"],
)
def test_a_configuration_that_is_no_json_object(content, folder):
    (folder / CONFIG).write_bytes(content)
    refused(folder, CONFIG)


@pytest.mark.parametrize("kept", [0, 7, 30, -1])
def test_truncated_weights(kept, folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:kept])
    refused(folder, WEIGHTS)


def header_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def lie_about_the_shape(header):
    name = max(header, key=lambda n: header[n].get("data_offsets", [0, 0])[1])
    header[name]["shape"][0] += 1


def lie_about_the_place(header):
    name = max(header, key=lambda n: header[n].get("data_offsets", [0, 0])[1])
    header[name]["data_offsets"][1] += 4_000_000_000_000


def lie_about_the_dtype(header):
    name = next(n for n in header if n != "__metadata__")
    header[name]["dtype"] = "Q4"


@pytest.mark.parametrize("lie", [lie_about_the_shape, lie_about_the_place, lie_about_the_dtype])
def test_a_header_that_lies(lie, folder):
    header, data = header_of((folder / WEIGHTS).read_bytes())
    lie(header)
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data)
    refused(folder, WEIGHTS)


def test_a_header_longer_than_the_file(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes((2**40).to_bytes(8, "little") + content[8:])
    refused(folder, WEIGHTS)


# Shards.


def shard(folder, places):
    arrays = load_weights(folder / WEIGHTS)
    (folder / WEIGHTS).rename(folder / "one.safetensors")
    index = {"weight_map": places(list(arrays))}
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "place",
    ["../one.safetensors", "/etc/passwd", "sub/one.safetensors", "..", "", 3, None, ["x"]],
    ids=str,
)
def test_an_index_that_names_no_file_of_the_folder(place, folder):
    outside = folder.parent / "one.safetensors"
    outside.write_bytes((folder / WEIGHTS).read_bytes())
    shard(folder, lambda names: dict.fromkeys(names, place))
    refused(folder, INDEX)


def test_a_shard_that_is_not_there(folder):
    shard(folder, lambda names: {n: f"{'two' if i else 'one'}.safetensors"
                                 for i, n in enumerate(names)})  # fmt: skip
    refused(folder, "two.safetensors", error=FileNotFoundError)


def test_a_shard_without_an_array_that_the_index_promises(folder):
    shard(folder, lambda names: dict.fromkeys([*names, "extra.weight"], "one.safetensors"))
    refused(folder, INDEX, "extra.weight")


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', "{", '{"weight_map": 3}'])
def test_an_index_that_is_none(content, folder):
    shard(folder, lambda names: {})
    (folder / INDEX).write_text(content)
    refused(folder, INDEX)


# Arrays.


def change_arrays(folder, change):
    arrays = load_weights(folder / WEIGHTS)
    change(arrays)
    save_weights(folder / WEIGHTS, arrays)


def test_every_array_is_needed(folder):
    original = load_weights(folder / WEIGHTS)
    for name in original:
        save_weights(folder / WEIGHTS, {n: a for n, a in original.items() if n != name})
        refused(folder, name)


def test_biases_that_were_promised_are_needed_too(llama_folder):
    """A model whose keys lost their bias would run, and say something else."""
    edit(llama_folder, attention_bias=True)
    arrays = load_weights(llama_folder / WEIGHTS)
    for layer in range(2):
        for part, size in {"q": 8, "k": 4, "v": 4, "o": 8}.items():
            name = f"model.layers.{layer}.self_attn.{part}_proj.bias"
            arrays[name] = np.ones(size, np.float32)
    save_weights(llama_folder / WEIGHTS, arrays)
    assert (from_pretrained(llama_folder).layers[0].self_attn.in_proj_bias.data == 1).all()
    lost = "model.layers.1.self_attn.k_proj.bias"
    change_arrays(llama_folder, lambda arrays: arrays.pop(lost))
    refused(llama_folder, lost)


def test_every_shape_is_compared(folder):
    original = load_weights(folder / WEIGHTS)
    for name, array in original.items():
        save_weights(folder / WEIGHTS, {**original, name: np.concatenate([array, array])})
        refused(folder, name, str(array.shape), str((2 * len(array), *array.shape[1:])))


def test_a_square_of_fewer_numbers_and_a_flat_one(folder):
    name = next(iter(load_weights(folder / WEIGHTS)))
    change_arrays(folder, lambda arrays: arrays.update({name: arrays[name].ravel()[:1]}))
    refused(folder, name, "(1,)")


def test_arrays_that_nobody_asked_for(folder):
    change_arrays(folder, lambda a: a.update({"surplus.weight": np.zeros(3, np.float32)}))
    refused(folder, "surplus.weight")


def test_many_problems_are_still_one_readable_line(folder):
    save_weights(folder / WEIGHTS, {f"x{i}": np.zeros(1) for i in range(500)})
    with pytest.raises(ValueError) as caught:
        from_pretrained(folder)
    assert len(str(caught.value)) < 600 and "more" in str(caught.value)


# Settings.

SETTINGS = {
    "gpt2": {"vocab_size": "vocab_size", "n_positions": "block_size", "n_layer": "n_layer",
             "n_head": "n_head", "n_embd": "n_embd", "n_inner": "hidden"},
    "llama": {"vocab_size": "vocab_size", "max_position_embeddings": "block_size",
              "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
              "hidden_size": "n_embd", "intermediate_size": "hidden",
              "num_key_value_heads": "n_kv_head", "head_dim": "head_dim"},
}  # fmt: skip
SIZES = [(family, theirs, ours) for family, t in SETTINGS.items() for theirs, ours in t.items()]
OPTIONAL = {"n_inner", "num_key_value_heads", "head_dim"}


@pytest.mark.parametrize(("family", "theirs", "ours"), SIZES)
@pytest.mark.parametrize("value", ["8", -8, 0, math.nan, None, [8], True], ids=str)
def test_sizes_that_are_none_are_named(family, theirs, ours, value, request):
    if value is None and theirs in OPTIONAL:
        return
    folder = request.getfixturevalue(f"{family}_folder")
    edit(folder, **{theirs: value})
    refused(folder, CONFIG, (theirs, ours))


@pytest.mark.parametrize(("family", "theirs", "ours"), SIZES)
def test_sizes_that_are_missing_are_named(family, theirs, ours, request):
    folder = request.getfixturevalue(f"{family}_folder")
    edit(folder, **{theirs: ...})
    if theirs not in OPTIONAL:
        refused(folder, CONFIG, theirs)


NUMBERS = [("gpt2", "layer_norm_epsilon"), ("gpt2", "resid_pdrop"), ("llama", "rms_norm_eps")]
OURS = {"layer_norm_epsilon": "norm_eps", "rms_norm_eps": "norm_eps", "resid_pdrop": "dropout"}


@pytest.mark.parametrize(("family", "theirs"), NUMBERS)
@pytest.mark.parametrize("value", ["0.1", -0.1, math.nan, math.inf, None, [1]], ids=str)
def test_numbers_that_are_none_are_named(family, theirs, value, request):
    folder = request.getfixturevalue(f"{family}_folder")
    edit(folder, **{theirs: value})
    refused(folder, CONFIG, (theirs, OURS[theirs]))


@pytest.mark.parametrize("value", ["50", -1, 0, math.nan, None, [1]], ids=str)
@pytest.mark.parametrize("place", ["outside", "inside"])
def test_bases_of_rotary_positions_that_are_none(place, value, llama_folder):
    rope = {"rope_theta": value}
    edit(llama_folder, rope_theta=..., rope_parameters=...)
    edit(llama_folder, **(rope if place == "outside" else {"rope_parameters": rope}))
    refused(llama_folder, CONFIG, "rope_theta")


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "llama3", "factor": 8.0},
        {"type": "dynamic", "factor": 2.0},
        {"rope_type": "yarn"},
        {"rope_type": 3},
        [1, 2],
        "linear",
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["rope_parameters", "rope_scaling"])
def test_other_rotary_positions_are_not_taken_for_the_usual(place, rope, llama_folder):
    edit(llama_folder, rope_parameters=...)
    edit(llama_folder, **{place: rope})
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else "rope"
    refused(llama_folder, CONFIG, kind)


@pytest.mark.parametrize("kind", ["bert", "", None, 3, ["gpt2"], ...], ids=str)
def test_unknown_architectures(kind, folder):
    edit(folder, model_type=kind)
    refused(folder, CONFIG, "model_type", "gpt2", "llama")


@pytest.mark.parametrize("value", ["sine", None, 3, ["gelu"]], ids=str)
def test_unknown_activations(value, gpt2_folder, llama_folder):
    edit(gpt2_folder, activation_function=value)
    refused(gpt2_folder, CONFIG, "activation_function", value)
    edit(llama_folder, hidden_act=value)
    refused(llama_folder, CONFIG, "hidden_act", value)


@pytest.mark.parametrize("value", ["false", 2, [0]], ids=str)
def test_switches_that_are_neither_true_nor_false(value, gpt2_folder, llama_folder):
    """A text such as "false" is true in Python, as every text but the empty one is."""
    for folder, name in [(gpt2_folder, "tie_word_embeddings"), (llama_folder, "attention_bias"),
                         (llama_folder, "tie_word_embeddings")]:  # fmt: skip
        original = (folder / CONFIG).read_text()
        edit(folder, **{name: value})
        refused(folder, CONFIG, name)
        (folder / CONFIG).write_text(original)


@pytest.mark.parametrize(
    "change",
    [
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"add_cross_attention": True},
    ],
    ids=str,
)
def test_what_would_change_the_numbers_is_not_overlooked(change, gpt2_folder):
    edit(gpt2_folder, **change)
    refused(gpt2_folder, CONFIG, *change)


def test_heads_that_do_not_divide(gpt2_folder, llama_folder):
    edit(gpt2_folder, n_head=3)
    refused(gpt2_folder, CONFIG, "n_head=3", "n_embd=8")
    edit(llama_folder, num_key_value_heads=3)
    refused(llama_folder, CONFIG, "4 heads", "3")


def test_a_configuration_far_larger_than_its_weights_is_refused_before_it_is_built(folder):
    """Names and shapes are compared before memory is asked for."""
    edit(folder, vocab_size=10**13)
    refused(folder, ("embed_tokens", "wte", "vocab_size"))


def test_more_layers_than_arrays_are_refused_at_once(folder):
    edit(folder, n_layer=10**12, num_hidden_layers=10**12)
    refused(folder, "arrays", str(10**12))


def test_both_switches_of_llama_are_looked_at(llama_folder):
    edit(llama_folder, attention_bias=True, mlp_bias="false")
    refused(llama_folder, CONFIG, "mlp_bias")


def test_our_own_settings(small_gpt, tmp_path):
    save_pretrained(small_gpt(window=3), tmp_path)
    for change, name in [({"positions": "absolute"}, "positions"), ({"norm": 3}, "norm"),
                         ({"window": "3"}, "window"), ({"n_layer": ...}, "n_layer"),
                         ({"bias": "no"}, "bias"), ({"activation": []}, "activation")]:  # fmt: skip
        original = (tmp_path / CONFIG).read_text()
        edit(tmp_path, **change)
        refused(tmp_path, CONFIG, name)
        (tmp_path / CONFIG).write_text(original)
