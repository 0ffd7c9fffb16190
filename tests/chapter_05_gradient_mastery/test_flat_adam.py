"""Adam over one flat buffer walks where chapter 3's walks, whatever happens to the parameters.

Twins, one for each optimiser, start alike and get the same gradients; after every step they are
compared.
"""

from __future__ import annotations

import numpy as np
import pytest

import chapter_03_neural_nets as chapter_03
import chapter_05_gradient_mastery as chapter_05
from chapter_03_neural_nets import Parameter
from chapter_05_gradient_mastery.flat_adam import BLOCK
from utils import Tensor

SHAPES = [(3, 4), (4,), (1, 1), (0, 5), (2, 1, 3), (1,)]
TOLERANCE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}
NAMES = ["Adam", "AdamW"]


def warm_up_and_down(step):
    return 0.02 * min((step + 1) / 10, 1 - step / 100)


OPTIONS = [
    {},
    {"lr": 0.1, "weight_decay": 0.3},
    {"lr": warm_up_and_down, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-3},
    {"lr": 0.0, "weight_decay": 0.1},
]


class Twins:
    """The same parameters twice, with chapter 3's optimiser and with ours."""

    def __init__(self, name, shapes=SHAPES, dtypes=(np.float32,), groups=None, seed=0, **options):
        rng = np.random.default_rng(seed)
        self.rng, self.params, self.optimizers = np.random.default_rng(seed + 1), [], []
        arrays = [rng.normal(size=s).astype(dtypes[i % len(dtypes)]) for i, s in enumerate(shapes)]
        for chapter in (chapter_03, chapter_05):
            params = [Parameter(a.copy()) for a in arrays]
            given = params if groups is None else groups(params)
            self.params.append(params)
            self.optimizers.append(getattr(chapter, name)(given, **options))

    def step(self, without=()):
        """One step of both with the same gradients, of very different sizes; then compare."""
        for i, pair in enumerate(zip(*self.params)):
            g = self.rng.normal(size=pair[0].shape) * 10.0 ** (i - 2)
            for p in pair:
                p.grad = None if i in without else np.array(g, p.dtype)
        for optimizer in self.optimizers:
            optimizer.step()
        self.compare()

    def compare(self):
        for i, (theirs, ours) in enumerate(zip(*self.params)):
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            tolerance = TOLERANCE[ours.dtype]
            np.testing.assert_allclose(
                ours.data, theirs.data, tolerance, tolerance,
                err_msg=f"parameter {i} after {self.optimizers[0].steps} steps",
            )  # fmt: skip
        theirs, ours = (optimizer.state_dict() for optimizer in self.optimizers)
        for name in theirs:
            if name.endswith(("step", "steps")):
                assert ours[name] == theirs[name], f"the count {name}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fifty_steps(name, dtype, options):
    twins = Twins(name, dtypes=(dtype,), **options)
    for _ in range(50):
        twins.step()
    for optimizer in twins.optimizers:
        assert optimizer.steps == 50 and all(s["step"] == 50 for s in optimizer.state.values())


@pytest.mark.parametrize("name", NAMES)
def test_groups_with_options_of_their_own(name):
    def groups(params):
        return [
            {"params": params[:2], "weight_decay": 0.0, "lr": 0.05},
            {"params": params[2:4], "betas": (0.5, 0.9)},
            {"params": params[4:], "lr": warm_up_and_down},
        ]

    twins = Twins(name, groups=groups, weight_decay=0.2, dtypes=(np.float64,))
    for _ in range(50):
        twins.step()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_gradients_at_some_steps(name):
    twins = Twins(name, dtypes=(np.float64,), weight_decay=0.1)
    for step in range(30):
        twins.step(without={0: [], 1: [2], 2: [0, 1, 4], 3: range(6)}[step % 4])
    twins.step()


@pytest.mark.parametrize("name", NAMES)
def test_frozen_for_a_while(name):
    twins = Twins(name, dtypes=(np.float64,))
    for _ in range(3):
        twins.step()
    frozen = [params[1] for params in twins.params]
    for p in frozen:
        p.grad, p.requires_grad = None, False
    before = frozen[1].data.copy()
    for _ in range(3):
        step_without_touching(twins, 1)
    np.testing.assert_array_equal(frozen[1].data, before)
    for p in frozen:
        p.requires_grad = True
    for _ in range(3):
        twins.step()


def step_without_touching(twins, frozen):
    for i, pair in enumerate(zip(*twins.params)):
        g = twins.rng.normal(size=pair[0].shape)
        for p in pair:
            if i != frozen:
                p.grad = g.astype(p.dtype)
    for optimizer in twins.optimizers:
        optimizer.step()
    twins.compare()


@pytest.mark.parametrize("name", NAMES)
def test_mixed_dtypes(name):
    twins = Twins(name, dtypes=(np.float32, np.float64), weight_decay=0.1)
    for _ in range(20):
        twins.step()


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_more_numbers_than_one_block(extra):
    twins = Twins("AdamW", shapes=[(5,), (2 * BLOCK + extra - 5,), (3, 7)], dtypes=(np.float64,))
    for _ in range(3):
        twins.step()


def test_nothing_but_empty_parameters():
    twins = Twins("Adam", shapes=[(0,), (3, 0)])
    for _ in range(3):
        twins.step()


