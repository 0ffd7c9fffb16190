"""The MLP that fuses: two nodes where chapter 3 has seven, and nobody who looks in notices.

Hooks, dropout, normalisation and layers with a forward of their own are all honoured.
"""

from __future__ import annotations

import numpy as np
import pytest

import chapter_03_neural_nets as chapter_03
import chapter_05_gradient_mastery as chapter_05
from utils import Tensor


@pytest.mark.parametrize("place", ["1", "2", "3", "4"])
def test_hooks_see_every_layer_of_an_mlp(place, rng):
    model, plain = chapter_05.MLP([4, 6, 5, 3]), chapter_03.MLP([4, 6, 5, 3])
    plain.load_state_dict(model.state_dict())
    x = rng.normal(size=(5, 4)).astype(np.float32)
    seen = {"ours": [], "theirs": []}
    for who, network in (("ours", model), ("theirs", plain)):
        module = dict(network.named_modules())[place]
        module.register_forward_pre_hook(lambda m, args, who=who: seen[who].append(args[0].data))
        module.register_forward_hook(lambda m, args, y, who=who: seen[who].append(y.data))
        module.register_full_backward_pre_hook(lambda m, g, who=who: seen[who].append(g[0]))
        network(x).sum().backward()
    assert len(seen["ours"]) == 3, "a hook on a layer is called, fused or not"
    for a, b in zip(seen["ours"], seen["theirs"]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_hook_may_replace_the_output_and_be_removed(rng):
    model = chapter_05.MLP([4, 6, 3])
    x = rng.normal(size=(5, 4)).astype(np.float32)
    before = model(x).data
    handle = model[1].register_forward_hook(lambda module, args, y: y * 0)
    np.testing.assert_allclose(model(x).data, np.tile(model[3].bias.data, (5, 1)), rtol=1e-6)
    handle.remove()
    np.testing.assert_array_equal(model(x).data, before)
    kinds = {node.operation.name for node in nodes(model(x))}
    assert "linear_activation" in kinds, "without hooks the two are one node again"


def nodes(y):
    waiting = [y.node]
    while waiting:
        node = waiting.pop()
        if node is not None and node.parents:
            yield node
            waiting += node.parents


def test_an_mlp_runs_two_nodes_where_chapter_3_runs_seven(rng):
    x = rng.normal(size=(5, 4)).astype(np.float32)
    assert [n.operation.name for n in nodes(chapter_05.MLP([4, 6, 3])(x))] == [
        "linear", "linear_activation",
    ]  # fmt: skip


def test_dropout_between_layers_is_honoured(rng):
    ours, theirs = (
        c.MLP([4, 50, 3], dropout=0.5, rng=np.random.default_rng(0))
        for c in (chapter_05, chapter_03)
    )
    x = rng.normal(size=(8, 4)).astype(np.float32)
    assert (ours(x).data != ours(x).data).any()
    np.testing.assert_allclose(ours.eval()(x).data, theirs.eval()(x).data, rtol=1e-5, atol=1e-6)


def test_a_subclass_of_linear_keeps_its_own_forward(rng):
    class Doubled(chapter_05.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = chapter_05.MLP([4, 6, 3], linear=Doubled)
    x = Tensor(rng.normal(size=(5, 4)).astype(np.float32))
    expected = model[3](model[2](model[1](x)))
    np.testing.assert_allclose(model(x).data, expected.data, rtol=1e-5, atol=1e-6)


def test_a_subclass_of_an_activation_keeps_its_own_forward(rng):
    class Capped(chapter_03.ReLU):
        def forward(self, x):
            return np.minimum(super().forward(x), 0.1)

    model = chapter_05.MLP([4, 6, 3], activation=Capped)
    x = Tensor(rng.normal(size=(5, 4)).astype(np.float32))
    expected = model[3](model[2](model[1](x)))
    np.testing.assert_allclose(model(x).data, expected.data, rtol=1e-5, atol=1e-6)


def test_layers_of_chapter_3_may_stand_in_an_mlp(rng):
    model = chapter_05.MLP([4, 6, 3], linear=chapter_03.Linear)
    assert model(rng.normal(size=(5, 4)).astype(np.float32)).shape == (5, 3)
