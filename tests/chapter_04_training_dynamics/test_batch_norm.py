"""Batch norm: values by hand, running statistics, what evaluation does, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import Linear, Sequential
from chapter_04_training_dynamics import BatchNorm1d, BatchNorm2d, batch_norm
from chapter_04_training_dynamics.batch_norm import standardize
from utils import Tensor, check_gradients, no_grad


def test_by_hand():
    x = Tensor(np.array([[1.0, 10.0], [3.0, 10.0]]))
    y = batch_norm(x, np.array([2.0, 2.0]), np.array([0.5, 1.0]), eps=0.0 + 3.0)
    # The first channel has mean 2 and variance 1: -1 and 1 over sqrt(1 + 3), twice, plus 0.5.
    np.testing.assert_allclose(
        y.data, [[-0.5, 1.0], [1.5, 1.0]], err_msg="(x - mean) / sqrt(var + eps) * weight + bias"
    )


@pytest.mark.parametrize(
    "layer, shape",
    [(BatchNorm1d(3), (8, 3)), (BatchNorm1d(3), (4, 3, 5)), (BatchNorm2d(3), (4, 3, 5, 6))],
    ids=["(B, C)", "(B, C, L)", "(B, C, H, W)"],
)
def test_every_channel_is_standardized_over_all_other_axes(layer, shape, rng):
    y = layer(Tensor(rng.normal(5, 3, shape).astype(np.float32))).data
    others = (0, *range(2, len(shape)))
    np.testing.assert_allclose(y.mean(axis=others), 0, atol=1e-5, err_msg="mean of each channel")
    np.testing.assert_allclose(y.var(axis=others), 1, atol=1e-4, err_msg="variance of each channel")
    assert y.dtype == np.float32, "float32 in, float32 out"


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 4), (2, 3, 2, 2)])
def test_gradients(shape, rng):
    channels = shape[1]
    arrays = [rng.normal(size=shape), rng.normal(size=channels), rng.normal(size=channels)]
    check_gradients(batch_norm, arrays)
    check_gradients(batch_norm, arrays[:1])
    check_gradients(batch_norm, arrays, order=2, tolerance=1e-6)


def test_gradients_in_evaluation(rng):
    layer = BatchNorm1d(3).astype(np.float64)
    layer(Tensor(rng.normal(2, 3, (6, 3))))
    layer.eval()
    check_gradients(layer.normalize_by_running, [rng.normal(size=(4, 3))])


def test_a_large_mean_does_not_eat_the_variance():
    x = np.array([[10_000.0], [10_001.0], [10_002.0]], np.float32)
    y, _, variance = standardize(Tensor(x), (0,), 1e-5)
    message = "mean((x - mean)^2): E[x^2] - mean^2 has lost all its digits in float32"
    np.testing.assert_allclose(variance.data, [[2 / 3]], rtol=1e-3, err_msg=message)
    np.testing.assert_allclose(y.data[:, 0], [-1.2247, 0, 1.2247], atol=2e-3, err_msg=message)
    layer = BatchNorm1d(1)
    layer.running_mean[:], layer.running_var[:] = 10_001, 2 / 3
    np.testing.assert_allclose(layer.eval()(Tensor(x)).data, y.data, atol=2e-3)


def test_running_statistics_by_hand():
    layer = BatchNorm1d(1, momentum=0.5)
    layer(Tensor([[1.0], [3.0]]))  # mean 2, variance 1 of two numbers, 2 unbiased
    assert layer.running_mean.tolist() == [1.0], "half of 0 and half of 2"
    assert layer.running_var.tolist() == [1.5], "half of 1 and half of the unbiased variance 2"
    assert layer.num_batches_tracked.dtype == np.int64 and layer.num_batches_tracked.shape == ()
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize(("momentum", "shares"), [(0.25, (0.25, 0.25)), (None, (1, 0.5))])
def test_statistics_are_tracked_by_hand(momentum, shares):
    layer, mean, variance = BatchNorm1d(2, momentum=momentum), np.zeros(2), np.ones(2)
    for share, new in zip(shares, (np.array([2.0, 4.0]), np.array([-1.0, 8.0]))):
        layer.track(new.reshape(1, 2), np.abs(new).reshape(1, 2), count=5)
        mean += share * (new - mean)
        variance += share * (np.abs(new) * 5 / 4 - variance)
    assert layer.running_mean == pytest.approx(mean), "a share of each batch's mean"
    assert layer.running_var == pytest.approx(variance), "unbiased: times n / (n - 1)"
    assert layer.num_batches_tracked == 2


def test_momentum_none_is_the_mean_over_all_batches(rng):
    layer = BatchNorm1d(2, momentum=None)
    batches = rng.normal(size=(5, 8, 2)).astype(np.float32)
    for batch in batches:
        layer(Tensor(batch))
    np.testing.assert_allclose(layer.running_mean, batches.mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(layer.running_var, batches.var(axis=1, ddof=1).mean(0), rtol=1e-5)


def test_evaluation_uses_and_keeps_the_running_statistics():
    layer = BatchNorm1d(1, eps=0.0)
    layer.running_mean[:], layer.running_var[:] = 3, 4
    layer.weight.data[:], layer.bias.data[:] = 10, 1
    y = layer.eval()(Tensor([[5.0], [3.0]]))
    assert y.tolist() == [[11.0], [1.0]], "(5 - 3) / sqrt(4) * 10 + 1"
    assert (layer.running_mean[0], layer.running_var[0], int(layer.num_batches_tracked)) == (
        3,
        4,
        0,
    )
    assert layer(Tensor([[5.0]])).tolist() == [[11.0]], "one example is enough in evaluation"
    assert layer(Tensor(np.zeros((0, 1), np.float32))).shape == (0, 1)


def test_a_refused_batch_leaves_no_trace():
    layer = BatchNorm1d(2)
    with pytest.raises(ValueError):
        layer(Tensor(np.ones((1, 2), np.float32)))
    assert layer.running_mean.tolist() == [0, 0] and layer.num_batches_tracked == 0


def test_statistics_are_of_the_module_also_without_a_graph():
    layer = BatchNorm1d(1)
    with no_grad():
        layer(Tensor([[1.0], [3.0]]))
    assert layer.num_batches_tracked == 1, "training mode tracks; only evaluation does not"


def test_without_running_statistics_evaluation_measures_its_batch(rng):
    layer = BatchNorm1d(3, track_running_stats=False)
    x = Tensor(rng.normal(4, 2, (9, 3)).astype(np.float32))
    in_training = layer(x).data
    np.testing.assert_array_equal(layer.eval()(x).data, in_training)
    assert list(layer.state_dict()) == ["weight", "bias"]
    with pytest.raises(ValueError, match="at least 2"):
        layer(Tensor(np.ones((1, 3), np.float32)))


def test_parameters_and_buffers():
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(BatchNorm2d(4).state_dict()) == names, "PyTorch's names, in its order"
    assert len(list(BatchNorm1d(4, affine=False).parameters())) == 0
    assert list(BatchNorm1d(4, affine=False).state_dict()) == names[2:]
    layer = BatchNorm1d(4).astype(np.float64)
    assert layer.running_var.dtype == np.float64 and layer.num_batches_tracked.dtype == np.int64


def test_one_method_is_all_that_a_kernel_replaces():
    class Doubled(BatchNorm1d):
        def normalize(self, x):
            return 2 * x, np.array([1.0, 2.0]), np.array([3.0, 4.0])

    layer = Doubled(2, momentum=1.0)
    x = Tensor(np.ones((2, 2), np.float32))
    assert layer(x).tolist() == [[2, 2], [2, 2]]
    assert layer.running_mean.tolist() == [1, 2]
    assert layer.running_var.tolist() == [6, 8], "normalize returns the biased variance"


def test_scale_of_the_layer_below_does_not_matter(rng):
    net = Sequential(Linear(5, 4, rng=rng), BatchNorm1d(4, eps=0.0))
    x = Tensor(rng.normal(size=(16, 5)).astype(np.float32))
    before = net(x).data
    net[0].weight.data *= 100
    net[0].bias.data += 7
    np.testing.assert_allclose(net(x).data, before, atol=1e-4)


@pytest.mark.parametrize(
    "layer, shape, said",
    [
        (BatchNorm1d(3), (1, 3), "at least 2"),
        (BatchNorm1d(3), (0, 3), r"\(0, 3\) has 0 values"),
        (BatchNorm1d(3), (1, 3, 1), "at least 2"),
        (BatchNorm2d(3), (1, 3, 1, 1), "at least 2"),
        (BatchNorm1d(3), (4, 2), r"C = 3, not \(4, 2\)"),
        (BatchNorm1d(3), (4, 5, 3), r"not \(4, 5, 3\)"),
        (BatchNorm1d(3), (3,), r"not \(3,\)"),
        (BatchNorm1d(3), (2, 3, 4, 5), r"\(B, C\) or \(B, C, L\)"),
        (BatchNorm2d(3), (2, 3), r"\(B, C, H, W\)"),
    ],
)
def test_shapes_that_do_not_fit(layer, shape, said):
    with pytest.raises(ValueError, match=said):
        layer(Tensor(np.ones(shape, np.float32)))


def test_one_example_of_several_places_is_enough():
    assert BatchNorm1d(3)(Tensor(np.ones((1, 3, 2), np.float32))).shape == (1, 3, 2)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"momentum": -0.1}, "-0.1"),
        ({"momentum": float("nan")}, "nan"),
        ({"eps": -1.0}, "eps"),
        ({"eps": float("nan")}, "nan"),
    ],
)
def test_options_out_of_range(options, said):
    with pytest.raises(ValueError, match=said):
        BatchNorm1d(3, **options)


def test_no_channels():
    with pytest.raises(ValueError, match="from 1 up, not 0"):
        BatchNorm1d(0)