@pytest.mark.parametrize("without", [[], [1]], ids=["in the sweep", "one by one"])
def test_a_parameter_without_axes(without):
    """A temperature, or the scale of logits, is one number."""
    twins = Twins("AdamW", shapes=[(), (2,)])
    for _ in range(3):
        twins.step(without=without)


def test_a_parameter_without_axes_in_the_sweep_by_hand():
    p = Tensor(np.array(1.0), requires_grad=True)
    optimizer = chapter_05.Adam([p, Parameter(np.ones(2))], lr=0.1)
    for parameter in optimizer.parameters():
        parameter.grad = np.full(parameter.shape, 5.0)
    optimizer.step()
    np.testing.assert_allclose(p.data, 0.9)
    assert p.shape == ()


# States


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "first, then", [(0, 1), (1, 0), (1, 1)], ids=["3 to 5", "5 to 3", "5 to 5"]
)
def test_the_state_of_an_optimizer_passes_either_way(name, first, then):
    straight, other = Twins(name, dtypes=(np.float64,)), Twins(name, dtypes=(np.float64,), seed=5)
    for _ in range(5):
        straight.step()
        other.step()
    saved = {k: v.copy() for k, v in straight.optimizers[first].state_dict().items()}
    for p, q in zip(straight.params[first], other.params[then]):
        q.data[...] = p.data
    other.optimizers[then].load_state_dict(saved)
    assert set(saved) == set(other.optimizers[then].state_dict())
    for _ in range(10):
        for p, q in zip(straight.params[first], other.params[then]):
            p.grad = straight.rng.normal(size=p.shape)
            q.grad = p.grad.copy()
        straight.optimizers[first].step()
        other.optimizers[then].step()
        for p, q in zip(straight.params[first], other.params[then]):
            np.testing.assert_allclose(q.data, p.data, 1e-12, 1e-12)


def test_what_is_loaded_is_copied_and_what_is_saved_stays_current():
    twins = Twins("Adam")
    twins.step()
    optimizer = twins.optimizers[1]
    saved = {k: v.copy() for k, v in optimizer.state_dict().items()}
    optimizer.load_state_dict(saved)
    kept = {k: v.copy() for k, v in saved.items()}
    twins.optimizers[0].load_state_dict(saved)
    twins.step()
    for name, value in saved.items():
        np.testing.assert_array_equal(value, kept[name], err_msg="a step changed what was loaded")


def test_data_put_in_place_by_hand():
    twins = Twins("AdamW", dtypes=(np.float64,))
    for step in range(8):
        twins.step()
        for params in twins.params:
            if step == 3:
                params[0].data = np.full((3, 4), 0.5)
            if step == 5:
                params[1].data[...] = 0.25


def test_two_optimizers_on_the_same_parameters():
    twins = Twins("Adam", dtypes=(np.float64,))
    seconds = [
        chapter.AdamW(params[:2], lr=0.01)
        for chapter, params in zip((chapter_03, chapter_05), twins.params)
    ]
    for _ in range(8):
        twins.step()
        for optimizer in seconds:
            optimizer.step()
        twins.compare()


def test_a_parameter_taken_out_of_its_group_is_left_alone():
    twins = Twins("AdamW", dtypes=(np.float64,))
    twins.step()
    for optimizer in twins.optimizers:
        optimizer.param_groups[0]["params"].pop(0)
    before = twins.params[1][0].data.copy()
    twins.step(without=[0])
    np.testing.assert_array_equal(twins.params[1][0].data, before)


# Views


def test_parameters_stay_arrays_that_one_can_use():
    twins = Twins("Adam")
    twins.step()
    for p in twins.params[1]:
        assert isinstance(p, Parameter) and p.requires_grad and p.data.flags.writeable
        assert type(p.data) is np.ndarray and p.data.flags.c_contiguous
    p, q = twins.params[1][:2]
    q_before = q.data.copy()
    p.data *= 0
    np.testing.assert_array_equal(q.data, q_before, err_msg="one parameter's memory is its own")
    for optimizer_state in twins.optimizers[1].state.values():
        assert optimizer_state["exp_avg"].shape == optimizer_state["exp_avg_sq"].shape


def test_parameters_that_are_not_contiguous():
    base = np.arange(12.0).reshape(3, 4)
    params = [[Parameter(base.copy().T), Parameter(np.ones(8)[::2])] for _ in range(2)]
    optimizers = [c.Adam(p, lr=0.1) for c, p in zip((chapter_03, chapter_05), params)]
    for _ in range(5):
        for p, q in zip(*params):
            p.grad, q.grad = np.cos(p.data), np.cos(p.data)
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(*params):
        np.testing.assert_allclose(q.data, p.data, rtol=1e-12)


def test_gradients_are_left_as_they_are():
    p = Tensor(np.ones(3), requires_grad=True)
    optimizer = chapter_05.AdamW([p], lr=0.1)
    p.grad = g = np.array([1.0, -2.0, 3.0])
    optimizer.step()
    assert p.grad is g and g.tolist() == [1, -2, 3]


def test_the_first_step_by_hand():
    p = Tensor(np.array([1.0, -1.0]), requires_grad=True)
    optimizer = chapter_05.AdamW([p], lr=0.1, weight_decay=0.5)
    p.grad = np.array([4.0, -0.01])
    optimizer.step()
    np.testing.assert_allclose(p.data, [0.95 - 0.1, -0.95 + 0.1], rtol=1e-5)
