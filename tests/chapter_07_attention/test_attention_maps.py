"""What every head looked at, and a model that is as it was afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_07_attention import (
    MultiheadAttention,
    Transformer,
    attend,
    attention_maps,
    recorded_attention,
)
from utils import Tensor

IDS = np.array([[1, 5, 7, 2, 10, 3], [4, 4, 4, 0, 1, 2]])
OPTIONS = [{}, {"llama": True, "n_head": 4, "n_kv_head": 2}, {"window": 2}, {"positions": "alibi"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_row_is_shares_of_what_may_be_seen(options, small_gpt):
    model = small_gpt(**options)
    maps = attention_maps(model, IDS)
    assert list(maps) == ["layers.0.self_attn", "layers.1.self_attn"], "in the order of the layers"
    for shares in maps.values():
        assert type(shares) is np.ndarray
        assert shares.shape == (2, model.config.n_head, 6, 6)
        np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
        assert (np.triu(shares, 1) == 0).all(), "nobody looks ahead"
        if options.get("window"):
            assert (np.tril(shares, -2) == 0).all()


def test_shares_times_values_are_what_attention_said(rng):
    layer = MultiheadAttention(8, 2, bias=False).astype(np.float64)
    x = rng.normal(size=(2, 5, 8))
    (shares,) = attention_maps(layer, Tensor(x)).values()
    values = (x @ layer.in_proj_weight.data[16:].T).reshape(2, 5, 2, 4).swapaxes(1, 2)
    joined = (shares @ values).swapaxes(1, 2).reshape(2, 5, 8)
    np.testing.assert_allclose(joined @ layer.out_proj.weight.data.T, layer(Tensor(x)).data)


def test_looking_does_not_change_what_is_said(small_gpt):
    model = small_gpt(llama=True, n_head=4, n_kv_head=2)
    before = model(IDS).data
    with recorded_attention(model) as found:
        np.testing.assert_array_equal(model(IDS).data, before)
        assert len(found) == 2
    np.testing.assert_array_equal(model(IDS).data, before)


def test_the_model_is_as_it_was(small_gpt):
    model = small_gpt(dropout=0.5)
    model.layers[0].eval()
    modes = [m.training for m in model.modules()]
    first = attention_maps(model, IDS)
    for name, shares in attention_maps(model, IDS).items():
        np.testing.assert_array_equal(shares, first[name], "dropout is off while it is looked at")
    assert [m.training for m in model.modules()] == modes
    assert all(layer.self_attn.attend is attend for layer in model.layers)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("make", [attention_maps, None], ids=["maps", "recorded"])
def test_also_after_an_exception(make, small_gpt):
    model = small_gpt()
    own = lambda *args, **options: attend(*args, **options)
    model.layers[1].self_attn.attend = own
    with pytest.raises(ValueError, match="tokens|stop"):
        if make is None:
            with recorded_attention(model):
                raise ValueError("stop")
        make(model, np.zeros((1, 100), int))
    assert model.layers[0].self_attn.attend is attend
    assert model.layers[1].self_attn.attend is own, "each attention gets its own back"
    assert all(m.training for m in model.modules())


def test_gradients_still_flow_while_it_is_recorded(small_gpt):
    model = small_gpt()
    with recorded_attention(model) as found:
        model(IDS).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(type(shares) is np.ndarray for shares in found.values())


def test_reading_and_writing_have_their_own_names():
    model = Transformer(12, 8, 2, 1, rng=np.random.default_rng(0))
    source = np.array([[3, 4, 5, 6, 0]])
    maps = attention_maps(model, source, np.array([[1, 2, 3]]))
    shapes = {name: shares.shape for name, shares in maps.items()}
    assert shapes == {
        "encoder.0.self_attn": (1, 2, 5, 5),
        "decoder.0.self_attn": (1, 2, 3, 3),
        "decoder.0.multihead_attn": (1, 2, 3, 5),
    }
    assert (maps["decoder.0.multihead_attn"][..., 4] == 0).all(), "padding is not looked at"
