"""Which parameters decay, and which are matrices between hidden layers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import AdamW, Embedding, Linear, Sequential, Tanh
from chapter_04_training_dynamics import BatchNorm2d, LayerNorm
from chapter_06_hierarchical import Conv2d
from chapter_07_attention import GPT, GPTConfig
from chapter_08_optimization import Combined, Muon, hidden_matrices, weight_decay_groups


def gpt(**options):
    sizes = {"vocab_size": 11, "block_size": 6, "n_layer": 2, "n_head": 2, "n_embd": 8}
    return GPT(GPTConfig(**{**sizes, **options}), rng=np.random.default_rng(0))


def names(model, params):
    found = {id(p): name for name, p in model.named_parameters()}
    return {found[id(p)] for p in params}


def test_matrices_and_kernels_decay_and_nothing_else_does():
    model = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), Linear(3, 4), LayerNorm(4), Embedding(5, 4))
    groups = weight_decay_groups(model, 0.1)
    decaying = {n for g in groups if g["weight_decay"] for n in names(model, g["params"])}
    assert decaying == {"0.weight", "2.weight", "4.weight"}
    assert {g["weight_decay"] for g in groups} == {0.0, 0.1}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_every_parameter_of_a_gpt_is_in_one_group(tied, bias):
    model = gpt(tied=tied, bias=bias)
    groups = weight_decay_groups(model, 0.1)
    given = [id(p) for group in groups for p in group["params"]]
    assert len(set(given)) == len(given), "a tied matrix is one parameter"
    assert set(given) == {id(p) for p in model.parameters()}
    for group in groups:
        for name in names(model, group["params"]):
            norm_or_bias = "norm" in name or name.endswith("bias")
            assert (group["weight_decay"] == 0) == norm_or_bias, name
    AdamW(groups, lr=1e-3)


def test_a_group_of_nothing_is_left_out_and_a_bad_decay_refused():
    model = Sequential(Linear(2, 3, bias=False), Tanh())
    assert len(weight_decay_groups(model, 0.1)) == 1
    for bad in (-0.1, math.nan):
        with pytest.raises(ValueError, match=f"weight_decay .*{bad}"):
            AdamW(weight_decay_groups(model, bad))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "none"])
@pytest.mark.parametrize("tied", [True, False])
def test_hidden_matrices_of_a_gpt(tied, positions):
    model = gpt(tied=tied, positions=positions)
    found = hidden_matrices(model, model.head)
    own = (
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    )
    expected = {f"layers.{i}.{name}" for i in range(2) for name in own}
    extra, missing = set(found) - expected, expected - set(found)
    assert not extra, f"{extra}: embeddings (of places, too) and the head are no hidden matrices"
    assert not missing
    parameters = dict(model.named_parameters())
    assert all(parameters[name] is p for name, p in found.items())


def test_a_tied_head_needs_no_mention():
    model = gpt(positions="none")
    assert set(hidden_matrices(model)) == set(hidden_matrices(model, model.head))


def test_kernels_and_a_given_head_are_left_out():
    model = Sequential(Conv2d(1, 2, 3), Linear(2, 3), Tanh(), Linear(3, 4))
    assert list(hidden_matrices(model, model[3])) == ["1.weight"]
    assert list(hidden_matrices(model)) == ["1.weight", "3.weight"]


def test_they_and_the_rest_make_one_optimiser():
    model = gpt()
    hidden = hidden_matrices(model)
    rest = [p for name, p in model.named_parameters() if name not in hidden]
    optimizer = Combined([Muon(hidden.values(), lr=0.02), AdamW(rest, lr=0.01)])
    assert len(optimizer.parameters()) == len(list(model.parameters()))
    ids = np.random.default_rng(0).integers(11, size=(4, 6))
    before = model(ids).data
    np.sum(model(ids) * model(ids)).backward()
    optimizer.step()
    assert not np.allclose(model(ids).data, before)
