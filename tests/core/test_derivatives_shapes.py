"""Reshaping, joining, splitting, repeating, padding: the same numbers in another arrangement."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Tensor, grad
from utils.primitives import join, reshape, transpose

LINEAR = {
    np.reshape: """np.reshape(A, (4, 3)); np.reshape(A, -1)
        np.reshape(A, (2, -1, 1)); np.reshape(s, (1, 1)); np.reshape(A.T, (2, 6))
        np.reshape(E, (4, 0)); (A.reshape(2, 6)); (A.reshape((6, 2))); (A.T.reshape(-1))
        np.reshape(A, (4, 3), order="C"); np.reshape(s, ())""",
    np.ravel: "np.ravel(A); np.ravel(A.T); np.ravel(s); (K.ravel())",
    np.transpose: """np.transpose(A); np.transpose(K, (1, 2, 0))
        np.transpose(K, axes=(-1, 0, 1)); (K.T); (K.transpose(2, 0, 1))
        (K.transpose((0, 2, 1))); (A.transpose()); np.transpose(v); np.transpose(s)""",
    np.swapaxes: """np.swapaxes(K, 0, 2); np.swapaxes(K, -1, 1); (K.swapaxes(0, 1))
        np.swapaxes(A, 1, 1)""",
    np.moveaxis: """np.moveaxis(K, 0, -1); np.moveaxis(K, (0, 1), (-1, 0))
        np.moveaxis(K, [2], [0])""",
    np.rollaxis: """np.rollaxis(K, 2); np.rollaxis(K, 0, 3); np.rollaxis(K, 1, 0)
        np.rollaxis(K, -1, 1)""",
    np.squeeze: """np.squeeze(R); np.squeeze(R, 0); np.squeeze(C, axis=-1); (C.squeeze())
        np.squeeze(A)""",
    np.expand_dims: "np.expand_dims(A, 0); np.expand_dims(A, -1); np.expand_dims(v, (0, 2))",
    np.broadcast_to: """np.broadcast_to(v, (3, 4)); np.broadcast_to(s, (2, 2))
        np.broadcast_to(C, (2, 3, 2))""",
    np.broadcast_arrays: "np.broadcast_arrays(R, C); np.broadcast_arrays(v, A, s)",
    np.atleast_1d: "np.atleast_1d(s); np.atleast_1d(A); np.atleast_1d(s, v)",
    np.atleast_2d: "np.atleast_2d(s); np.atleast_2d(v); np.atleast_2d(A)",
    np.atleast_3d: "np.atleast_3d(s); np.atleast_3d(v); np.atleast_3d(A); np.atleast_3d(K)",
    np.flip: "np.flip(A); np.flip(A, 0); np.flip(K, axis=(0, -1)); np.flip(v)",
    np.fliplr: "np.fliplr(A)",
    np.flipud: "np.flipud(A)",
    np.rot90: """np.rot90(A); np.rot90(A, 2); np.rot90(A, -1); np.rot90(K, 3, (0, 2))
        np.rot90(A, k=5)""",
    np.roll: """np.roll(v, 1); np.roll(A, 5); np.roll(A, -1, axis=0)
        np.roll(A, (1, 2), axis=(0, 1)); np.roll(A, 1, axis=(0, 1))
        np.roll(K, (1, -1), (2, 2)); np.roll(E, 1, axis=1)""",
    np.concatenate: """np.concatenate([A, B]); np.concatenate((A, B), axis=1)
        np.concatenate([A, B], axis=-1); np.concatenate([A, v, s.reshape(1, 1)], axis=None)
        np.concatenate([A, A]); np.concatenate([v]); np.concatenate([A, E])
        np.concatenate([A, np.ones((1, 4))]); np.concatenate([A.T, B.T], 1)
        np.concatenate([E, E]); np.concatenate([A, E, R])""",
    np.stack: """np.stack([A, B]); np.stack([A, B], axis=-1)
        np.stack((v, w, v), axis=1); np.stack([s, s]); np.stack(A)
        np.stack([v, np.arange(4)])""",
    np.vstack: "np.vstack([v, w]); np.vstack([A, v]); np.vstack((s, s)); np.vstack([A, B])",
    np.hstack: "np.hstack([v, u]); np.hstack([A, C]); np.hstack([s, v])",
    np.dstack: "np.dstack([A, B]); np.dstack([v, w]); np.dstack([s, s])",
    np.column_stack: "np.column_stack([v, w]); np.column_stack([A, u]); np.column_stack([A, C])",
    np.append: "np.append(A, B); np.append(A, R, axis=0); np.append(v, s); np.append(A, C, 1)",
    np.split: """np.split(v, 2); np.split(A, [1, 2], axis=1); np.split(A, 3)
        np.split(A, [2, 5]); np.split(K, 2, axis=-1); np.split(v, [3, 1]); np.split(v, [-1])
        np.split(A, np.array([1]))""",
    np.array_split: """np.array_split(A, 2, axis=0); np.array_split(A, 3, axis=1)
        np.array_split(v, [1, 3]); np.array_split(v, 6); np.array_split(A, 2, axis=-1)""",
    np.hsplit: "np.hsplit(A, 2); np.hsplit(v, 2); np.hsplit(A, [1])",
    np.vsplit: "np.vsplit(A, 3); np.vsplit(A, [1])",
    np.dsplit: "np.dsplit(K, 2); np.dsplit(K, [1, 3])",
    np.repeat: """np.repeat(A, 2); np.repeat(A, 3, axis=0)
        np.repeat(A, [1, 0, 2], axis=0); np.repeat(s, 3)
        np.repeat(A, np.array([2, 1, 0, 1]), axis=-1); (v.repeat(2))
        np.repeat(A, [2], axis=1)""",
    np.tile: """np.tile(v, 2); np.tile(A, (2, 1)); np.tile(A, (2, 1, 3))
        np.tile(K, 2); np.tile(s, (2, 2)); np.tile(A, (0, 1)); np.tile(A, [2, 2])
        np.tile(K, (2, 1)); np.tile(A, np.array([2, 1]))""",
    np.pad: """np.pad(v, 1); np.pad(A, (1, 2)); np.pad(A, ((1, 0), (0, 2)))
        np.pad(A, 1, constant_values=7)
        np.pad(A, 1, mode="constant", constant_values=((1, 2), (3, 4)))
        np.pad(A, 2, mode="edge"); np.pad(A, 2, "reflect"); np.pad(A, (1, 2), "symmetric")
        np.pad(A, 2, mode="wrap"); np.pad(v, 9, mode="reflect")
        np.pad(v, (6, 7), mode="wrap"); np.pad(E, 1); np.pad(A, ((1, 2),))
        np.pad(A, [(1, 1), (2, 2)]); np.pad(A, (2,)); np.pad(v, (0, 0)); np.pad(v, 0)""",
}
PRIMITIVES = """join(A, B, axis=0, bounds=[0, 3, 6]); join(A, A, axis=1, bounds=[0, 4, 8])
        reshape(A, shape=(4, 3)); transpose(A)
        transpose(K, axes=(2, 0, 1))"""
TESTED = {*LINEAR, join, reshape, transpose}


def cases(text):
    return [case.strip() for case in text.replace("\n", ";").split(";")]


@pytest.mark.parametrize("expression", cases(";".join([*LINEAR.values(), PRIMITIVES])))
def test_shape_function(expression, check_expression):
    check_expression(expression, linear=True)


@pytest.mark.parametrize(
    "expression", ["np.stack([A, B])[0]", "np.split(A, 2, 1)[1]", "np.tile(v, 2)"]
)
def test_third_derivatives_pass_through(expression, check_expression):
    check_expression(f"np.exp({expression} / 2)", order=3)


def test_the_parts_of_a_split_get_their_own_gradients():
    x = Tensor(np.arange(6.0), requires_grad=True)
    first, second, third = np.split(x, 3)
    (g,) = grad((first * 2 + third * 5).sum(), x)
    assert g.data.tolist() == [2, 2, 0, 0, 5, 5]
    assert grad(second.sum(), x)[0].data.tolist() == [0, 0, 1, 1, 0, 0]


def test_unequal_split_says_what_to_use():
    with pytest.raises(ValueError, match="array_split"):
        np.split(Tensor(np.ones(5), requires_grad=True), 2)


@pytest.mark.parametrize("mode", ["mean", "linear_ramp", "maximum", "median", "empty"])
def test_pad_modes_without_a_rule_raise(mode):
    with pytest.raises(TypeError, match=mode):
        np.pad(Tensor(np.ones(5), requires_grad=True), 2, mode=mode)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.reshape(t, (5, 2)),
        lambda t: np.concatenate([t, np.ones((2, 2))]),
        lambda t: np.concatenate([t, t], axis=2),
        lambda t: np.stack([t, np.ones(3)]),
        lambda t: np.squeeze(t, 0),
        lambda t: np.broadcast_to(t, (3, 3)),
        lambda t: np.transpose(t, (0, 0)),
        lambda t: np.pad(t, -1),
        lambda t: np.reshape(t, (3, 2), order="F"),
    ],
)
def test_bad_shapes_are_errors(call):
    with pytest.raises((ValueError, TypeError)):
        call(Tensor(np.ones((2, 3)), requires_grad=True))
