"""Costs by formula against what is counted: parameters, products, bytes kept, and bytes sent."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from chapter_03_neural_nets import count_parameters
from chapter_05_gradient_mastery import cross_entropy
from chapter_07_attention import GPT, GPTConfig, LlamaConfig
from chapter_07_attention.layers import TransformerEncoderLayer
from chapter_09_scaling import traffic
from chapter_09_scaling.accounting import (
    FLOAT32,
    MIXED,
    activation_bytes,
    forward_flops,
    head_activation_bytes,
    layer_activation_bytes,
    layer_parameters,
    layer_products,
    model_state_bytes,
    parameters,
    training_flops,
)
from chapter_09_scaling.checkpointing import checkpointed
from utils import Tensor

CONFIGS = {
    "gpt2": GPTConfig(65, 32, 3, 4, 32),
    "gpt2, untied, no bias": GPTConfig(65, 32, 2, 4, 32, tied=False, bias=False),
    "gpt2, wide heads": GPTConfig(65, 32, 2, 3, 32, head_dim=16, hidden=50),
    "llama": LlamaConfig(65, 32, 3, 4, 32),
    "llama, grouped": LlamaConfig(65, 32, 2, 8, 32, n_kv_head=2, tied=True),
    "llama, bias": LlamaConfig(65, 32, 2, 4, 32, bias=True),
    "relu": GPTConfig(65, 32, 2, 2, 32, activation="relu", positions="sinusoidal"),
    "silu": GPTConfig(65, 32, 2, 2, 32, activation="silu", positions="none", norm="rms"),
    "gelu": GPTConfig(65, 32, 2, 2, 32, activation="gelu", positions="rotary"),
}
BATCH = 12


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def config(request):
    return request.param


@pytest.fixture
def ids(config, rng):
    return rng.integers(config.vocab_size, size=(BATCH, config.block_size))


def test_parameters_are_those_of_the_model(config):
    assert parameters(config) == count_parameters(GPT(config))


def test_gpt2_by_hand():
    config = GPTConfig(50_257, 1024, 12, 12, 768)
    # 4 C^2 of attention and 8 C^2 of the perceptron, 9 C of biases, 4 C of norms.
    assert layer_parameters(config) == 12 * 768**2 + 13 * 768 == 7_087_872
    assert parameters(config) == 124_439_808, "GPT-2 has 124 million parameters"


class Watched(np.ndarray):
    """An array that counts the multiply-adds of the matrix products it takes part in."""

    flops = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **keywords):
        plain = [np.asarray(x) if isinstance(x, Watched) else x for x in inputs]
        if out:
            keywords["out"] = tuple(np.asarray(x) for x in out)
        result = getattr(ufunc, method)(*plain, **keywords)
        # Products of vectors, by which norms add up their rows, are no matrix products.
        if ufunc is np.matmul and result.ndim > 1 and result.shape[-2:] != (1, 1):
            Watched.flops += 2 * result.size * plain[0].shape[-1]
        return out[0] if out else watched(result)

    def __array_function__(self, function, types, args, keywords):
        args = [np.asarray(x) if isinstance(x, Watched) else x for x in args]
        return watched(function(*args, **keywords))


def watched(x):
    return x.view(Watched) if type(x) is np.ndarray else x


@pytest.fixture
def count(monkeypatch):
    """The operations of all matrix products in kernels, while a function runs."""
    import utils.kernels

    alike = utils.kernels._alike
    monkeypatch.setattr(
        utils.kernels, "_alike", lambda arrays, args: [watched(a) for a in alike(arrays, args)]
    )

    def counted(function):
        Watched.flops = 0
        result = function()
        return Watched.flops, result

    return counted


def test_flops_are_those_of_the_products_that_are_made(config, ids, count):
    model = GPT(config)
    forward, loss = count(lambda: cross_entropy(model(ids), ids))
    assert forward == forward_flops(config, *ids.shape)
    backward, _ = count(loss.backward)
    assert backward == 2 * forward, "each product has two gradients, as large as it is"
    assert forward + backward == training_flops(config, *ids.shape)


def test_checkpointed_layers_run_forward_twice(count, rng):
    config = CONFIGS["llama, grouped"]
    ids = rng.integers(65, size=(2, 32))
    model = GPT(config, layer=checkpointed(TransformerEncoderLayer))
    flops, _ = count(lambda: cross_entropy(model(ids), ids).backward())
    assert flops == training_flops(config, 2, 32, checkpointing=True)


def test_training_flops_are_equation_3_of_narayanan():
    batch, s, layers, h, vocabulary = 6, 128, 5, 64, 1000
    config = GPTConfig(vocabulary, s, layers, 4, h)
    ratio = 1 + s / (6 * h) + vocabulary / (16 * layers * h)
    paper = 96 * batch * s * layers * h**2 * ratio
    assert training_flops(config, batch, s, checkpointing=True) == pytest.approx(paper, rel=1e-12)


def test_ranks_share_the_products():
    config = GPTConfig(64, 16, 2, 4, 32)
    whole, part = (sum(p.flops for p in layer_products(config, 2, 16, n)) for n in (1, 4))
    assert whole == 4 * part


def kept(model, ids) -> int:
    """Bytes that are there between forward and backward and were not before."""
    model(ids)  # tables are made once
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        loss = cross_entropy(model(ids), ids)
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        del loss


def test_activations_are_what_the_engine_keeps(config, ids):
    measured, formula = kept(GPT(config), ids), activation_bytes(config, *ids.shape)
    # Beside the arrays there are the graph's nodes, and the mask.
    assert measured == pytest.approx(formula, rel=0.02), f"{measured / formula:.3f} of the formula"


@pytest.mark.parametrize("name", ["gpt2", "llama, grouped"])
def test_checkpointed_layers_keep_their_input(name, rng):
    config = CONFIGS[name]
    ids = rng.integers(config.vocab_size, size=(BATCH, config.block_size))
    model = GPT(config, layer=checkpointed(TransformerEncoderLayer))
    formula = activation_bytes(config, *ids.shape, checkpointing=True)
    assert kept(model, ids) == pytest.approx(formula, rel=0.1)


def test_activations_by_hand():
    config = GPTConfig(10, 8, 2, 2, 4)
    places, width = 3 * 8, 4
    layer = 24 * places * width + 3 * 2 * 8**2 + (2 + 2) * places  # sums: two norms, two heads
    assert layer_activation_bytes(config, 3, 8, itemsize=1) == layer
    head = places * (3 * width + 1 + 2 * 10 + 1) + 3 * 8 * places
    assert head_activation_bytes(config, 3, 8, itemsize=1) == head
    assert activation_bytes(config, 3, 8, itemsize=1) == 2 * layer + head


def test_dropout_is_refused_where_it_would_be_left_out():
    with pytest.raises(ValueError, match="dropout"):
        activation_bytes(GPTConfig(10, 8, 2, 2, 4, dropout=0.1), 1, 8)


def test_zero_divides_what_the_paper_says():
    n = 7_500_000_000  # figure 1 of Rajbhandari et al.: 7.5 billion on 64 ranks, in GB
    for stage, gigabytes in enumerate((120, 31.4, 16.6, 1.9)):
        assert model_state_bytes(n, 64, stage, MIXED) / 1e9 == pytest.approx(gigabytes, abs=0.06)
    assert model_state_bytes(10) == 10 * (4 + 4 + 8)
    assert model_state_bytes(10, 4, 1) == 10 * 8 + 3 * 8, "the fullest rank has 3 of 10"
    assert model_state_bytes(10, 4, 3) == 3 * sum(FLOAT32)


class Counting:
    """Ranks that pass chunks around a ring, in one process, and count what they send."""

    def __init__(self, elements, itemsize, ranks):
        ends = [elements * i // ranks for i in range(ranks + 1)]
        self.chunks = [(b - a) * itemsize for a, b in zip(ends, ends[1:])]
        self.ranks = ranks

    def sent(self, rank, shift):
        return sum(self.chunks[(rank - s + shift) % self.ranks] for s in range(self.ranks - 1))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("elements", [0, 1, 5, 12, 1001])
def test_rings_send_all_chunks_but_one_twice(elements, ranks):
    ring = Counting(elements, 4, ranks)
    for rank in range(ranks):
        scattered, gathered = ring.sent(rank, -1), ring.sent(rank, 0)
        arguments = elements, 4, ranks, rank
        assert traffic.ring_reduce_scatter_bytes(*arguments) == scattered
        assert traffic.ring_all_gather_bytes(*arguments) == gathered
        assert traffic.ring_all_reduce_bytes(*arguments) == scattered + gathered
    mean = sum(traffic.ring_all_reduce_bytes(elements, 4, ranks, r) for r in range(ranks)) / ranks
    assert traffic.ring_all_reduce_bytes(elements, 4, ranks) == pytest.approx(mean, rel=1e-15)
    assert mean == pytest.approx(2 * (ranks - 1) / ranks * elements * 4)


def test_zero_3_sends_half_as_much_again():
    plain, one, two, three = (traffic.data_parallel_bytes(1000, 4, 8, stage) for stage in range(4))
    assert plain == one == two == traffic.ring_all_reduce_bytes(1000, 4, 8)
    assert three == 1.5 * plain
    assert traffic.data_parallel_bytes(10, 4, 4, 3, rank=0) == 4 * ((10 - 2) + 2 * (10 - 3))


def test_traffic_of_layers_by_hand():
    config = GPTConfig(10, 8, 3, 2, 4)
    activations = 5 * 8 * 4  # B T C numbers
    reduced = traffic.ring_all_reduce_bytes(activations, 2, 2)
    assert reduced == 2 * activations
    assert traffic.tensor_parallel_bytes(config, 5, 8, 2, 2) == 3 * 4 * reduced
    again = traffic.tensor_parallel_bytes(config, 5, 8, 2, 2, rank=1, checkpointing=True)
    assert again == 3 * 6 * reduced, "forward runs twice, and adds up twice"
    stages = [traffic.pipeline_bytes(config, 5, 8, 2, 3, rank) for rank in range(3)]
    assert stages == [2 * activations, 4 * activations, 2 * activations]
    assert traffic.pipeline_bytes(config, 5, 8, 2, 3) == pytest.approx(sum(stages) / 3)
    assert traffic.pipeline_bytes(config, 5, 8, 2, 1, 0) == 0, "one stage has nobody to send to"
    experts = traffic.expert_parallel_bytes(config, 5, 8, 2, 4, experts_per_token=2)
    assert experts == 4 * 2 * activations * 2 * 3 / 4


CONFIG = CONFIGS["gpt2"]
BAD = {
    "batch is a whole number": lambda: forward_flops(CONFIG, 0, 8),
    "time is a whole number": lambda: activation_bytes(CONFIG, 1, 2.0),
    "itemsize is": lambda: activation_bytes(CONFIG, 1, 8, itemsize=-4),
    "parameters is": lambda: model_state_bytes(0),
    "not 4": lambda: model_state_bytes(10, 2, 4),
    "not True": lambda: traffic.data_parallel_bytes(10, 4, 2, True),
    "ranks is": lambda: traffic.ring_all_reduce_bytes(10, 4, 0),
    "4 ranks are 0 to 3, not 4": lambda: traffic.ring_all_gather_bytes(10, 4, 4, 4),
    "not -1": lambda: traffic.ring_reduce_scatter_bytes(-1, 4, 4),
    "stages|ranks": lambda: traffic.pipeline_bytes(CONFIG, 1, 8, 4, 0),
    "experts_per_token is": lambda: traffic.expert_parallel_bytes(CONFIG, 1, 8, 4, 2, 0),
}


@pytest.mark.parametrize("said", BAD)
def test_what_is_no_size_is_refused(said):
    with pytest.raises(ValueError, match=said):
        BAD[said]()


def test_it_watches_the_right_products(count):
    """The counter itself: a linear layer by hand."""
    from chapter_05_gradient_mastery import linear

    x, w = Tensor(np.ones((3, 5), np.float32)), Tensor(np.ones((2, 5), np.float32))
    flops, y = count(lambda: linear(x, w))
    assert flops == 2 * 3 * 5 * 2 and y.shape == (3, 2)
