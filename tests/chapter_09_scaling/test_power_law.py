"""The scaling law and its fit: constants that are known come back, and a bad run bends nothing."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_09_scaling import power_law
from chapter_09_scaling.power_law import (
    PowerLaw,
    bootstrap,
    compute_optimal,
    fit_power_law,
    huber,
    interval,
    log_loss,
    minimized,
    starting_points,
)
from utils import Tensor, grad

TRUE = PowerLaw(E=1.2, A=8.0, B=60.0, alpha=0.35, beta=0.33)
THETA = np.log([1.3, 5.0, 90.0, 0.3, 0.4])


def grid(sizes=5, lengths=5):
    parameters, tokens = np.meshgrid(
        np.geomspace(3e3, 150e3, sizes), np.geomspace(5e5, 4e6, lengths), indexing="ij"
    )
    return parameters.ravel(), tokens.ravel()


def noisy(noise, seed=0, law=TRUE):
    parameters, tokens = grid()
    errors = np.random.default_rng(seed).standard_normal(len(tokens))
    return parameters, tokens, law(parameters, tokens) * np.exp(noise * errors)


def test_a_loss_by_hand():
    law = PowerLaw(E=1.0, A=4.0, B=9.0, alpha=0.5, beta=0.25)
    assert law(16.0, 81.0) == pytest.approx(1 + 4 / 4 + 9 / 3)
    np.testing.assert_allclose(law(np.array([16.0, 1.0]), 81.0), [5.0, 8.0])


def test_more_of_either_never_hurts_and_e_is_the_floor():
    parameters, tokens = grid()
    losses = TRUE(parameters, tokens).reshape(5, 5)
    assert (np.diff(losses, axis=0) < 0).all() and (np.diff(losses, axis=1) < 0).all()
    assert TRUE(1e40, 1e40) == pytest.approx(TRUE.E)


def test_constants_come_back_from_runs_without_noise():
    for law in (TRUE, PowerLaw(0.5, 400.0, 400.0, 0.6, 0.3), PowerLaw(1.7, 2.0, 5e4, 0.2, 0.8)):
        runs = grid()
        np.testing.assert_allclose(
            fit_power_law(*runs, law(*runs)), law, rtol=1e-4,
            err_msg="runs that obey a law exactly must give its constants back",
        )  # fmt: skip


def test_constants_lie_within_their_intervals_and_larger_models_are_foretold():
    inside = []
    for seed in range(3):
        runs = noisy(3e-3, seed)
        law = fit_power_law(*runs)
        laws = bootstrap(law, *runs, resamples=100, rng=np.random.default_rng(seed))
        for name, true in TRUE._asdict().items():
            low, high = interval(getattr(laws, name))
            assert low < getattr(law, name) < high, f"{name}: the fit lies outside its interval"
            inside.append(low <= true <= high)
        assert law(450e3, 4e6) == pytest.approx(TRUE(450e3, 4e6), rel=0.01)
    assert (
        np.mean(inside) >= 0.7
    ), f"90 % intervals hold the true constants in {np.mean(inside):.0%}"


def test_intervals_are_as_wide_as_the_noise():
    def width(noise):
        runs = noisy(noise)
        law = fit_power_law(*runs)
        low, high = interval(
            bootstrap(law, *runs, resamples=50, rng=np.random.default_rng(0)).alpha
        )
        return high - low

    assert 3 < width(4e-3) / width(5e-4) < 16, "eight times the noise, eight times the interval"


def test_a_run_gone_wrong_does_not_bend_the_law():
    parameters, tokens, losses = noisy(1e-3)
    losses[7] *= 1.3
    robust = fit_power_law(parameters, tokens, losses)
    squares = fit_power_law(parameters, tokens, losses, delta=1e3)
    at, true = (450e3, 4e6), TRUE(450e3, 4e6)
    errors = [abs(law(*at) / true - 1) for law in (robust, squares)]
    assert errors[0] < 0.005, f"one bad run of 25 moved the prediction by {errors[0]:.2%}"
    assert errors[1] > 3 * errors[0], "squares follow the bad run: is Huber's function in use?"


def test_huber_is_a_square_within_and_a_line_beyond():
    np.testing.assert_allclose(huber(np.array([0.0, 0.5, -1.0, 3.0]), 1.0), [0, 0.125, 0.5, 2.5])


def on_tensors(theta, n, d, y, weights, delta):
    """The objective of one law as it is written in the paper, for the engine to differentiate."""
    e, a, b, log_alpha, log_beta = (theta[i] for i in range(5))
    predicted = np.log(
        np.exp(e) + np.exp(a - np.exp(log_alpha) * n) + np.exp(b - np.exp(log_beta) * d)
    )
    error = abs(predicted - y)
    within = np.minimum(error, delta)
    return np.sum(weights * within * (error - within / 2)), predicted


@pytest.mark.parametrize("delta", [1e-3, 0.05, 10.0])
def test_derivatives_are_those_of_the_engine(delta):
    parameters, tokens = grid(3, 3)
    n, d, y = np.log(parameters), np.log(tokens), np.log(TRUE(parameters, tokens))
    weights = np.arange(9.0)
    theta = Tensor(THETA, requires_grad=True)
    objective, expected = on_tensors(theta, n, d, y, weights, delta)
    predicted, jacobian = log_loss(THETA[None], n, d)
    np.testing.assert_allclose(predicted[0], expected.data, rtol=1e-12)
    for row in range(9):
        g = np.eye(9)[row]
        np.testing.assert_allclose(
            jacobian[0, :, row], grad(expected, theta, g)[0].data, rtol=1e-9,
            err_msg=f"run {row}: the log of a sum changes by each term as much as its share is",
        )  # fmt: skip
    errors = predicted[0] - y
    slope = weights * np.clip(errors, -delta, delta)
    np.testing.assert_allclose(
        jacobian[0] @ slope, grad(objective, theta)[0].data, rtol=1e-8, atol=1e-12
    )
    found = (weights * huber(errors, delta)).sum()
    assert found == pytest.approx(objective.item())


def test_a_fit_ends_where_the_engine_finds_no_slope():
    runs = noisy(5e-3)
    law = fit_power_law(*runs, delta=0.1)
    n, d, y = (np.log(column) for column in runs)
    theta = Tensor(np.log(law), requires_grad=True)
    slope = grad(on_tensors(theta, n, d, y, np.ones(25), 0.1)[0], theta)[0].data
    assert np.abs(slope).max() < 1e-7, f"the fit stopped on a slope: {slope}"


def test_weights_are_runs_that_occur_so_often():
    n, d, y = (np.log(column) for column in noisy(5e-3))
    counts = np.random.default_rng(1).integers(0, 3, size=25).astype(float)
    drawn = np.repeat(np.arange(25), counts.astype(int))
    start = starting_points(n, d, y)[:1]
    weighted, _ = minimized(start, n, d, y, counts, 0.01)
    repeated, _ = minimized(start, n[drawn], d[drawn], y[drawn], np.ones(len(drawn)), 0.01)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-5)


def test_starting_points_go_through_the_middle_of_the_runs():
    n, d, y = (np.log(column) for column in noisy(0.0))
    points = starting_points(n, d, y)
    assert len(np.unique(points, axis=0)) == len(points)
    middle, _ = log_loss(points, n.mean(keepdims=True), d.mean(keepdims=True))
    np.testing.assert_allclose(middle, y.mean())


def test_the_best_split_is_what_a_search_finds():
    for law in (TRUE, PowerLaw(1.69, 406.4, 410.7, 0.34, 0.28)):
        for flops in (1e12, 1e18, 5.76e23):
            parameters, tokens = compute_optimal(law, flops)
            assert 6 * parameters * tokens == pytest.approx(flops)
            sizes = parameters * np.geomspace(0.01, 100, 20001)
            searched = sizes[np.argmin(law(sizes, flops / (6 * sizes)))]
            assert parameters == pytest.approx(searched, rel=1e-3)
            fall = law.alpha * law.A / parameters**law.alpha
            assert fall == pytest.approx(law.beta * law.B / tokens**law.beta)


def test_many_laws_at_once_are_each_of_them():
    laws = PowerLaw(*(np.array([x, 1.1 * x]) for x in TRUE))
    second = PowerLaw(*(1.1 * x for x in TRUE))
    np.testing.assert_allclose(laws(1e5, 1e6), [TRUE(1e5, 1e6), second(1e5, 1e6)])
    for both, one in zip(compute_optimal(laws, 1e12), compute_optimal(second, 1e12)):
        assert both[1] == pytest.approx(one)


def test_the_bootstrap_is_the_same_with_the_same_generator():
    runs = noisy(3e-3)
    first, again = (
        bootstrap(TRUE, *runs, resamples=20, rng=np.random.default_rng(5)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.E.shape == (20,) and np.std(first.E) > 0


def test_what_no_law_describes_ends_all_the_same():
    rng = np.random.default_rng(0)
    runs = (*grid(3, 3), 3 + rng.random(9))
    law = fit_power_law(*runs)
    laws = bootstrap(law, *runs, resamples=50, rng=rng)
    assert np.isfinite(law).all() and np.isfinite(laws).all(), "noise must not end in infinity"
    assert (np.exp(power_law.LEAST) * 0.999 <= law).all()


def test_an_interval_is_the_middle():
    assert interval(np.arange(101.0)) == pytest.approx((5, 95))
    assert interval(np.arange(101.0), 0.5) == pytest.approx((25, 75))


def changed(index, value):
    columns = [column.copy() for column in noisy(0.0)]
    columns[index][3] = value
    return columns


@pytest.mark.parametrize(
    "columns, said",
    [
        ([c[:5] for c in noisy(0.0)], "6 runs"),
        ([np.full(25, 1e4), *noisy(0.0)[1:]], "3 sizes"),
        ([noisy(0.0)[0], np.full(25, 1e6), noisy(0.0)[2]], "3 numbers of tokens"),
        (changed(2, np.nan), "losses"),
        (changed(2, 0.0), "losses"),
        (changed(2, -1.0), "losses"),
        (changed(2, np.inf), "losses"),
        (changed(0, 0.0), "parameters"),
        (changed(1, np.nan), "tokens"),
        ([*noisy(0.0)[:2], noisy(0.0)[2][:-1]], "one number each"),
        ([np.zeros((2, 3))] * 3, "one number each"),
    ],
    ids=["few", "one size", "one length", "nan", "zero", "negative", "infinite", "no parameters",
         "nan tokens", "lengths", "matrix"],
)  # fmt: skip
def test_runs_that_tell_no_law_are_refused(columns, said):
    with pytest.raises(ValueError, match=said):
        fit_power_law(*columns)
    with pytest.raises(ValueError, match=said):
        bootstrap(TRUE, *columns)


@pytest.mark.parametrize("delta", [0.0, -1.0, np.nan])
def test_a_delta_that_is_none_is_refused(delta):
    with pytest.raises(ValueError, match="delta"):
        fit_power_law(*noisy(0.0), delta=delta)
