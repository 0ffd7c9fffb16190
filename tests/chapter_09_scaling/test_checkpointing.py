"""A checkpoint changes what is remembered, and nothing else."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from chapter_03_neural_nets import Parameter
from chapter_05_gradient_mastery import MLP, BatchNorm1d, Dropout, Linear, cross_entropy, in_threads
from chapter_07_attention import GPT, GPTConfig, TransformerEncoderLayer
from chapter_09_scaling.checkpointing import checkpoint, checkpointed
from utils import Tensor, check_gradients, detect_anomaly, grad, manual_seed, no_grad
from utils.seeding import generator

CONFIG = GPTConfig(vocab_size=11, block_size=8, n_layer=3, n_head=2, n_embd=8)


def gpt(layer=TransformerEncoderLayer, dropout=0.0, dtype=np.float32, **options):
    manual_seed(0)
    return GPT(GPTConfig(11, 8, 3, 2, 8, dropout=dropout), layer=layer, **options).astype(dtype)


def texts(rows=4):
    rng = np.random.default_rng(1)
    return rng.integers(11, size=(rows, 8)), rng.integers(11, size=(rows, 8))


def loss_of(model, ids, targets):
    return cross_entropy(model(ids), targets)


def step(model, seed=2, loss=loss_of):
    """The loss of a step, and the gradient of every parameter by name."""
    manual_seed(seed)
    model.zero_grad()
    value = loss(model, *texts())
    value.backward()
    return value.item(), {name: p.grad for name, p in model.named_parameters()}


def same(found, expected, why):
    assert found[0] == expected[0], f"{why}: the loss is {found[0]}, not {expected[0]}"
    for name, g in expected[1].items():
        assert np.array_equal(found[1][name], g), f"{why}: the gradient of {name} is another"


def test_a_value_by_hand():
    """y = (a x)^2 at x = 3, a = 2: dy/dx = 2 a^2 x = 24, dy/da = 2 a x^2 = 36."""
    x, a = Tensor([3.0], requires_grad=True), Tensor([2.0], requires_grad=True)
    runs = []

    def function(x):
        runs.append(x.requires_grad)
        return (a * x) ** 2

    y = checkpoint(function, x, parameters=[a])
    assert y.item() == 36 and runs == [False], "forward runs once, without a graph"
    y.backward()
    assert (x.grad.item(), a.grad.item()) == (24, 36)
    assert runs == [False, True], "backward runs the function once more, with a graph"


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_by_central_differences(order, rng):
    def function(x, w, b):
        return checkpoint(lambda x, w, b: np.tanh(x @ w + b), x * 2, w, b)

    shapes = [(2, 3), (3, 2), (2,)]
    check_gradients(function, [rng.normal(size=s) for s in shapes], order=order, tolerance=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_what_is_enclosed(order, rng):
    x = Tensor(rng.normal(size=(2, 3)))

    def function(w):
        return checkpoint(lambda x: np.tanh(x @ w) @ w.T, x, parameters=[w])

    check_gradients(function, [rng.normal(size=(3, 3))], order=order, tolerance=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_gpt_learns_the_same_bit_for_bit(dropout):
    expected = step(gpt(dropout=dropout))
    found = step(gpt(checkpointed(TransformerEncoderLayer), dropout))
    same(found, expected, "with checkpoints")


def test_a_generator_of_the_layers_own_is_set_back_too():
    def made(layer):
        rng = np.random.default_rng(5)
        model = gpt(layer, dropout=0.3, rng=rng)
        return step(model), rng.random()

    (expected, stood), (found, stands) = (
        made(layer) for layer in (TransformerEncoderLayer, checkpointed(TransformerEncoderLayer))
    )
    same(found, expected, "with an rng of its own")
    assert stands == stood, "after backward a generator stands where forward left it"


def test_backward_leaves_the_default_generator_alone():
    manual_seed(3)
    y = checkpoint(Dropout(0.5), Tensor(np.ones((4, 4)), requires_grad=True))
    before = generator().bit_generator.state
    np.sum(y).backward()
    assert generator().bit_generator.state == before


def test_retained_graph_draws_the_same_a_second_time():
    x = Tensor(np.ones((6, 6)), requires_grad=True)
    y = checkpoint(Dropout(0.5), x)
    first, again = (grad(np.sum(y), [x])[0].data for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, y.data), "the gradient passes where the value did"


def test_same_names_so_weights_pass_either_way():
    plain, frugal = gpt(), gpt(checkpointed(TransformerEncoderLayer))
    assert list(plain.state_dict()) == list(frugal.state_dict())
    frugal.load_state_dict(plain.state_dict())
    assert type(frugal.layers[0]).__name__ == "CheckpointedTransformerEncoderLayer"


def test_nested():
    def twice(layer):
        return checkpointed(checkpointed(layer))

    same(step(gpt(twice(TransformerEncoderLayer), 0.3)), step(gpt(dropout=0.3)), "nested")


def test_in_two_threads_at_once():
    expected = step(gpt(dropout=0.3), loss=in_threads(loss_of))
    found = step(gpt(checkpointed(TransformerEncoderLayer), 0.3), loss=in_threads(loss_of))
    same(found, expected, "in two threads")


def test_without_gradients_nothing_is_kept():
    layer = Linear(3, 2)
    with no_grad():
        y = checkpoint(layer, Tensor(np.ones((1, 3), np.float32)), parameters=layer.parameters())
    assert y.node is None
    layer.requires_grad_(False)
    assert checkpoint(layer, Tensor(np.ones((1, 3), np.float32))).node is None


def test_grad_touches_no_leaf_and_asks_for_what_it_wants_only(rng):
    model, expected = gpt(checkpointed(TransformerEncoderLayer)), gpt()
    names, params = zip(*model.named_parameters())
    found = grad(loss_of(model, *texts()), params[2:5])
    wanted = grad(loss_of(expected, *texts()), list(expected.parameters())[2:5])
    for name, a, b in zip(names[2:5], found, wanted):
        assert np.array_equal(a.data, b.data), f"grad with respect to {name}"
    assert all(p.grad is None for p in params), "grad must leave .grad alone"


def test_the_output_itself_may_be_what_is_asked_for(rng):
    x = Tensor(rng.normal(size=3), requires_grad=True)
    y = checkpoint(np.tanh, x)
    np.testing.assert_array_equal(grad(np.sum(y * y), [y])[0].data, 2 * y.data)


def test_hooks_of_leaves_are_called_when_a_gradient_is_complete():
    model, seen = gpt(checkpointed(TransformerEncoderLayer)), []
    for name, p in model.named_parameters():
        p.register_hook(lambda g, name=name: seen.append(name))
    step(model)
    assert sorted(seen) == sorted(name for name, _ in model.named_parameters())
    order = [int(name.split(".")[1]) for name in seen if name.startswith("layers")]
    assert order == sorted(order, reverse=True), "the last layer's gradients come first"


def test_parameters_are_read_when_backward_asks():
    """The arrays of the parameters may be freed, and come back, between the two runs (ZeRO-3)."""
    layer = Linear(3, 3)
    whole = {p: p.data for p in layer.parameters()}
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    expected = grad(np.sum(layer(x)), [x, layer.weight])

    gathered_arrays = []

    def gathered(x):
        for p, array in whole.items():
            p.data = array.copy()
            gathered_arrays.append(weakref.ref(p.data))
        y = layer(x)
        for p in whole:
            p.data = np.broadcast_to(np.float32(np.nan), p.shape)  # its shape, no memory
        return y

    y = checkpoint(gathered, x, parameters=whole)
    assert len(gathered_arrays) == 2 and not any(
        array() is not None for array in gathered_arrays
    ), "after forward nobody may hold the gathered arrays: not the node, not what it encloses"
    for found, right in zip(grad(np.sum(y), [x, layer.weight]), expected):
        assert np.array_equal(found.data, right.data), "the second run must gather afresh"


def test_a_parameter_changed_in_between_is_used_as_it_is_now():
    w = Parameter(np.array([2.0]))
    x = Tensor(np.array([3.0]), requires_grad=True)
    y = checkpoint(lambda x: w * x, x, parameters=[w])
    w.data = np.array([5.0])
    assert grad(y, [x])[0].item() == 5


def test_an_input_given_twice_and_a_parameter_given_twice(rng):
    x = Tensor(rng.normal(size=3), requires_grad=True)
    y = checkpoint(lambda a, b: a * b * x, x, x, parameters=[x, x])
    np.testing.assert_allclose(grad(np.sum(y), [x])[0].data, 3 * x.data**2, rtol=1e-12)


def test_memory_is_half_or_less():
    """Four layers of 64: what is held between forward and backward, and the most at any time."""

    def memory(layer):
        model = GPT(GPTConfig(11, 64, 4, 4, 64), layer=layer)
        rng = np.random.default_rng(0)
        ids, targets = rng.integers(11, size=(2, 8, 64))
        loss_of(model, ids, targets)  # what is made once, such as the mask
        tracemalloc.start()
        try:
            loss = loss_of(model, ids, targets)
            held = tracemalloc.get_traced_memory()[0]
            loss.backward()
            return held, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    plain, frugal = memory(TransformerEncoderLayer), memory(checkpointed(TransformerEncoderLayer))
    for what, a, b in zip(("held after forward", "most at any time"), frugal, plain):
        assert a <= b / 2, f"{what}: {a:,} bytes with checkpoints, {b:,} without"


def test_no_cycles_are_left():
    model = gpt(checkpointed(TransformerEncoderLayer))
    step(model)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(5):
            step(model)
        assert len(gc.get_objects()) - before < 20, "a graph must vanish without the collector"
    finally:
        gc.enable()


def test_an_anomaly_is_named_in_the_first_run():
    w = Parameter(np.array([0.0]))
    with np.errstate(all="ignore"), detect_anomaly():
        with pytest.raises(FloatingPointError, match="log made an infinity"):
            checkpoint(lambda x: np.log(x * w), Tensor([1.0]), parameters=[w])
        y = checkpoint(lambda x: np.sqrt(x * w), Tensor([1.0]), parameters=[w])
        with pytest.raises(FloatingPointError, match="gradient of sqrt"):
            y.backward()


def test_an_anomaly_in_what_is_kept():
    x = Tensor(np.ones(2), requires_grad=True)
    with detect_anomaly():
        y = checkpoint(np.tanh, x)
        x.data[0] = 5
        with pytest.raises(RuntimeError, match="gradient of checkpoint.*changed in place"):
            np.sum(y).backward()


def test_a_leaf_that_is_not_given_is_an_error_not_a_lost_gradient():
    w, x = Parameter(np.ones(3)), Tensor(np.ones(3), requires_grad=True)
    y = checkpoint(lambda x: w * x, x)
    with pytest.raises(RuntimeError, match=r"shape \(3,\).*parameters="):
        np.sum(y).backward()


def test_a_computed_parameter_is_refused():
    w = Parameter(np.ones(3)) * 2
    with pytest.raises(ValueError, match="make it an input"):
        checkpoint(lambda x: w * x, Tensor(np.ones(3)), parameters=[w])


def test_one_tensor_comes_out():
    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(TypeError, match="one Tensor, not tuple"):
        checkpoint(lambda x: (x, x), x)


def test_tensors_by_keyword_are_refused():
    layer = checkpointed(TransformerEncoderLayer)(8, 2, 8, 0.0)
    x = Tensor(np.ones((1, 2, 8), np.float32))
    with pytest.raises(TypeError, match="mask by position"):
        layer(x, mask=x)


def test_batch_normalisation_would_count_twice():
    model = checkpointed(MLP)([3, 4, 2], normalization=BatchNorm1d)
    x = Tensor(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="count each batch twice"):
        model(x)
    np.sum(model.eval()(x)).backward()
