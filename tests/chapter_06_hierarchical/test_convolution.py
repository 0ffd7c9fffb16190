"""Convolution: by hand, three ways, its adjoint, and what does not fit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chapter_06_hierarchical import (
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    convolution,
    convolve,
    convolve_by_columns,
    convolve_transposed,
    transposed_convolution,
    unfold,
    window,
)
from utils import Tensor, check_gradients

WAYS = [convolve, convolve_by_columns, convolution]
MOVES = [
    {},
    {"stride": 2},
    {"padding": 1},
    {"padding": "same"},
    {"dilation": 2},
    {"groups": 2},
    {"stride": 2, "padding": 2, "dilation": 2, "groups": 2},
]


def matrix_of(weight, sizes, stride=1, padding=0, dilation=1, groups=1):
    """The definition as a matrix, (O, *places, C, *sizes): a weight where it is seen, else 0."""
    reach = dilation * (np.array(weight.shape[2:]) - 1)
    border = reach if padding == "same" else 2 * padding + 0 * reach
    places = (np.array(sizes) + border - reach - 1) // stride + 1
    matrix = np.zeros((len(weight), *places, weight.shape[1] * groups, *sizes))
    own = zip(np.split(weight, groups), np.split(matrix, groups))
    for group, (kernels, rows) in enumerate(own):
        rows = np.split(rows, groups, axis=len(sizes) + 1)[group]
        for place, cell in itertools.product(np.ndindex(*places), np.ndindex(*weight.shape[2:])):
            seen = stride * np.array(place) + dilation * np.array(cell) - border // 2
            if (seen >= 0).all() and (seen < sizes).all():
                rows[(slice(None), *place, slice(None), *seen)] = kernels[(..., *cell)]
    return matrix


@pytest.mark.parametrize("move", MOVES, ids=str)
@pytest.mark.parametrize("axes", [1, 2])
def test_the_definition_is_a_matrix(axes, move, rng):
    x, bias = rng.normal(size=(2, 4, *(9, 7)[:axes])), rng.normal(size=6)
    weight = rng.normal(size=(6, 4 // move.get("groups", 1), *(3, 3)[:axes]))
    y = convolve(x, weight, bias, **move)
    matrix = matrix_of(weight, x.shape[2:], **move)
    expected = np.tensordot(x, matrix, (range(1, axes + 2), range(-axes - 1, 0)))
    expected += bias.reshape(-1, *[1] * axes)
    assert y.shape == expected.shape, "(B, O, ...), with as many places as the window has"
    assert np.allclose(y, expected), "A x + b: what a window sees times its kernel, and the bias"


def test_the_definition_has_gradients(rng):
    args = [rng.normal(size=s) for s in [(2, 2, 5), (4, 1, 2), (4,)]]
    check_gradients(lambda *a: convolve(*a, padding=1, stride=2, groups=2), args)


@pytest.mark.parametrize("move", [*MOVES, {"stride": 2, "output_padding": 1}], ids=str)
@pytest.mark.parametrize("axes", [1, 2])
def test_transposed_is_the_matrix_turned(axes, move, rng):
    forward = {name: value for name, value in move.items() if name != "output_padding"}
    weight = rng.normal(size=(6, 4 // move.get("groups", 1), *(3, 3)[:axes]))
    sizes = np.array((9, 7)[:axes]) + move.get("output_padding", 0)
    matrix, bias = matrix_of(weight, sizes, **forward), rng.normal(size=4)
    u = rng.normal(size=(2, *matrix.shape[: axes + 1]))
    back = convolve_transposed(u, weight, bias, **move)
    expected = np.tensordot(u, matrix, (range(1, axes + 2), range(axes + 1)))
    expected += bias.reshape(-1, *[1] * axes)
    assert back.shape == expected.shape, "as large as what the convolution came from"
    assert np.allclose(back, expected), "A^T u + b: each number over its window, and the bias"


def test_transposed_has_gradients(rng):
    args = [rng.normal(size=s) for s in [(2, 4, 3), (4, 1, 2), (2,)]]
    check_gradients(lambda *a: convolve_transposed(*a, padding=1, stride=2, groups=2), args)


@pytest.mark.parametrize("way", WAYS)
def test_a_line_by_hand(way):
    x, weight = np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[[1.0, 10.0]]])
    assert way(x, weight).tolist() == [[[21.0, 32.0, 43.0]]], "the kernel is not mirrored"
    assert way(x, weight, np.array([0.5])).tolist() == [[[21.5, 32.5, 43.5]]]
    assert way(x, weight, stride=2).tolist() == [[[21.0, 43.0]]]
    assert way(x, weight, padding=1).tolist() == [[[10.0, 21.0, 32.0, 43.0, 4.0]]]
    assert way(x, weight, dilation=3).tolist() == [[[41.0]]]
    assert way(x, weight, padding=[(1, 0)]).tolist() == [[[10.0, 21.0, 32.0, 43.0]]]
    assert way(x, weight, padding="same").tolist() == [[[21.0, 32.0, 43.0, 4.0]]]


@pytest.mark.parametrize("way", [convolve_transposed, transposed_convolution])
def test_a_transposed_line_by_hand(way):
    x, weight = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, 10.0]]])
    assert way(x, weight).tolist() == [[[1.0, 12.0, 23.0, 30.0]]]
    assert way(x, weight, stride=2).tolist() == [[[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]]]
    assert way(x, weight, padding=1).tolist() == [[[12.0, 23.0]]]
    stretched = way(x, weight, stride=2, output_padding=1).data
    assert stretched.tolist() == [[[1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 0.0]]]


def test_a_picture_by_hand():
    edges = np.array([[[[-1.0, 1.0]]]])
    picture = np.array([[[[0.0, 0.0, 5.0, 5.0], [0.0, 5.0, 5.0, 0.0]]]])
    expected = [[[[0.0, 5.0, 0.0], [5.0, 0.0, -5.0]]]]
    for way in WAYS:
        assert way(picture, edges).tolist() == expected, "an edge is where neighbours differ"


@pytest.mark.parametrize("move", MOVES, ids=str)
@pytest.mark.parametrize("axes", [1, 2])
def test_three_ways_give_the_same(axes, move, rng):
    x = rng.normal(size=(2, 4, *(9, 8)[:axes]))
    weight = rng.normal(size=(6, 4 // move.get("groups", 1), *(3, 2)[:axes]))
    first, *others = (way(x, weight, **move) for way in WAYS)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-12)


def test_columns_have_gradients(rng):
    args = [rng.normal(size=s) for s in [(2, 2, 5), (4, 1, 2), (4,)]]
    check_gradients(lambda *a: convolve_by_columns(*a, padding=1, stride=2, groups=2), args)


@pytest.mark.parametrize("move", MOVES[:6], ids=str)
def test_the_transposed_convolution_is_the_adjoint(move, rng):
    x, weight = rng.normal(size=(2, 4, 9)), rng.normal(size=(6, 4 // move.get("groups", 1), 3))
    y = convolution(x, weight, **move)
    u = rng.normal(size=y.shape)
    back = transposed_convolution(u, weight, **move)
    assert back.shape == x.shape
    np.testing.assert_allclose(np.sum(y * u), np.sum(x * back), err_msg="<A x, u> = <x, A^T u>")


def test_columns_are_the_windows():
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    columns = unfold(x, window(2, 2))
    assert columns.shape == (1, 1, 4, 6)
    assert columns[0, 0, :, 0].tolist() == [0, 1, 4, 5]
    assert columns[0, 0, :, -1].tolist() == [6, 7, 10, 11]


def test_a_picture_that_moves_moves_its_features(rng):
    x, weight = rng.normal(size=(1, 1, 8, 8)), rng.normal(size=(2, 1, 3, 3))
    moved = convolution(np.roll(x, 1, axis=3), weight)
    np.testing.assert_allclose(moved[..., 1:], convolution(x, weight)[..., :-1], atol=1e-12)


def test_a_kernel_sees_long_float32_rows_accurately():
    x = np.ones((1, 1, 1 << 20), np.float32)
    weight = Tensor(np.full((1, 1, 1), 0.1, np.float32), requires_grad=True)
    convolution(x, weight).sum().backward()
    assert abs(weight.grad.item() / 2**20 - 1) < 1e-6


@pytest.mark.parametrize(
    ("layer", "shape", "count"),
    [
        (Conv1d(3, 4, 5, rng=np.random.default_rng(0)), (4, 3, 5), 64),
        (Conv2d(4, 6, (3, 2), groups=2, bias=False), (6, 2, 3, 2), 72),
        (ConvTranspose1d(3, 4, 5), (3, 4, 5), 64),
        (ConvTranspose2d(4, 6, 3, groups=2), (4, 3, 3, 3), 114),
    ],
    ids=repr,
)
def test_parameters(layer, shape, count):
    assert layer.weight.shape == shape and sum(p.size for p in layer.parameters()) == count
    fan_in = np.prod(shape[1:])
    assert np.abs(layer.weight.data).max() <= fan_in**-0.5, "uniform within 1 / sqrt(inputs)"


def test_the_same_generator_the_same_layer():
    first, second = (Conv2d(2, 3, 3, rng=np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.weight.data, second.weight.data)


def test_repr_says_what_is_unusual():
    assert repr(Conv1d(2, 4, 3)) == "Conv1d(2, 4, kernel_size=(3,))"
    layer = Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2, bias=False)
    assert repr(layer) == (
        "Conv2d(2, 4, kernel_size=(3, 3), stride=(2, 2), padding=1, dilation=(2, 2), groups=2, "
        "bias=False)"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2d(3, 4, 3, groups=2), "groups=2 does not divide 3 channels in"),
        (lambda: Conv2d(3, 4, 3, groups=0), "groups=0"),
        (lambda: Conv2d(3, 4, 0), "kernel_size is a whole number from 1 up"),
        (lambda: Conv2d(3, 4, (3, 3, 3)), "or 2 of them"),
        (lambda: Conv2d(3, 4, 3, stride=0), "stride"),
        (lambda: Conv2d(3, 4, 3, stride=1.5), "stride"),
        (lambda: Conv2d(3, 4, 3, padding=-1), "padding"),
        (lambda: Conv2d(3, 4, 3, padding="full"), "padding"),
        (lambda: Conv2d(3, 4, 3, stride=2, padding="same"), "keeps the size only with stride 1"),
        (lambda: Conv2d(3, 4, 3)(np.ones((2, 2, 5, 5))), r"takes \(B, 3, H, W\), not \(2, 2, 5"),
        (lambda: Conv1d(3, 4, 3)(np.ones((2, 3, 5, 5))), r"takes \(B, 3, L\)"),
        (lambda: Conv2d(3, 4, 5)(np.ones((2, 3, 4, 9))), "does not fit"),
        (lambda: ConvTranspose1d(2, 2, 3, output_padding=1)(np.ones((1, 2, 4))), "output_padding"),
        (lambda: ConvTranspose1d(2, 2, 1, padding=3)(np.ones((1, 2, 4))), "takes away all"),
        (lambda: convolution(np.ones((1, 3, 5)), np.ones((2, 2, 3))), "has 3 channels"),
        (lambda: convolution(np.ones((3, 5)), np.ones((2, 3))), "as many axes"),
        (lambda: convolve(np.ones((1, 4, 5)), np.ones((3, 2, 3)), groups=2), "groups=2"),
        (lambda: transposed_convolution(np.ones((1, 3, 5)), np.ones((2, 2, 3))), "3 channels"),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
