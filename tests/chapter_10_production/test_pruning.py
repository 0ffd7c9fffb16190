"""Weights that become zero and stay so; parts that are taken out."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Sequential
from chapter_05_gradient_mastery import AdamW, Linear, cross_entropy
from chapter_07_attention import GPT, GPTConfig, LlamaConfig, fit, text_corpus
from chapter_10_production.pruning import Masked, prune_, with_zeros, without_zeros
from chapter_10_production.structured_pruning import (
    Parts,
    importance,
    mask_,
    most_important,
    shrunk,
)

SIZES = {"vocab_size": 11, "block_size": 12, "n_layer": 2, "n_head": 4, "n_embd": 16}
IDS = np.random.default_rng(0).integers(11, size=(3, 12))


def gpt(config=GPTConfig, **options):
    model = GPT(config(**{**SIZES, **options}), rng=np.random.default_rng(0)).eval()
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data += 0.3 * rng.normal(size=p.shape).astype(np.float32)
    return model


def test_magnitudes_by_hand():
    model = Sequential(Linear(2, 2), Linear(2, 2))
    model[0].weight.data[...] = [[0.1, -5], [4, 0.3]]
    model[1].weight.data[...] = [[-0.2, 0.4], [3, 2]]
    masks = prune_(model, 0.5)
    assert model[0].weight.data.tolist() == pytest.approx(np.array([[0, -5], [4, 0]]))
    assert model[1].weight.data.tolist() == pytest.approx(np.array([[0, 0], [3, 2]]))
    np.testing.assert_array_equal(masks["1.weight"], [[False, False], [True, True]])


def test_a_threshold_for_all_or_for_each():
    model = gpt()
    model.layers[0].linear1.weight.data *= 0.01
    everywhere = prune_(model, 0.25)
    assert everywhere["layers.0.linear1.weight"].mean() < 0.1, "small weights go first"
    total = np.concatenate([mask.ravel() for mask in everywhere.values()])
    assert total.mean() == pytest.approx(0.75, abs=1e-3)
    for name, mask in prune_(gpt(), 0.25, "layer").items():
        assert mask.mean() == pytest.approx(0.75, abs=1e-2), name
    names = (
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    )
    assert set(everywhere) == {f"layers.{i}.{name}" for i in range(2) for name in names}


def test_equal_weights_are_pruned_to_the_share():
    model = Sequential(Linear(10, 10))
    model[0].weight.data[...] = 1
    prune_(model, 0.3)
    assert (model[0].weight.data == 0).sum() == 30


def test_pruning_goes_on_from_what_is_zero():
    model = gpt()
    first, second = prune_(model, 0.3), prune_(model, 0.6)
    assert all((second[name] <= first[name]).all() for name in first), "zeros stay zeros"


def test_zeros_stay_zero_while_the_rest_learns():
    corpus = text_corpus("the quick brown fox jumps over the lazy dog. " * 20, 12)
    model = GPT(GPTConfig(corpus.tokenizer.vocab_size, 12, 2, 4, 16), rng=np.random.default_rng(0))
    masks = prune_(model, 0.5)
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    optimizer = Masked(AdamW(model.parameters(), 1e-2, weight_decay=0.1), model, masks)
    history = fit(model, corpus, 30, optimizer=optimizer, judged=1)
    assert history.losses[-1] < history.losses[0]
    for name, p in model.named_parameters():
        if name in masks:
            assert (p.data[~masks[name]] == 0).all(), f"{name}: a pruned weight has come back"
        assert (p.data != before[name]).any(), f"{name} has not learnt"


def test_without_a_mask_they_come_back():
    model = gpt()
    masks = prune_(model, 0.5)
    optimizer = SGD(model.parameters(), 0.1)
    cross_entropy(model(IDS), IDS).backward()
    optimizer.step()
    name = "layers.0.linear2.weight"
    assert (dict(model.named_parameters())[name].data[~masks[name]] != 0).any()


def test_files_leave_zeros_out():
    arrays = {
        "w": np.zeros((5, 7), np.float32),
        "b": np.zeros(7, np.float32),
        "full": np.ones((2, 2)),
    }
    arrays["w"][1, 3], arrays["w"][4, 6] = 2, -3
    small = without_zeros(arrays)
    assert {n: a.nbytes for n, a in small.items() if n.startswith("w.")} == {
        "w.kept": 5, "w.values": 8
    }  # fmt: skip
    found = with_zeros(small, {name: array.shape for name, array in arrays.items()})
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, np.nan, True])
def test_shares_that_are_none(share):
    with pytest.raises(ValueError, match="share"):
        prune_(gpt(), share)


def test_other_refusals():
    with pytest.raises(ValueError, match="scope"):
        prune_(gpt(), 0.5, "model")
    with pytest.raises(ValueError, match="no matrices"):
        model = gpt()
        prune_(model.embedding, 0.5)
    with pytest.raises(ValueError, match="other.weight"):
        model = gpt()
        Masked(SGD(model.parameters(), 0.1), model, {"other.weight": np.ones(2, bool)})


FAMILIES = {
    "GPT-2": (GPTConfig, {}),
    "without biases": (GPTConfig, {"bias": False}),
    "shared keys": (GPTConfig, {"n_kv_head": 2}),
    "Llama": (LlamaConfig, {"n_kv_head": 2}),
    "wide heads": (LlamaConfig, {"head_dim": 6, "hidden": 10}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_cut_out_was_silent(family):
    config, options = FAMILIES[family]
    model = gpt(config, **options)
    scores = importance(model, [(IDS[:1], IDS[1:2]), (IDS[1:], IDS[:2])])
    kept = most_important(scores, 1, 7)
    small = shrunk(model, kept)
    assert small.config.hidden == 7 and small.config.head_dim == model.config.head_dim
    assert small.config.n_head == model.config.n_head // model.config.n_kv_head
    whole = model(IDS).data.copy()
    masked = mask_(model, kept)(IDS).data
    assert np.abs(masked - whole).max() > 1e-3, "the mask does something"
    np.testing.assert_allclose(small(IDS).data, masked, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["GPT-2", "Llama"])
def test_importance_is_the_gradient_of_a_factor(family):
    """By central differences: each part's columns are scaled a little up and a little down."""
    config, options = FAMILIES[family]
    model = gpt(config, **options).astype(np.float64)
    batches = [(IDS[:1], IDS[1:2]), (IDS[1:2], IDS[:1])]
    scores = importance(model, batches)
    size, step = model.config.n_head * model.config.head_dim // model.config.n_kv_head, 1e-5
    part = model.layers[1].self_attn.out_proj.weight.data[:, :size]  # of the first heads
    unit = model.layers[0].linear2.weight.data[:, 3:4]
    for columns, found in ((part, scores.heads[1][0]), (unit, scores.units[0][3])):
        kept, slopes = columns.copy(), []
        for ids, targets in batches:
            losses = []
            for factor in (1 + step, 1 - step):
                columns[...] = factor * kept
                losses.append(cross_entropy(model(ids), targets).item())
            columns[...] = kept
            slopes.append(abs(losses[0] - losses[1]) / (2 * step))
        assert found == pytest.approx(np.mean(slopes), rel=1e-5), "the mean of |dL / dxi|"


