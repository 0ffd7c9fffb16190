"""GPT: what may reach which logits, its choices, its parts, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import count_parameters
from chapter_05_gradient_mastery import Linear, cross_entropy
from chapter_07_attention import GPT, GPTConfig, LlamaConfig, TransformerEncoderLayer
from chapter_07_attention.config import POSITIONS
from utils import check_gradients, grad

SIZES = {"vocab_size": 11, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 8}
FAMILIES = [
    {},
    {"llama": True, "n_head": 4, "n_kv_head": 2},
    *({"positions": name} for name in POSITIONS[1:]),
    {"window": 3},
    {"bias": False, "activation": "relu"},
]


def ids_of(rng, batch=2, time=9):
    return rng.integers(11, size=(batch, time))


@pytest.mark.parametrize("options", FAMILIES, ids=str)
def test_what_comes_later_changes_nothing_before_it(options, small_gpt, rng):
    model, ids = small_gpt(**options), ids_of(rng)
    logits = model(ids).data
    assert logits.shape == (2, 9, 11) and logits.dtype == np.float32
    for place in (1, 4, 8):
        changed = ids.copy()
        changed[:, place] = (changed[:, place] + 1) % 11
        others = model(changed).data
        np.testing.assert_allclose(
            others[:, :place], logits[:, :place], atol=1e-6,
            err_msg=f"token {place} was seen by places before it: the mask lets the future through",
        )  # fmt: skip
        assert np.abs(others[:, place] - logits[:, place]).max() > 1e-3, "but it counts from there"


@pytest.mark.parametrize("options", FAMILIES, ids=str)
def test_a_shorter_text_has_the_same_logits(options, small_gpt, rng):
    model, ids = small_gpt(**options), ids_of(rng)
    np.testing.assert_allclose(model(ids[:, :5]).data, model(ids).data[:, :5], atol=1e-5)


@pytest.mark.parametrize(("layers", "window"), [(1, 1), (1, 3), (2, 3), (3, 2), (2, 4)])
def test_a_window_reaches_so_far_a_layer(layers, window, small_gpt, rng):
    model, ids = small_gpt(n_layer=layers, window=window), ids_of(rng, 1, 12)
    last, reach = model(ids).data[0, -1], layers * (window - 1)
    for back in range(1, 12):
        changed = ids.copy()
        changed[0, -1 - back] = (changed[0, -1 - back] + 1) % 11
        moved = np.abs(model(changed).data[0, -1] - last).max()
        assert (moved > 1e-6) == (back <= reach), (
            f"{layers} layers with windows of {window} reach {reach} places back; the token {back} "
            f"back moves the logits by {moved}"
        )


@pytest.mark.parametrize("positions", POSITIONS)
def test_order_counts(positions, small_gpt):
    model = small_gpt(positions=positions)
    a, b = model(np.array([[1, 2, 3, 4], [2, 1, 3, 4]])).data[:, -1]
    assert np.abs(a - b).max() > 1e-4, "also without positions, by the causal mask"


def test_gradients_of_both_families(small_gpt, rng):
    ids = ids_of(rng, 2, 4)
    for options in FAMILIES[:2]:
        model = small_gpt(**options).astype(np.float64)
        names, parameters = zip(*model.named_parameters())
        found = grad(cross_entropy(model(ids[:, :-1]), ids[:, 1:]), parameters)
        for name, p, g in zip(names, parameters, found):
            place = tuple(rng.integers(p.shape))
            kept, losses = p.data[place], []
            for step in (1e-5, -1e-5):
                p.data[place] = kept + step
                losses.append(cross_entropy(model(ids[:, :-1]), ids[:, 1:]).item())
            p.data[place] = kept
            by_steps = (losses[0] - losses[1]) / 2e-5
            assert g.data[place] == pytest.approx(by_steps, rel=1e-5, abs=1e-8), name


def test_gradients_of_a_layer(rng):
    layer = TransformerEncoderLayer(4, 2, 6, 0.0, "gelu", norm_first=True).astype(np.float64)
    check_gradients(layer, [rng.normal(size=(2, 3, 4))])


# Choices.


def test_gpt2_small_has_124_million_parameters():
    config = GPTConfig(57, 1024, 1, 12, 768)
    layer, whole = 7_087_872, 124_439_808  # what Hugging Face's GPT-2 has, with 50,257 tokens
    assert count_parameters(GPT(config)) == whole - 11 * layer - 50_200 * 768


def test_what_is_not_said_follows():
    config = GPTConfig(**SIZES)
    assert (config.n_kv_head, config.head_dim, config.hidden) == (2, 4, 32)
    assert config.positions == "learned" and config.tied and config.bias and config.dropout == 0
    llama = LlamaConfig(**{**SIZES, "n_embd": 128, "n_head": 4})
    assert llama.hidden == 344, "8/3 of 128, rounded up to a multiple of 8"
    assert (llama.norm, llama.activation, llama.positions) == ("rms", "swiglu", "rotary")
    assert not llama.tied and not llama.bias


def test_a_tied_head_is_the_embedding(small_gpt):
    tied, untied = small_gpt(), small_gpt(tied=False)
    assert tied.head.weight is tied.embedding.weight
    assert count_parameters(untied) - count_parameters(tied) == 11 * 8


def test_the_first_guess_is_even():
    model = GPT(GPTConfig(**{**SIZES, "n_embd": 32}), rng=np.random.default_rng(0))
    ids = np.arange(12)[None] % 11
    assert cross_entropy(model(ids[:, :-1]), ids[:, 1:]).item() == pytest.approx(math.log(11), 0.05)
    again = GPT(GPTConfig(**{**SIZES, "n_embd": 32}), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(model(ids).data, again(ids).data, "the same seed, the same model")


def test_weights_begin_small_and_smaller_where_they_add_to_the_residual_path():
    model = GPT(GPTConfig(50, 40, 8, 2, 64), rng=np.random.default_rng(0))
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert (p.data == 0).all(), name
        elif p.ndim == 2:
            adds = name.endswith(("out_proj.weight", "linear2.weight"))
            expected = 0.02 / (16**0.5 if adds else 1)  # two parts in each of eight layers
            assert p.data.std() == pytest.approx(expected, rel=0.05), name


def test_layers_and_the_last_matrix_can_be_others():
    made = []

    class Layer(TransformerEncoderLayer):
        def __init__(self, *args, **options):
            made.append(("layer", options.pop("number")))
            super().__init__(*args, **options)

    def linear(*args, **options):
        made.append(("linear", args))
        return Linear(*args, **options)

    model = GPT(GPTConfig(**SIZES), layer=Layer, linear=linear, number=7)
    assert made.count(("layer", 7)) == 2, "options go to the layers"
    assert ("linear", (8, 11)) in made and ("linear", (8, 32)) in made
    assert model(np.array([[1, 2]])).shape == (1, 2, 11)


def test_the_next_logits_follow_from_the_last_block(small_gpt, rng):
    model, ids = small_gpt(dropout=0.5), ids_of(rng, 1, 20)[0].tolist()
    found = model.next_logits(ids)
    assert type(found) is np.ndarray and found.shape == (11,) and model.training
    np.testing.assert_allclose(found, model.eval()(np.array([ids[-12:]])).data[0, -1], atol=1e-6)


# Refusals.


@pytest.mark.parametrize("ids", [[[0, 11]], [[-1]], [[0.5]], [[True]]], ids=str)
def test_ids_that_are_no_tokens(ids, small_gpt):
    with pytest.raises(ValueError, match="0 to 10|whole numbers"):
        small_gpt()(np.array(ids))


def test_texts_that_do_not_fit(small_gpt):
    for shape in [(1, 13), (3,), (1, 2, 3)]:
        with pytest.raises(ValueError, match=f"12 tokens .*{shape[0]},".replace("(", r"\(")):
            small_gpt()(np.zeros(shape, int))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_head": 3}, "n_embd=8 .* n_head=3"),
        ({"n_head": 0}, "n_head .* 0"),
        ({"n_layer": 0}, "n_layer .* 0"),
        ({"vocab_size": -5}, "vocab_size .* -5"),
        ({"block_size": 1.5}, "block_size .* 1.5"),
        ({"n_embd": True, "n_head": 1}, "n_embd .* True"),
        ({"n_kv_head": 3, "n_head": 4}, "4 heads .* 3"),
        ({"head_dim": 0}, "head_dim .* 0"),
        ({"hidden": "32"}, "hidden .* '32'"),
        ({"window": 0}, "window .* 0"),
        ({"dropout": 1.0}, "dropout .* 1.0"),
        ({"dropout": math.nan}, "dropout .* nan"),
        ({"norm_eps": -1e-5}, "norm_eps"),
        ({"norm_eps": math.inf}, "norm_eps .* inf"),
        ({"rope_theta": math.nan}, "rope_theta .* nan"),
        ({"rope_theta": 0.0, "positions": "rotary"}, "rope_theta .* 0"),
        ({"head_dim": 3, "positions": "rotary"}, "even|head_dim"),
        ({"activation": "sine"}, "activation is one of .* 'sine'"),
        ({"positions": "absolute"}, "positions is one of .* 'absolute'"),
        ({"norm": "batch"}, "norm is one of .* 'batch'"),
    ],
    ids=str,
)
def test_choices_that_do_not_fit_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        GPTConfig(**{**SIZES, **change})
