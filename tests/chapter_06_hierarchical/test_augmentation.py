"""Augmentation: affine maps whose outcome is known, and random ones within their limits."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_06_hierarchical import affine, random_affine
from utils import manual_seed

STILL = {"degrees": 0, "stretch": 0, "shear": 0, "shift": 0}


def mapped(images, matrix=((1, 0), (0, 1)), shift=(0, 0)):
    """All pictures under the same map."""
    count = len(images)
    return affine(images, np.array([matrix] * count, float), np.array([shift] * count, float))


@pytest.fixture
def images(rng):
    return rng.random((3, 6, 5)).astype(np.float32)


def test_the_identity_changes_nothing(images):
    np.testing.assert_array_equal(mapped(images), images)
    np.testing.assert_array_equal(random_affine(images, **STILL), images)


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (-2, 1), (3, -3), (6, 0), (0, -9)])
def test_whole_pixels_are_moved_as_they_are(shift, images):
    """The new pixel p is the old p + shift; from outside comes 0."""
    down, right = shift
    expected = np.zeros_like(images)
    for row, column in np.ndindex(6, 5):
        if 0 <= row + down < 6 and 0 <= column + right < 5:
            expected[:, row, column] = images[:, row + down, column + right]
    np.testing.assert_array_equal(mapped(images, shift=shift), expected)


def test_half_a_pixel_is_the_mean_of_two():
    image = np.array([[[2.0, 4.0, 8.0]]])
    assert mapped(image, shift=(0, 0.5)).tolist() == [[[3.0, 6.0, 4.0]]], "beyond the border is 0"
    assert mapped(image, shift=(0, -0.25)).tolist() == [[[1.5, 3.5, 7.0]]]
    column = image.reshape(1, 3, 1)
    assert mapped(column, shift=(0.5, 0)).ravel().tolist() == [3.0, 6.0, 4.0]
    square = np.array([[[0.0, 4.0], [8.0, 16.0]]])
    assert mapped(square, shift=(0.5, 0.25))[0, 0, 0] == 0.375 * 0 + 0.125 * 4 + 0.375 * 8 + 2


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("size", [5, 6])
def test_a_quarter_turn_about_the_centre(quarters, size, rng):
    images = rng.random((2, size, size))
    turn = np.array([[0, 1], [-1, 0]])
    turned = mapped(images, np.linalg.matrix_power(turn, quarters))
    np.testing.assert_allclose(turned, np.rot90(images, quarters, axes=(1, 2)), atol=1e-12)


def test_mirrors_and_magnification(rng):
    images = rng.random((2, 5, 7))
    assert np.array_equal(mapped(images, [(1, 0), (0, -1)]), images[:, :, ::-1])
    assert np.array_equal(mapped(images, [(-1, 0), (0, 1)]), images[:, ::-1])
    smaller = mapped(images, [(2, 0), (0, 2)])
    assert np.array_equal(smaller[:, 1:4, 2:5], images[:, ::2, 1::2]), "every second pixel"
    assert not smaller[:, 0].any() and not smaller[:, :, 0].any()


def test_each_picture_has_its_own_map(images):
    shifts = np.array([[0, 0], [1, 0], [0, 2]])
    found = affine(images, np.stack([np.eye(2)] * 3), shifts)
    for i, shift in enumerate(shifts):
        np.testing.assert_array_equal(found[i : i + 1], mapped(images[i : i + 1], shift=shift))


def test_no_pixel_is_brighter_or_darker_than_those_there_were(rng):
    images = rng.random((50, 9, 9)).astype(np.float32)
    bent = random_affine(images, degrees=180, stretch=0.5, shear=0.5, shift=9, rng=rng)
    assert bent.min() >= 0 and bent.max() <= images.max() * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_many_of_the_same_kind_and_the_old_untouched(dtype, rng):
    images = rng.random((4, 6, 7)).astype(dtype)
    before = images.copy()
    bent = random_affine(images, rng=rng)
    assert bent.shape == images.shape and bent.dtype == dtype
    assert np.array_equal(images, before) and not np.shares_memory(bent, images)
    assert random_affine(images[:0], rng=rng).shape == (0, 6, 7)


def test_pictures_of_whole_numbers_are_mixed_or_refused():
    """Fractions of a pixel do not fit into uint8, and must not be dropped in silence."""
    image = np.array([[[20, 40, 80]]], np.uint8)
    try:
        found = mapped(image, shift=(0, 0.5))
    except (TypeError, ValueError):
        return
    assert found.tolist() == [[[30, 60, 40]]]


def test_the_same_generator_the_same_pictures(images):
    first, second = (random_affine(images, rng=np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)
    manual_seed(3)
    third = random_affine(images)
    manual_seed(3)
    assert np.array_equal(third, random_affine(images)), "manual_seed seeds the default generator"
    assert not np.array_equal(third, random_affine(images)), "no picture is seen twice"


def moments(images):
    """The total, and the mean row and column from the centre, of each picture."""
    rows, columns = (
        np.indices(images.shape[1:]) - (np.array(images.shape[1:]) - 1)[:, None, None] / 2
    )
    total = images.sum(axis=(1, 2))
    return (
        total,
        (images * rows).sum(axis=(1, 2)) / total,
        (images * columns).sum(axis=(1, 2)) / total,
    )


@pytest.mark.parametrize(
    ("only", "at_most"), [({"shift": 3}, 3), ({"degrees": 30}, 4), ({"stretch": 0.2}, 1e-6)]
)
def test_a_spot_stays_within_the_limits(only, at_most, rng):
    """A spot in the middle is moved by the shift alone; one beside it by the turn."""
    images = np.zeros((400, 21, 21))
    images[:, 9:12, 9:12] = 1
    bent = random_affine(images, **{**STILL, **only}, rng=rng)
    total, row, column = moments(bent)
    limit = at_most if "shift" in only else 1e-6
    assert np.abs([row, column]).max() <= limit + 1e-6
    if "shift" in only:
        assert min(row.min(), column.min()) < -2.7 and max(row.max(), column.max()) > 2.7
    if "stretch" in only:
        assert total.min() > 9 / 1.2**2 - 0.5 and total.max() < 9 / 0.8**2 + 0.5


def test_angles_are_within_the_limit_and_go_both_ways(rng):
    images = np.zeros((400, 31, 31))
    images[:, 15, 25] = 1  # ten pixels to the right
    _, row, column = moments(random_affine(images, **{**STILL, "degrees": 30}, rng=rng))
    angle = np.rad2deg(np.arctan2(row, column))
    assert np.abs(angle).max() < 33 and angle.min() < -25 and angle.max() > 25
    assert abs(angle.mean()) < 3, "as often to the left as to the right"


@pytest.mark.parametrize("shape", [(2, 1, 6, 6), (6, 6)], ids=str)
def test_pictures_are_three_axes(shape, rng):
    text = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=text):
        random_affine(np.ones(shape), rng=rng)
