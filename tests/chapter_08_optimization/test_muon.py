"""Muon: what the iteration does to singular values, its step by an SVD, and packed matrices."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from chapter_03_neural_nets import Parameter
from chapter_08_optimization import Muon, orthogonalize

SHAPES = {"wide": (3, 7), "tall": (7, 3), "square": (5, 5), "a row": (1, 4), "a column": (4, 1)}


def polynomial(g, steps, coefficients=(3.4445, -4.7750, 2.0315)):
    """The same by its definition: singular values, scaled to length 1, through the polynomial."""
    a, b, c = coefficients
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return u * s @ vt


def conditioned(shape, values, seed=0):
    """A matrix with these singular values."""
    u, _, vt = np.linalg.svd(np.random.default_rng(seed).normal(size=shape), full_matrices=False)
    return u * np.asarray(values) @ vt


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_the_iteration_is_its_polynomial_of_each_singular_value(shape, steps, rng):
    g = rng.normal(size=shape)
    before = g.copy()
    found = orthogonalize(g, steps)
    assert found.shape == shape and found.dtype == g.dtype
    np.testing.assert_allclose(
        found, polynomial(g, steps), atol=1e-10,
        err_msg="divide by the Frobenius norm, then a s + b s^3 + c s^5 once a step",
    )  # fmt: skip
    np.testing.assert_array_equal(g, before, err_msg="the argument is not yours to change")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6)])
def test_singular_values_come_near_1_and_vectors_stay(shape, dtype, rng):
    size = min(shape)
    g = conditioned(shape, np.geomspace(1, 0.05, size)).astype(dtype)
    found = orthogonalize(g)
    assert found.dtype == dtype, "float32 in, float32 out"
    u, s, vt = np.linalg.svd(g.astype(np.float64), full_matrices=False)
    inner = u.T @ found @ vt.T
    values = np.diag(inner)
    assert (values > 0.65).all() and (values < 1.25).all(), f"singular values {values.round(2)}"
    np.testing.assert_allclose(
        inner - np.diag(values), 0, atol=2e-5, err_msg="the singular vectors have turned"
    )


def test_other_coefficients_converge_to_the_nearest_rotation():
    # Newton-Schulz of degree 5 has the fixed point 1: 15/8 - 10/8 + 3/8.
    g = conditioned((4, 6), [1.0, 0.7, 0.5, 0.3])
    found = orthogonalize(g, steps=30, coefficients=(15 / 8, -10 / 8, 3 / 8))
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    np.testing.assert_allclose(found, u @ vt, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_stacked_matrices_are_treated_one_by_one(shape, rng):
    # Of very different sizes: each has a norm of its own.
    stack = rng.normal(size=(2, 3, *shape)) * np.array([1e-3, 1, 1e3])[:, None, None]
    found = orthogonalize(stack)
    assert found.shape == stack.shape
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(
            found[place], orthogonalize(stack[place]), atol=1e-12, err_msg=f"matrix {place}"
        )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_nothing_stays_nothing(shape):
    found = orthogonalize(np.zeros(shape, np.float32))
    np.testing.assert_array_equal(found, np.zeros(shape), err_msg="0 / 0: that is what eps is for")
    stack = orthogonalize(np.stack([np.zeros(shape), np.ones(shape)]))
    assert not stack[0].any() and stack[1].any()


def test_a_matrix_of_low_rank_keeps_its_rank(rng):
    g = np.outer(rng.normal(size=4), rng.normal(size=5))
    s = np.linalg.svd(orthogonalize(g), compute_uv=False)
    assert 0.65 < s[0] < 1.25 and (s[1:] < 1e-6).all(), s


@pytest.mark.parametrize("scale", [1e-3, 1e12])
def test_the_size_of_the_gradient_does_not_matter(scale, rng):
    g = rng.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(orthogonalize(g * np.float32(scale)), orthogonalize(g), atol=1e-4)


# The optimiser


def rate(shape, kind):
    if kind == "match_rms_adamw":
        return 0.2 * math.sqrt(max(shape))
    return math.sqrt(max(1, shape[0] / shape[1]))


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4)])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("kind", [None, "original", "match_rms_adamw"])
def test_three_steps_by_hand(shape, nesterov, kind, rng):
    p = Parameter(rng.normal(size=shape))
    optimizer = Muon(
        [p], lr=0.5, weight_decay=0.2, momentum=0.75, nesterov=nesterov, adjust_lr_fn=kind
    )
    expected, m = p.data.copy(), 0.0
    for step in range(3):
        p.grad = g = rng.normal(size=shape)
        optimizer.step()
        m = 0.75 * m + 0.25 * g
        direction = polynomial(0.25 * g + 0.75 * m if nesterov else m, 5)
        expected = expected - 0.5 * (0.2 * expected + rate(shape, kind) * direction)
        np.testing.assert_allclose(p.data, expected, atol=1e-10, err_msg=f"step {step}")


def test_match_rms_adamw_makes_steps_of_a_fifth_of_the_rate(rng):
    for shape in ((8, 32), (32, 8), (16, 16)):
        p = Parameter(np.zeros(shape))
        p.grad = rng.normal(size=shape)
        Muon([p], lr=0.1, adjust_lr_fn="match_rms_adamw").step()
        size = np.sqrt(np.mean(np.square(p.data)))
        assert 0.65 < size / 0.02 < 1.25, f"the root mean square of a step of {shape} is {size:.4f}"


@pytest.mark.parametrize("shape", [(6, 4), (12, 2), (3, 5)])
@pytest.mark.parametrize("kind", ["original", "match_rms_adamw"])
def test_a_packed_matrix_is_three_matrices(shape, kind, rng):
    packed = Parameter(rng.normal(size=shape))
    single = [Parameter(part.copy()) for part in np.split(packed.data, 3)]
    options = {"lr": 0.3, "adjust_lr_fn": kind}
    one, three = Muon([packed], parts=3, **options), Muon(single, **options)
    for step in range(4):
        packed.grad = rng.normal(size=shape) * np.repeat([1, 10, 100], shape[0] // 3)[:, None]
        for p, g in zip(single, np.split(packed.grad, 3)):
            p.grad = g
        one.step()
        three.step()
        np.testing.assert_allclose(
            packed.data, np.concatenate([p.data for p in single]), atol=1e-12,
            err_msg=f"step {step}: parts lie one below the other, each with its own norm and shape",
        )  # fmt: skip


def test_parts_may_differ_by_group(rng):
    packed, plain = Parameter(rng.normal(size=(6, 2))), Parameter(rng.normal(size=(5, 2)))
    optimizer = Muon([{"params": [packed], "parts": 3}, {"params": [plain]}], lr=0.1)
    packed.grad, plain.grad = np.ones((6, 2)), np.ones((5, 2))
    optimizer.step()
    with pytest.raises(ValueError, match=r"3 equal parts.*\(5, 2\)"):
        Muon([plain], parts=3)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (8, 1, 3, 3)])
def test_what_is_no_matrix_is_refused(shape):
    with pytest.raises(ValueError, match=r"for matrices, not .*another optimiser"):
        Muon([Parameter(np.zeros(shape))])


@pytest.mark.parametrize("shape", [(), (3,)])
def test_only_matrices_are_made_orthogonal(shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        orthogonalize(np.ones(shape))


def test_all_singular_values_come_to_lie_near_one():
    for value in (0.01, 0.03, 0.1, 0.5, 0.84, 1.0):
        # Of a matrix of length 1 whose second singular value fills up what is missing.
        rest = np.sqrt(max(1 - value**2, 0.0))
        found = np.linalg.svd(orthogonalize(np.diag([value, rest])), compute_uv=False)
        assert found[found > 0].min() > 0.68 and found.max() < 1.14


def test_a_gradient_of_zero_only_decays():
    p = Parameter(np.ones((2, 3)))
    p.grad = np.zeros((2, 3))
    Muon([p], lr=0.5, weight_decay=0.2).step()
    np.testing.assert_allclose(p.data, 0.9)
