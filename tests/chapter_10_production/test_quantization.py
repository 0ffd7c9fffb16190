"""Weights in 8 and 4 bits: how near and small they are, and that products are those of weights."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from chapter_07_attention import GPT, GPTConfig, LlamaConfig
from chapter_09_scaling import add_lora, lora_parameters, merge_lora
from chapter_10_production import quantization
from chapter_10_production.decoder import Decoder
from chapter_10_production.matrix import Matrix
from chapter_10_production.quantization import (
    Int4Matrix,
    Int8Matrix,
    best_factors,
    quantize,
    quantized,
)

SHAPES = [(6, 8), (5, 64), (7, 50), (1, 1), (64, 96), (3, 33)]
SIZES = {"vocab_size": 11, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 32}


def weights(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def decoder(config=GPTConfig, **options):
    model = GPT(config(**SIZES, **options), rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data += 0.1 * rng.normal(size=p.shape).astype(np.float32)
    return Decoder.from_model(model.eval())


def matrices(net):
    return {name: w for name, w in net.weights.items() if isinstance(w, Matrix)}


def test_int8_by_hand():
    matrix = quantize(np.array([[1.0, -2.54, 0.013], [0, 0, 0]], np.float32), 8)
    assert matrix.codes.T.tolist() == [[50, -127, 1], [0, 0, 0]], "round(w / s), s = largest / 127"
    np.testing.assert_allclose(matrix.scales, [0.02, 0], rtol=1e-3)
    assert matrix.codes.dtype == np.int8 and matrix.scales.dtype == np.float16


def test_int4_by_hand():
    array = np.array([[12.6, -1.8, 5.4, 3.6]], np.float32)  # scale 0.1, factor 18: 7, -1, 3, 2
    matrix = quantize(array, 4, group_size=4)
    assert matrix.codes.shape == (2, 1) and matrix.codes.dtype == np.uint8
    assert matrix.factors.tolist() == [[18]]
    assert (matrix.codes & 15).ravel().tolist() == [7 + 8, -1 + 8], "lower bits: the first half"
    assert (matrix.codes.view(np.int8) >> 4).ravel().tolist() == [3, 2], "upper: the second"
    np.testing.assert_allclose(matrix.dense(), array, rtol=2e-3)


def test_groups_have_factors_of_their_own():
    array = np.ones((1, 8), np.float32)
    array[0, ::2] = 0.05  # inputs 0, 2, 4, ... are one of two groups
    matrix = quantize(array, 4, group_size=4)
    np.testing.assert_allclose(matrix.dense(), array, rtol=0.15)
    assert matrix.factors[0, 0] < matrix.factors[1, 0]
    whole = quantize(array, 4, group_size=8)
    assert np.abs(whole.dense() - array).max() > np.abs(matrix.dense() - array).max()


def test_factors_by_hand():
    groups = [  # of one output, then of the other
        [[125.6, -18.4, 53.7, 36.2], [-8.3, 7, -7, 1]],
        [[0, 0, 0, 0], [14, -14, 6, 2]],
    ]
    codes, factors = best_factors(np.array(groups, np.float32).transpose(2, 1, 0))
    assert factors.T.tolist() == [[18, 1], [1, 2]], "each group has its own, and 1 may cut"
    assert codes.transpose(2, 1, 0).tolist() == [
        [[7, -1, 3, 2], [-7, 7, -7, 1]],
        [[0, 0, 0, 0], [7, -7, 3, 1]],
    ], "number / factor, rounded, from -7 to 7"
    assert codes.dtype == factors.dtype == np.int8


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bits", [8, 4])
def test_no_weight_is_further_than_its_step_allows(bits, shape):
    array = weights(shape)
    matrix = quantize(array, bits)
    error = np.abs(matrix.dense() - array)
    scales = matrix.scales[:, None].astype(np.float32)
    if bits == 8:
        assert (error <= 0.5001 * scales).all(), "rounded to the nearest code"
    assert np.sqrt(np.mean(error**2)) < (0.01 if bits == 8 else 0.13) * np.abs(array).max()
    assert matrix.shape == shape


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("block", [1, 100, 1 << 16], ids="blocks of {}".format)
def test_products_and_rows_are_those_of_the_dense_matrix(bits, shape, block, monkeypatch):
    monkeypatch.setattr(quantization, "BLOCK", block)
    matrix = quantize(weights(shape), bits)
    dense = matrix.dense()
    for rows in (0, 1, 5):
        x = weights((rows, shape[1]), seed=2)
        y = matrix.apply(x)
        assert y.dtype == np.float32 and y.shape == (rows, shape[0])
        np.testing.assert_allclose(y, x @ dense.T, rtol=1e-4, atol=1e-4)
    ids = np.random.default_rng(3).integers(shape[0], size=4)
    np.testing.assert_array_equal(matrix.rows(ids), dense[ids])


def test_the_best_factor_is_better_than_the_one_that_cuts_nothing_off():
    array = weights((64, 128))
    matrix = quantize(array, 4)
    groups = array.T.reshape(32, 4, 64)
    steps = np.abs(groups).max(axis=0) / 7
    plain = np.rint(groups / steps) * steps
    found = np.mean((matrix.dense() - array) ** 2)
    assert found < np.mean((plain - groups) ** 2), "all factors are tried, and the best is taken"


def test_bytes():
    array = weights((256, 512))
    eight, four = quantize(array, 8), quantize(array, 4)
    assert eight.nbytes == array.size + 2 * 256
    assert four.nbytes == array.size // 2 + array.size // 32 + 2 * 256
    assert array.nbytes / eight.nbytes > 3.98 and array.nbytes / four.nbytes > 7.4
    for matrix in (eight, four):
        own = [a for a in vars(matrix).values() if isinstance(a, np.ndarray)]
        assert sum(a.nbytes for a in own) == matrix.nbytes, "nothing is kept beside the codes"


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_stay_zeros(bits):
    array = weights((4, 64))
    array[1], array[2, ::3] = 0, 0
    dense = quantize(array, bits).dense()
    assert (dense[array == 0] == 0).all()


@pytest.mark.parametrize("size", [1e-7, 1e-4, 1e5, 6e6])
@pytest.mark.parametrize("bits", [8, 4])
def test_scales_in_float16_hold_small_and_large_weights(bits, size):
    array = size * weights((3, 64)) / 4
    dense = quantize(array, bits).dense()
    assert np.isfinite(dense).all()
    # The smallest step of float16 is 6e-8.
    assert np.abs(dense - array).max() <= max((0.02 if bits == 8 else 0.2) * size, 6e-8)


def test_a_merged_adapter_is_quantised_like_any_weight():
    model = GPT(GPTConfig(**SIZES), rng=np.random.default_rng(0)).eval()
    add_lora(model, rank=2, rng=np.random.default_rng(1))
    for p in lora_parameters(model):
        p.data[...] = 0.1 * np.random.default_rng(2).normal(size=p.shape)
    ids = np.arange(8)[None]
    expected = model(ids).data
    merged = Decoder.from_model(merge_lora(model))
    np.testing.assert_allclose(merged.logits(ids), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(quantized(merged, 8).logits(ids), expected, atol=0.03)


def test_an_adapter_that_is_not_merged_is_refused():
    model = add_lora(GPT(GPTConfig(**SIZES)), rank=2)
    with pytest.raises(ValueError, match="lora"):
        Decoder.from_model(model)


@pytest.mark.parametrize(
    "config, options",
    [(GPTConfig, {}), (LlamaConfig, {"n_kv_head": 1}), (GPTConfig, {"tied": False})],
)
@pytest.mark.parametrize("bits, tolerance", [(8, 0.06), (4, 0.6)])
def test_a_decoder_says_nearly_the_same(config, options, bits, tolerance):
    whole = decoder(config, **options)
    small = quantized(whole, bits)
    ids = np.random.default_rng(4).integers(11, size=(2, 12))
    expected = whole.logits(ids)
    assert np.abs(small.logits(ids) - expected).max() < tolerance * np.abs(expected).max()
    kind = Int8Matrix if bits == 8 else Int4Matrix
    assert all(type(matrix) is kind for matrix in matrices(small).values())
    assert all(w.dtype == np.float16 for w in small.weights.values() if isinstance(w, np.ndarray))
    assert isinstance(whole.weights["norm.weight"], np.ndarray)
    assert whole.weights["norm.weight"].dtype == np.float32, "the decoder given stays as it was"


def test_a_shared_matrix_is_quantised_once():
    small = quantized(decoder(), 8)
    assert small.weights["head.weight"] is small.weights["embedding.weight"]
    untied = quantized(decoder(tied=False), 8)
    assert untied.nbytes > small.nbytes


def test_exceptions_keep_other_bits():
    small = quantized(decoder(), 4, 16, {"embedding": 8, "layers.1.linear1": 8})
    bits = {name: matrix.bits for name, matrix in matrices(small).items()}
    assert {n for n, b in bits.items() if b == 8} == {
        "embedding.weight", "head.weight", "layers.1.linear1.weight"
    }  # fmt: skip
    assert small.weights["layers.0.linear1.weight"].group_size == 16


def test_two_threads_may_use_one_matrix(monkeypatch):
    monkeypatch.setattr(quantization, "BLOCK", 512)
    matrix = quantize(weights((64, 96)), 4)
    x = [weights((3, 96), seed) for seed in range(2)]
    expected = [matrix.apply(part) for part in x]
    wrong = []

    def work(i):
        for _ in range(200):
            if not np.array_equal(matrix.apply(x[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, "a buffer is shared between threads"


@pytest.mark.parametrize(
    "array, bits, size, message",
    [
        (np.ones((2, 4)), 2, 32, "8 bits or 4"),
        (np.ones((2, 4)), True, 32, "8 bits or 4"),
        (np.ones((2, 4)), 4, 3, "even"),
        (np.ones((2, 4)), 4, 0, "group_size"),
        (np.ones((2, 4)), 4, True, "group_size"),
        (np.array([[1, np.nan]]), 8, 32, "nan"),
        (np.array([[1, np.inf]]), 4, 32, "inf"),
        (np.array([[1e9, 1.0]]), 8, 32, "1000000000"),
    ],
)
def test_refusals(array, bits, size, message):
    with pytest.raises(ValueError, match=message):
        quantize(array.astype(np.float32), bits, size)


def test_refusals_of_decoders():
    with pytest.raises(ValueError, match="no matrix has 'linear9'"):
        quantized(decoder(), 4, exceptions={"linear9": 8})
    model = GPT(GPTConfig(**SIZES))
    model.norm.weight.data[0] = 1e6
    with pytest.raises(ValueError, match="norm.weight .* float16"):
        quantized(Decoder.from_model(model), 8)