def test_a_silent_part_matters_least():
    model = gpt()
    model.layers[0].linear2.weight.data[:, 5] = 0
    model.layers[1].self_attn.out_proj.weight.data[:, 4:8] = 0  # the second head
    scores = importance(model, [(IDS, IDS)])
    assert scores.units[0].argmin() == 5 and scores.heads[1].argmin() == 1
    kept = most_important(scores, 3, 63)
    assert 5 not in kept.units[0] and 1 not in kept.heads[1]
    assert all((np.diff(part) > 0).all() for part in (*kept.heads, *kept.units)), "in their order"
    small = shrunk(model, Parts([np.arange(4), np.arange(4)], [np.arange(64), np.arange(64)]))
    np.testing.assert_array_equal(small(IDS).data, model(IDS).data)


def test_importance_leaves_no_trace():
    model = gpt(dropout=0.5).train()
    importance(model, [(IDS, IDS)])
    assert model.training and all(p.grad is None for p in model.parameters())


def test_refusals_of_structure():
    model = gpt()
    with pytest.raises(ValueError, match="at least one batch"):
        importance(model, [])
    scores = importance(model, [(IDS, IDS)])
    with pytest.raises(ValueError, match="5 heads cannot be kept of 4"):
        most_important(scores, 5, 8)
    with pytest.raises(ValueError, match="units"):
        most_important(scores, 4, 0)
    uneven = Parts([np.arange(2), np.arange(3)], [np.arange(4), np.arange(4)])
    with pytest.raises(ValueError, match="equally many"):
        shrunk(model, uneven)
    with pytest.raises(ValueError, match="ALiBi"):
        shrunk(gpt(positions="alibi"), most_important(scores, 2, 8))
