"""The learning rate of a run."""

from __future__ import annotations

import pytest

from chapter_03_neural_nets import rise_and_fall


def test_up_and_then_down_to_nothing():
    lr = rise_and_fall(0.5, steps=1000, rise=10)
    assert [lr(step) for step in (0, 4, 500, 1000, 2000)] == [0.05, 0.25, 0.25, 0, 0]
    assert max(lr(step) for step in range(1000)) == pytest.approx(0.5, rel=0.02)


def test_a_run_shorter_than_the_rise_never_reaches_the_top():
    lr = rise_and_fall(1.0, steps=50)
    assert 0 < max(lr(step) for step in range(50)) < 0.5
