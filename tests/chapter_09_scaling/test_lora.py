"""LoRA: small matrices beside frozen ones, and back into them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from torch_twins import NO_TORCH, near

from chapter_03_neural_nets import SGD, Sequential, count_parameters, cross_entropy
from chapter_05_gradient_mastery import AdamW, Linear
from chapter_07_attention import GPT, GPTConfig, LlamaConfig, MultiheadAttention
from chapter_09_scaling.long_gpt import LongGPT
from chapter_09_scaling.lora import (
    LoRAAttention,
    LoRALinear,
    add_lora,
    lora_parameters,
    lora_state_dict,
    merge_lora,
)
from utils import Tensor, check_gradients

SIZES = {"vocab_size": 11, "block_size": 12, "n_layer": 2, "n_head": 4, "n_embd": 8}
IDS = np.random.default_rng(3).integers(11, size=(2, 12))
ALL = ("in_proj", "out_proj", "linear1", "linear2", "head")


def gpt(kind=GPT, config=GPTConfig, **options):
    model = kind(config(**SIZES, **options), rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data += rng.normal(size=p.shape) * 0.3
    return model


def stirred(model):
    """Adapters that have learnt something."""
    rng = np.random.default_rng(2)
    for p in lora_parameters(model):
        p.data[...] = rng.normal(size=p.shape) * 0.3
    return model


def test_by_hand():
    layer = LoRALinear(2, 1, rank=1, alpha=3.0)
    layer.weight.data[...], layer.bias.data[...] = [[1, 2]], [10]
    layer.lora_A.data[...], layer.lora_B.data[...] = [[1, -1]], [[2]]
    y = layer(Tensor(np.array([[5, 3]], np.float32)))
    assert y.data.item() == 5 + 6 + 10 + 3 * 2 * (5 - 3), "W x + b + (alpha / rank) B A x"
    np.testing.assert_array_equal(layer.increase(), [[6, -6]])


def test_it_begins_as_the_layer_it_is_beside(rng):
    layer = LoRALinear(6, 4, rank=2)
    x = Tensor(rng.normal(size=(3, 6)).astype(np.float32))
    expected = x.data @ layer.weight.data.T + layer.bias.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-6)
    assert (layer.lora_B.data == 0).all() and (layer.lora_A.data != 0).all()


def test_gradients_by_central_differences(rng):
    layer = LoRALinear(4, 3, rank=2).astype(np.float64)
    x, a, b = rng.normal(size=(5, 4)), rng.normal(size=(2, 4)), rng.normal(size=(3, 2))

    del layer.lora_A, layer.lora_B  # so that Tensors may take their places

    def run(x, a, b):
        layer.lora_A, layer.lora_B = a, b
        return layer(x)

    check_gradients(run, [x, a, b])


def test_beside_pytorch(rng):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    layer = LoRALinear(6, 4, rank=3, alpha=6.0)
    layer.lora_B.data[...] = rng.normal(size=(4, 3))
    x = rng.normal(size=(2, 5, 6)).astype(np.float32)
    y = layer(Tensor(x))
    y.backward(np.ones_like(y.data))
    w, bias, a, b = (torch.tensor(p.data) for p in layer.parameters())
    a.requires_grad, b.requires_grad = True, True
    theirs = torch.nn.functional.linear(torch.tensor(x), w + 2 * b @ a, bias)
    theirs.sum().backward()
    near(y.data, theirs, "the value")
    near(layer.lora_A.grad, a.grad, "the gradient of A")
    near(layer.lora_B.grad, b.grad, "the gradient of B")


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_attention_adapts_queries_keys_and_values_each(kv_heads, rng):
    layer = LoRAAttention(8, 4, num_kv_heads=kv_heads, rank=2)
    stirred(layer)
    x = Tensor(rng.normal(size=(2, 5, 8)).astype(np.float32))
    memory = Tensor(rng.normal(size=(2, 3, 8)).astype(np.float32))
    plain = MultiheadAttention(8, 4, num_kv_heads=kv_heads)
    state = {k: v.copy() for k, v in layer.state_dict().items() if "lora" not in k}
    state["in_proj_weight"] += layer.increase()
    plain.load_state_dict(state)
    for args in [(x,), (x, memory)]:
        np.testing.assert_allclose(layer(*args).data, plain(*args).data, atol=1e-5)
    queries = layer.increase()[:8]
    np.testing.assert_allclose(
        queries, 8 * layer.lora_B.data[:8] @ layer.lora_A.data[:2], rtol=1e-5,
        err_msg="queries have the first `rank` rows of A to themselves",
    )  # fmt: skip


MODELS = {
    "gpt": functools.partial(gpt, tied=False),
    "llama": functools.partial(gpt, config=LlamaConfig, n_kv_head=2, head_dim=4),
    "long": functools.partial(gpt, kind=LongGPT, tied=False),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_in_and_out_again(make):
    model = make()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    logits = model(IDS).data
    assert add_lora(model, rank=2, targets=ALL) is model
    np.testing.assert_allclose(model(IDS).data, logits, atol=1e-6, err_msg="B begins at 0")
    kept = [name for name in model.state_dict() if "lora" not in name]
    assert kept == list(before), "names of frozen weights stay"
    stirred(model)
    adapted = model(IDS).data
    assert np.abs(adapted - logits).max() > 0.1
    for name, array in before.items():
        np.testing.assert_array_equal(model.state_dict()[name], array, "frozen weights changed")
    assert merge_lora(model) is model
    np.testing.assert_allclose(model(IDS).data, adapted, atol=1e-5 * np.abs(adapted).max())
    assert list(model.state_dict()) == list(before)
    assert all(p.requires_grad for p in model.parameters())
    classes = {type(module).__name__ for module in model.modules()}
    assert not classes & {"LoRALinear", "LoRAAttention"}, "a plain model is left"


def test_only_adapters_get_gradients_and_moments():
    model = add_lora(gpt(), rank=2)
    whole = count_parameters(model)
    trained = count_parameters(model, trainable_only=True)
    width, hidden = 8, 32
    layer = 3 * 2 * width + 3 * width * 2 + 2 * 2 * width + 2 * 2 * (width + hidden)
    assert trained == 2 * layer and trained < whole
    before = {name: array.copy() for name, array in model.state_dict().items()}
    optimizer = AdamW(lora_parameters(model), lr=0.01)
    for _ in range(2):  # A moves once B is no longer 0
        optimizer.zero_grad()
        cross_entropy(model(IDS), IDS).backward()
        optimizer.step()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == ("lora" in name), name
        assert np.array_equal(p.data, before[name]) == ("lora" not in name), name
    state = optimizer.state_dict()
    moments = sum(a.size for name, a in state.items() if name.endswith(("exp_avg", "exp_avg_sq")))
    assert moments == 2 * trained


def test_adapters_are_saved_alone():
    model, other = (add_lora(gpt(), rank=2) for _ in range(2))
    stirred(model)
    adapter = lora_state_dict(model)
    assert all("lora" in name for name in adapter)
    assert sum(a.size for a in adapter.values()) == count_parameters(model, trainable_only=True)
    found = other.load_state_dict(adapter, strict=False)
    assert not found.unexpected_keys
    np.testing.assert_array_equal(other(IDS).data, model(IDS).data)


def test_it_learns_what_a_matrix_of_rank_one_lacks(rng):
    layer = LoRALinear(5, 4, bias=False, rank=1, alpha=1.0, rng=rng)
    x = rng.normal(size=(200, 5)).astype(np.float32)
    u, v = rng.normal(size=(2, 4, 1)), rng.normal(size=(2, 1, 5))
    wanted = x @ (layer.weight.data + u[0] @ v[0]).T.astype(np.float32)
    optimizer = SGD(lora_parameters(layer), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = ((layer(Tensor(x)) - wanted) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-4
    np.testing.assert_allclose(layer.increase(), u[0] @ v[0], atol=0.05)


def test_layers_swapped_in_when_a_model_is_built():
    parts = {"linear": LoRALinear, "attention": LoRAAttention}
    parts = {name: functools.partial(part, rank=2) for name, part in parts.items()}
    model = GPT(GPTConfig(**SIZES, tied=False), **parts)
    names = {name for name in lora_state_dict(model) if name.startswith("layers.0.")}
    assert len(names) == 8 and "head.lora_A" in lora_state_dict(model)
    merge_lora(model)
    assert GPT(model.config).load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": True}, "rank"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": 0}, "alpha"),
        ({"targets": ["linear3"]}, "linear3"),
        ({"targets": []}, "targets"),
        ({"targets": ["linear1", "head"]}, "tied"),
    ],
)
def test_what_cannot_be_adapted_is_named_and_nothing_is_changed(options, said):
    model = gpt()
    names = list(model.state_dict())
    with pytest.raises(ValueError, match=said):
        add_lora(model, **options)
    assert list(model.state_dict()) == names, "half of the model was changed"
    assert all(p.requires_grad for p in model.parameters()), "the model was frozen"


def test_adapters_are_added_once_and_merged_once():
    model = add_lora(gpt())
    with pytest.raises(ValueError, match="already"):
        add_lora(model)
    merge_lora(model)
    with pytest.raises(ValueError, match="no adapters"):
        merge_lora(model)
    assert add_lora(Sequential(Linear(3, 2), Linear(2, 3)), targets=["0"]) is not None


def test_it_says_what_it_is():
    assert "rank=2, alpha=16" in repr(LoRALinear(3, 4, rank=2))
    assert "rank=8" in repr(LoRAAttention(8, 2))
