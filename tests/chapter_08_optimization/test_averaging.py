"""EMA and SWA: which mean it is, weights that come back, and statistics measured anew."""

from __future__ import annotations

import contextlib
import copy

import numpy as np
import pytest
from walks import number, walk

from chapter_03_neural_nets import SGD, Adam, Linear, Sequential, Tanh
from chapter_04_training_dynamics import BatchNorm1d
from chapter_08_optimization import EMA, SWA, refresh_statistics
from utils import manual_seed


def test_ema_by_hand():
    p = number(1.0)
    ema = EMA(SGD([p], lr=1.0), decay=0.75, warm_up=False)
    walk(ema, p, [-1, -2, 4])  # p is 2, 4, 0
    expected = 0.75**3 * 1 + 0.25 * (0.75**2 * 2 + 0.75 * 4 + 0)
    with ema.averaged():
        assert p.data[0] == pytest.approx(expected)
    assert p.data[0] == 0


def test_ema_soon_forgets_where_it_began():
    p = number(100.0)
    ema = EMA(SGD([p], lr=1.0), decay=0.999)
    walk(ema, p, [100.0] + [0.0] * 99)  # at 0 from the first step on
    share = np.prod([(1 + t) / (10 + t) for t in range(1, 101)])
    with ema.averaged():
        assert p.data[0] == pytest.approx(100 * share), "decay is (1 + t) / (10 + t), t = 1, 2, ..."
    late = EMA(SGD([p], lr=1.0), decay=0.2)
    walk(late, p, [-1.0] * 3)  # 2 / 11, then 0.2 twice
    with late.averaged():
        assert p.data[0] == pytest.approx((9 / 11 * 1 * 0.2 + 0.8 * 2) * 0.2 + 0.8 * 3)


@pytest.mark.parametrize(
    "start, every, taken", [(1, 1, range(1, 8)), (3, 2, [3, 5, 7]), (7, 1, [7])]
)
def test_swa_is_the_plain_mean_of_the_weights_it_takes(start, every, taken):
    p = number(50.0)
    swa = SWA(SGD([p], lr=1.0), start=start, every=every)
    seen = walk(swa, p, [-1, 4, -9, 16, -25, 36, -49])
    expected = np.mean([seen[step - 1] for step in taken])
    with swa.averaged():
        assert p.data[0] == pytest.approx(expected), "steps count from 1; the start is not in it"
    swa.use()
    assert p.data[0] == pytest.approx(expected)


def test_swa_without_a_mean_yet_does_not_throw_the_weights_away():
    p = number(50.0)
    swa = SWA(SGD([p], lr=1.0), start=10)
    walk(swa, p, [1, 1])
    with contextlib.suppress(ValueError):  # also an answer
        swa.use()
    assert p.data[0] == 48, "before `start` there is no mean; 50 is where nothing was learnt yet"


@pytest.mark.parametrize("make", [lambda o: EMA(o, 0.5), lambda o: SWA(o, start=1)])
def test_the_weights_come_back_also_after_an_exception(make):
    p = number(8.0)
    array = p.data
    optimizer = make(SGD([p], lr=1.0))
    walk(optimizer, p, [2, 2, 2])
    with pytest.raises(KeyError), optimizer.averaged():
        assert p.data[0] > 2
        raise KeyError("evaluation failed")
    assert p.data[0] == 2 and p.data is array
    with optimizer.averaged():
        first = p.data.copy()
    with optimizer.averaged():
        np.testing.assert_array_equal(p.data, first, err_msg="looking changes nothing")
    optimizer.use()
    np.testing.assert_array_equal(p.data, first)
    walk(optimizer, p, [1])
    assert p.data[0] == first - 1, "use() copies: the mean and the weights are not one array"


def test_the_mean_does_not_change_the_training():
    p, q = number(5.0), number(5.0)
    gradients = [1, -2, 3, 4]
    found = walk(EMA(Adam([p], lr=0.1), 0.9), p, gradients)
    assert found == walk(Adam([q], lr=0.1), q, gradients)


def normed():
    manual_seed(0)
    return Sequential(Linear(3, 4), BatchNorm1d(4), Tanh(), Linear(4, 4), BatchNorm1d(4))


def test_refreshed_statistics_are_means_over_the_batches(rng):
    model = normed()
    batches = list(rng.normal(2, 3, (5, 16, 3)).astype(np.float32))
    for batch in rng.normal(50, 1, (3, 16, 3)).astype(np.float32):
        model(batch)  # statistics of other data, to be forgotten
    norms = [model[1], model[4]]
    norms[1].momentum = None
    model.eval()
    model[0].train()
    modes = [m.training for m in model.modules()]
    weights = [p.data.copy() for p in model.parameters()]
    refresh_statistics(model, iter(batches))
    assert [m.training for m in model.modules()] == modes, "each module is in its mode again"
    assert [norm.momentum for norm in norms] == [0.1, None]
    for p, data in zip(model.parameters(), weights):
        np.testing.assert_array_equal(p.data, data)
    hidden = [model[0](batch).data for batch in batches]
    for found, of in ((norms[0].running_mean, np.mean), (norms[0].running_var, np.var)):
        options = {} if of is np.mean else {"ddof": 1}
        expected = np.mean([of(h, axis=0, **options) for h in hidden], axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-4)

    expected = copy.deepcopy(model.state_dict())
    refresh_statistics(model, batches)
    for key in ("1.running_mean", "4.running_mean", "4.running_var"):
        np.testing.assert_allclose(model.state_dict()[key], expected[key], rtol=1e-5, err_msg=key)


def test_a_failing_batch_leaves_modes_and_momenta(rng):
    model = normed().eval()
    with pytest.raises(ValueError):
        refresh_statistics(model, [rng.normal(size=(4, 3)), rng.normal(size=(4, 7))])
    assert not any(m.training for m in model.modules())
    assert model[1].momentum == model[4].momentum == 0.1
