"""Early stopping: after how many evaluations it stops, and `train(..., stop=...)`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Batches, History, Linear, train
from chapter_08_optimization import early_stopping


def history(*values, name="loss"):
    run = History()
    run.evaluations = [{"step": i, name: v, "accuracy": -v} for i, v in enumerate(values)]
    return run


@pytest.mark.parametrize(
    "patience, min_delta, values, stops",
    [
        (1, 0.0, [3, 2, 1], []),
        (1, 0.0, [3, 3], [2]),
        (2, 0.0, [3, 2, 4, 3], [4]),
        (2, 0.0, [3, 2, 4, 1.9, 5, 6], [6]),
        (3, 0.0, [1, 2, 2], []),
        (2, 0.0, [5, 1, 4, 3, 2], [4, 5]),  # below those beside it, not below the best
        (2, 0.5, [3, 2.9, 2.8], [3]),
        (2, 0.5, [3, 2.9, 2.4], []),
        (2, 0.0, [1, math.nan, math.nan, math.nan], [3, 4]),  # NaN is no better
        (2, 0.0, [1, math.nan, 2, 2], [3, 4]),
        (2, 0.0, [math.nan, 3, 4, 5], [4]),
    ],
)
def test_it_stops_after_so_many_that_were_no_better(patience, min_delta, values, stops):
    stop = early_stopping(patience, min_delta)
    found = [n for n in range(len(values) + 1) if stop(history(*values[:n]))]
    assert found == stops, f"of {values} it stops after {found} evaluations"


@pytest.mark.parametrize("patience, min_delta, message", [
    (0, 0.0, "patience .*0"), (1.5, 0.0, "patience .*1.5"), (math.nan, 0.0, "patience .*nan"),
    (2, -1.0, "min_delta .*-1"), (2, math.nan, "min_delta .*nan"),
])  # fmt: skip
def test_bad_patience_is_named(patience, min_delta, message):
    with pytest.raises(ValueError, match=message):
        early_stopping(patience, min_delta)


LOSSES = [5, 4, 3, 3.5, 3.6, 3.7, 1, 1, 1, 1]


class Killed(Exception):
    pass


def run(steps, stop, folder=None, killed_at=None, **options):
    """A training whose evaluations, every 2 steps, are LOSSES; its weight counts the steps."""
    model = Linear(1, 1, bias=False)
    model.weight.data[...] = 0

    def kill(model):
        if model.weight.data.item() == killed_at:
            raise Killed

    batches = Batches(np.ones((4, 1), np.float32), np.zeros((4, 1)), batch_size=2)
    evaluate = lambda m: {"loss": LOSSES[round(m.weight.data.item()) // 2 - 1]}
    loss = lambda m, x, y: -m.weight.sum() + 0 * m(x).sum()
    found = train(
        model, SGD(model.parameters(), lr=1.0), batches, steps, loss, evaluate, 2,
        stop=stop, checkpoint=folder, before_step=[kill], **options,
    )  # fmt: skip
    return model.weight.data.item(), found


def test_train_stops_with_the_best_weights():
    weight, found = run(20, early_stopping(2), keep_best=True)
    assert found.steps == 10 and [e["loss"] for e in found.evaluations] == LOSSES[:5]
    assert weight == 6 and found.best["loss"] == 3, "keep_best brings back those of step 6"
    assert run(20, early_stopping(2))[0] == 10, "without it the last weights stay"
    assert run(20, early_stopping(9))[1].steps == 20
    assert run(3, early_stopping(1))[1].steps == 3


@pytest.mark.parametrize("killed_at, every", [(3, 1), (5, 2), (9, 4), (9, 3), (9, 1)])
def test_a_resumed_run_stops_where_the_whole_one_does(killed_at, every, tmp_path):
    options = {"keep_best": True, "checkpoint_every": every}
    whole, expected = run(20, early_stopping(2), **options)
    with pytest.raises(Killed):
        run(20, early_stopping(2), tmp_path, killed_at, **options)
    for _ in range(3):  # and what has stopped stays so
        weight, found = run(20, early_stopping(2), tmp_path, **options)
        assert found.steps == 10 and found.losses == expected.losses
        assert weight == whole == 6
    more = run(20, None, tmp_path, **options)[1]
    assert more.steps == 20, "without `stop` the saved run goes on"


def test_patience_may_be_numpys():
    early_stopping(np.int64(2))


def test_stopping_needs_evaluations():
    model = Linear(1, 1)
    with pytest.raises(ValueError, match="stop need"):
        train(model, SGD(model.parameters()), iter([]), 1, stop=early_stopping(1))
