"""Loss scaling: the same steps, without the zeros of float16."""

from __future__ import annotations

import numpy as np
import pytest

from chapter_03_neural_nets import SGD, Batches, Parameter, train
from chapter_04_training_dynamics import clip_grad_norm
from chapter_05_gradient_mastery import MLP, Adam, cross_entropy
from chapter_09_scaling.half_precision import HalfLinear
from chapter_09_scaling.loss_scaling import LossScaler, with_scaled_gradient
from utils import Tensor, check_gradients, grad, manual_seed

DIVISOR = 1e6  # a loss so small that float16's gradients are all 0


def scaler(lr=0.1, **options):
    p = Parameter(np.array([1.0, 2.0], np.float32))
    return LossScaler(SGD([p], lr), **options), p


def give(scaler, p, g):
    """A step on the gradient that a scaled backward pass would have left."""
    p.grad = np.array(g, np.float32) * np.float32(scaler.scale)
    scaler.scaled = True
    scaler.step()


def test_the_loss_stays_and_its_gradient_is_scaled():
    x = Tensor(np.array(3.0), requires_grad=True)
    y = with_scaled_gradient(x * x, scale=8.0)
    assert y.item() == 9 and grad(y, [x])[0].item() == 48
    composed = with_scaled_gradient.composed(x * x, scale=8.0)
    assert composed.item() == 9 and grad(composed, [x])[0].item() == 48
    (dx,) = grad(y, [x], create_graph=True)
    assert grad(dx, [x])[0].item() == 16


def test_unscaled_it_is_a_plain_rule(rng):
    check_gradients(lambda x: with_scaled_gradient(x * x, scale=1.0), [rng.normal(size=3)], order=2)


def test_a_step_is_the_optimisers_own_whatever_the_scale():
    for scale in (1.0, 2.0**16, 2.0**-10):
        s, p = scaler(init_scale=scale)
        give(s, p, [1.0, -2.0])
        np.testing.assert_array_equal(p.data, np.float32([0.9, 2.2]), f"scale {scale}")


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_skips_the_step_and_halves_the_scale(bad):
    s, p = scaler(init_scale=8.0)
    with np.errstate(all="ignore"):
        give(s, p, [1.0, bad])
    np.testing.assert_array_equal(p.data, np.float32([1, 2]), "a skipped step changes nothing")
    assert (s.scale, s.skipped, s.good_steps, s.steps) == (4.0, 1, 0, 0)


def test_after_so_many_good_steps_in_a_row_the_scale_doubles():
    s, p = scaler(init_scale=8.0, growth_interval=3)
    seen = []
    for g in (1, 1, np.inf, 1, 1, 1, 1):
        with np.errstate(all="ignore"):
            give(s, p, [g, 0.0])
        seen.append(s.scale)
    assert seen == [8, 8, 4, 4, 4, 8, 8], "an overflow begins the count anew"


def test_what_is_never_finite_is_an_error_not_an_endless_wait():
    s, p = scaler(init_scale=1.0)
    with pytest.raises(FloatingPointError, match="not float16's range"):
        for _ in range(100):
            give(s, p, [np.nan, 0.0])


def test_what_comes_behind_unscale_sees_the_gradients_themselves():
    s, p = scaler(init_scale=1024.0)
    p.grad, s.scaled = np.array([3.0, 4.0], np.float32) * 1024, True
    s.unscale()
    assert clip_grad_norm([p], 1.0) == pytest.approx(5.0)
    s.step()
    np.testing.assert_allclose(p.data, [1 - 0.1 * 0.6, 2 - 0.1 * 0.8], rtol=1e-6)


def test_gradients_made_without_watch_are_not_divided():
    s, p = scaler()
    p.grad = np.array([1.0, -2.0], np.float32)
    s.step()
    np.testing.assert_array_equal(p.data, np.float32([0.9, 2.2]))


