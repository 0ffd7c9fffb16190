"""Windows: how many places they have, what each cell sees, and what makes none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chapter_06_hierarchical import Window, window
from chapter_06_hierarchical.windows import padded, per_axis, without_border
from utils import Tensor, check_gradients


def test_one_number_is_meant_for_every_axis():
    assert window(2, 3, 2, 1, 4) == Window((3, 3), (2, 2), ((1, 1), (1, 1)), (4, 4))
    assert window(2, (3, 2), padding=(0, 1)).padding == ((0, 0), (1, 1))
    assert window(2, 3, padding=[(1, 2), (3, 4)]).padding == ((1, 2), (3, 4))
    assert window(1, 2, padding=[(4, 0)], dilation=4).padding == ((4, 0),)
    assert window(1, np.int64(3)).kernel == (3,)


def test_named_paddings():
    assert window(2, 3, padding="valid").padding == ((0, 0), (0, 0))
    assert window(1, 3, padding="same").padding == ((1, 1),)
    assert window(1, 4, padding="same").padding == ((1, 2),), "what is left over comes behind"
    assert window(2, (1, 3), padding="same", dilation=2).padding == ((0, 0), (2, 2))


@pytest.mark.parametrize("n", range(1, 10))
@pytest.mark.parametrize("kernel, dilation", [*itertools.product((1, 2, 3, 4), (1, 2, 3))])
def test_same_keeps_the_size(kernel, dilation, n):
    move = window(1, kernel, padding="same", dilation=dilation)
    assert move.places([n + sum(move.padding[0])]) == (n,)


def test_reach_and_cells():
    move = window(2, (3, 2), dilation=(1, 4))
    assert move.reach == (3, 5) and move.cells == 6
    assert move.offsets() == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]


def test_places_by_hand():
    assert window(1, 3).places([5]) == (3,), "it starts at 0, 1 and 2"
    assert window(1, 3).places([3]) == (1,), "an axis as long as the window has one place"
    assert window(1, 3, stride=2).places([8]) == (3,), "0, 2, 4: from 6 on it is cut off"
    assert window(1, 3, dilation=2).places([6]) == (2,), "three cells, two apart, reach over five"
    assert window(1, 3, padding=1).places([7]) == (5,), "padding is included in the 7"
    move = window(2, (3, 2), stride=(2, 3), dilation=(1, 4))
    assert move.places([8, 14]) == (3, 4), "each axis has its own"


def test_one_axis_that_is_too_small_is_enough():
    for sizes in ((9, 4), (1, 9), (1, 4)):
        with pytest.raises(ValueError, match=r"does not fit in \(\d, \d\)"):
            window(2, (2, 5)).places(list(sizes))


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("kernel, stride, dilation", [*itertools.product((1, 2, 3), repeat=3)])
def test_places_are_those_where_the_whole_window_fits(n, kernel, stride, dilation):
    """Counted one by one; every cell sees what lies there, and nothing beyond."""
    move = window(1, kernel, stride, dilation=dilation)
    starts = [s for s in range(0, n, stride) if s + dilation * (kernel - 1) < n]
    if not starts:
        with pytest.raises(ValueError, match=rf"does not fit in \({n},\)"):
            move.places([n])
        return
    assert move.places([n]) == (len(starts),)
    x = np.arange(n)
    for i, seen in enumerate(move.seen(move.places([n]))):
        assert x[seen].tolist() == [s + i * dilation for s in starts]


def test_cells_of_two_axes_see_a_grid():
    x, move = np.arange(20.0).reshape(1, 1, 4, 5), window(2, 2, (2, 3))
    first, *_, last = (x[seen][0, 0].tolist() for seen in move.seen(move.places((4, 5))))
    assert first == [[0, 3], [10, 13]] and last == [[6, 9], [16, 19]]


def test_a_border_and_without_it(rng):
    x, border = rng.normal(size=(2, 3, 4, 2)), ((1, 0), (0, 2))
    y = padded(x, border, -1.0)
    assert y.shape == (2, 3, 5, 4) and y.sum() == pytest.approx(x.sum() - 6 * (4 + 8))
    assert np.array_equal(without_border(y, border), x)
    tensor = Tensor(x)
    assert padded(tensor, ((0, 0), (0, 0))) is tensor, "no border needs no copy"
    check_gradients(lambda x: padded(x, border), [x])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: window(2, 0), "kernel_size is a whole number from 1 up, or 2 of them, not 0"),
        (lambda: window(2, (3, 3, 3)), r"or 2 of them, not \(3, 3, 3\)"),
        (lambda: window(1, 2.0), "kernel_size .* not 2.0"),
        (lambda: window(1, float("nan")), "kernel_size .* not nan"),
        (lambda: window(1, 2, stride=-1), "stride .* not -1"),
        (lambda: window(1, 2, dilation=0), "dilation .* not 0"),
        (lambda: window(1, 2, padding=-1), "padding is a whole number from 0 up"),
        (lambda: window(1, 2, padding="full"), "padding .* not 'full'"),
        (lambda: window(2, 2, padding=[(1, 1)]), "a pair for each of 2 axes"),
        (lambda: window(2, 2, padding=[(1, 1), (0, -1)]), "padding .* 0 up"),
        (lambda: window(2, 2, stride=(1, 2), padding="same"), "only with stride 1"),
        (lambda: window(2, (2, 5)).places((9, 4)), r"reaches over \(2, 5\) .* in \(9, 4\)"),
        (lambda: per_axis("output_size", None, 2), "output_size .* not None"),
    ],
)
def test_what_makes_no_window_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