def training(linear, scaling, steps=60, divisor=DIVISOR, checkpoint=None, seed=0, **options):
    """The losses of a small network on 16-bit numbers, and its scaler."""
    manual_seed(seed)
    data = np.random.default_rng(0)
    inputs = data.normal(size=(64, 4)).astype(np.float32)
    targets = (inputs[:, 0] * inputs[:, 1] > 0).astype(np.int64)
    model = MLP([4, 32, 2], **({} if linear is None else {"linear": linear}))

    def loss(model, inputs, targets):
        return with_scaled_gradient(cross_entropy(model(inputs), targets), scale=1 / divisor)

    optimizer = Adam(model.parameters(), 0.02, eps=1e-20)
    s = LossScaler(optimizer, **options)
    used = (s, s.watch(loss)) if scaling else (optimizer, loss)
    batches = Batches(inputs, targets, batch_size=32)
    history = train(model, used[0], batches, steps, loss=used[1], checkpoint=checkpoint)
    return history.losses, s, model


def bfloat16_linear(*sizes, **options):
    return HalfLinear(*sizes, kind="bfloat16", **options)


def test_float16_stalls_without_and_follows_float32_with_it():
    start, end = (slice(0, 4), slice(-10, None))
    plain, _, _ = training(None, scaling=False)
    stalled, _, model = training(HalfLinear, scaling=False)
    scaled, s, _ = training(HalfLinear, scaling=True, init_scale=2.0**20)
    bfloat, _, _ = training(bfloat16_linear, scaling=False)
    before, after = np.mean(plain[start]), np.mean(plain[end])
    assert after < before / 2, "the example must be one that can be learnt"
    matrices = [p.grad for p in model.parameters() if p.ndim == 2]
    assert not any(g.any() for g in matrices), "the example's gradients must underflow"
    assert np.mean(stalled[end]) > 0.8 * before, "without scaling nothing can be learnt"
    assert abs(np.mean(scaled[end]) - after) < 0.1 * before, "scaled float16 follows float32"
    assert abs(np.mean(bfloat[end]) - after) < 0.1 * before, "bfloat16 needs no scale"


def test_a_scale_far_too_large_finds_its_way_down():
    losses, s, _ = training(HalfLinear, scaling=True, divisor=1.0, init_scale=2.0**40)
    assert 10 < s.skipped < 40 and losses[-1] < losses[0]
    assert s.scale == 2.0 ** (40 - s.skipped) and s.steps == 60 - s.skipped


def test_a_run_goes_on_where_it_was_bit_for_bit(tmp_path):
    options = {"divisor": 1.0, "init_scale": 2.0**30, "growth_interval": 7}
    whole, s, model = training(HalfLinear, True, 40, **options)
    training(HalfLinear, True, 23, checkpoint=tmp_path, **options)
    again, t, other = training(HalfLinear, True, 40, checkpoint=tmp_path, seed=5, **options)
    assert whole == again
    assert (s.scale, s.good_steps, s.skipped) == (t.scale, t.good_steps, t.skipped)
    for a, b in zip(model.state_dict().values(), other.state_dict().values()):
        assert np.array_equal(a, b)


def test_another_state_is_refused_and_changes_nothing():
    s, _ = scaler(init_scale=8.0)
    good = s.state_dict()
    for bad in (
        {key: value for key, value in good.items() if key != "LossScaler.scale"},
        {**good, "LossScaler.scale": np.array(np.nan)},
        {**good, "7.x": np.array(1.0)},
    ):
        with pytest.raises(ValueError, match="LossScaler|scale must|7.x"):
            s.load_state_dict(bad)
        assert s.scale == 8.0


@pytest.mark.parametrize(
    "options",
    [
        {"init_scale": 0.0},
        {"init_scale": np.nan},
        {"growth_factor": 0.5},
        {"backoff_factor": 1.0},
        {"backoff_factor": np.nan},
        {"growth_interval": 0},
    ],
    ids=str,
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        scaler(**options)


def test_it_says_what_it_is():
    s, _ = scaler(init_scale=8.0)
    assert repr(s).startswith("LossScaler(SGD(") and repr(s).endswith("scale=8)")


def test_what_it_cannot_look_into_is_refused():
    p = Parameter(np.ones(2, np.float16))
    with pytest.raises(TypeError, match="float32"):
        LossScaler(SGD([p], 0.1))
