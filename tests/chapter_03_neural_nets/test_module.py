"""Modules: the tree that attributes build, what is read off it, and what is refused."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest

from chapter_03_neural_nets import Linear, Module, ModuleList, Parameter, ReLU, Sequential
from utils import Tensor


class Block(Module):
    """Two parameters around a part, a saved buffer and one that is not saved."""

    def __init__(self):
        super().__init__()
        self.before = Parameter(np.full(2, 1, np.float32))
        self.inner = Linear(2, 3)
        self.after = Parameter(np.full((3, 1), 2, np.float32))
        self.register_buffer("mean", np.zeros(2, np.float32))
        self.register_buffer("scratch", np.zeros(4), persistent=False)
        self.register_buffer("count", np.array(0))

    def forward(self, x):
        return self.inner(x * self.before) @ self.after


class Tied(Module):
    """Two parts with one weight, and one part under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Linear(2, 2), Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.again = self.first

    def forward(self, x):
        return self.second(self.first(x))


def names(pairs):
    return [name for name, _ in pairs]


def values(module):
    return {name: array.copy() for name, array in module.state_dict().items()}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


# The tree


def test_attributes_register_themselves_in_the_order_of_assignment():
    block = Block()
    own_first = ["before", "after", "inner.weight", "inner.bias"]
    assert names(block.named_parameters()) == own_first, "a module's own parameters come first"
    assert names(block.named_modules()) == ["", "inner"]
    assert names(block.named_children()) == ["inner"]
    assert names(block.named_buffers()) == ["mean", "scratch", "count"]
    assert [p.shape for p in block.parameters()] == [(2,), (3, 1), (3, 2), (3,)]
    assert all(isinstance(p, Parameter) and p.requires_grad for p in block.parameters())


def test_names_are_paths():
    net = Sequential(Block(), ModuleList([Block()]))
    assert "1.0.inner.weight" in names(net.named_parameters())
    assert names(net.named_parameters("net"))[0] == "net.0.before"
    assert names(net.named_modules()) == ["", "0", "0.inner", "1", "1.0", "1.0.inner"]


def test_what_is_shared_comes_once_but_is_saved_under_every_name():
    tied = Tied()
    assert names(tied.named_parameters()) == ["first.weight", "first.bias"]
    assert names(tied.named_modules()) == ["", "first", "second"]
    keys = ["first.weight", "first.bias", "second.weight", "again.weight", "again.bias"]
    assert list(tied.state_dict()) == keys, "PyTorch saves a shared parameter under each key"
    tied(Tensor([[1.0, 2.0]])).backward(np.ones((1, 2), np.float32))
    assert tied.second.weight.grad is tied.first.weight.grad


def test_an_attribute_set_to_none_leaves_the_tree_and_may_come_back():
    layer = Linear(2, 3)
    layer.bias = None
    assert names(layer.named_parameters()) == ["weight"]
    layer.bias = Parameter(np.zeros(3, np.float32))
    assert names(layer.named_parameters()) == ["weight", "bias"]
    del layer.bias
    assert names(layer.named_parameters()) == ["weight"]


def test_ordinary_attributes_are_no_members():
    block = Block()
    block.note, block.numbers, block.x = "note", [1, 2], Tensor([1.0], requires_grad=True)
    assert len(list(block.parameters())) == 4 and len(block.state_dict()) == 6


# What must be refused


@pytest.mark.parametrize("member", [lambda: Linear(1, 1), lambda: Parameter([1.0])])
def test_a_plain_list_of_members_is_refused(member):
    with pytest.raises(TypeError, match="layers.*ModuleList"):
        Block().layers = [member(), member()]


def test_a_parameter_does_not_turn_into_an_array():
    layer = Linear(2, 2)
    with pytest.raises(TypeError, match="weight is a Parameter"):
        layer.weight = np.zeros((2, 2))
    with pytest.raises(TypeError, match="inner is a Module"):
        Block().inner = lambda x: x
    assert isinstance(layer.weight, Parameter)


@pytest.mark.parametrize("member", [lambda: Linear(1, 1), lambda: Parameter([1.0])])
def test_a_forgotten_super_init_is_named(member):
    class Forgetful(Module):
        def __init__(self):
            self.part = member()

    with pytest.raises(AttributeError, match=r"Forgetful.__init__.*super\(\).__init__\(\).*part"):
        Forgetful()


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        Module()(1)


@pytest.mark.parametrize("name", ["not a name", "inner", "forward", "before"])
def test_a_buffer_takes_no_other_name(name):
    block = Block()
    with pytest.raises(ValueError, match=name):
        block.register_buffer(name, np.zeros(1))
    assert names(block.named_buffers()) == ["mean", "scratch", "count"]


# Saving and loading


def test_the_state_has_parameters_and_persistent_buffers():
    block = Block()
    assert set(block.state_dict()) == {
        *("before", "after", "inner.weight", "inner.bias"),
        *("mean", "count"),
    }
    assert all(type(array) is np.ndarray for array in block.state_dict().values())
    block.mean = block.mean + 1
    assert block.state_dict()["mean"].tolist() == [1, 1], "a buffer may be replaced by assignment"


def test_a_state_loads_into_another_module_bit_for_bit():
    block, other = Block(), Block()
    block.mean += 5
    block.count += 3
    before, weight = values(block), other.inner.weight
    assert other.load_state_dict(block.state_dict()) == ([], [])
    assert_same(other.state_dict(), before)
    assert other.inner.weight is weight, "an optimiser holds the parameter: fill it in place"
    block.inner.weight.data += 1
    assert_same(other.state_dict(), before)


def test_loading_follows_the_dtype_of_the_module():
    block, double = Block(), Block().astype(np.float64)
    block.load_state_dict(double.state_dict())
    assert block.before.dtype == block.mean.dtype == np.float32
    np.testing.assert_allclose(block.inner.weight.data, double.inner.weight.data, rtol=1e-7)


def test_every_problem_is_listed_and_nothing_is_changed():
    block, state = Block(), values(Block())
    before = values(block)
    del state["before"], state["inner.bias"]
    state["after"] = np.zeros((1, 3))
    state["count"] = np.array(1.5)
    state["head.weight"] = np.zeros(1)
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    message = str(caught.value)
    for words in [
        "Block",
        "missing: before, inner.bias",
        "unexpected: head.weight",
        "after has shape (1, 3) where (3, 1) is needed",
        "count (float64, not int64)",
    ]:
        assert words in message, f"{words!r} is not in {message!r}"
    assert "\n" not in message
    assert_same(values(block), before)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.pop("after"), "missing: after"),
        (lambda state: state.update(head=np.zeros(1)), "unexpected: head"),
        (lambda state: state.update(mean=np.zeros(3)), r"mean has shape \(3,\)"),
        (lambda state: state.update(mean=np.zeros(2, complex)), "mean .complex128, not float32"),
    ],
)
def test_one_problem_is_enough(change, message):
    block = Block()
    state, before = {name: array + 1 for name, array in values(block).items()}, values(block)
    change(state)
    with pytest.raises(ValueError, match=f": .*{message}[^;]*$"):
        block.load_state_dict(state)
    assert_same(values(block), before)


def test_not_strict_loads_what_there_is():
    block = Block()
    state = {"before": np.array([7.0, 8.0]), "head.weight": np.zeros(1)}
    loaded = block.load_state_dict(state, strict=False)
    assert loaded.missing_keys == ["after", "mean", "count", "inner.weight", "inner.bias"]
    assert loaded.unexpected_keys == ["head.weight"]
    assert block.before.data.tolist() == [7, 8]
    with pytest.raises(ValueError, match=r"before has shape \(3,\) where \(2,\)"):
        block.load_state_dict({"before": np.zeros(3)}, strict=False)


# Modes


def test_train_and_eval_reach_every_part():
    net = Sequential(Block(), ReLU())
    assert all(m.training for m in net.modules()), "a new module is in training mode"
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())


def test_freezing_stops_gradients_and_thawing_brings_them_back():
    block = Block()
    assert block.requires_grad_(False) is block
    assert not block(np.ones((1, 2), np.float32)).requires_grad
    block.requires_grad_()
    block(np.ones((1, 2), np.float32)).backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())


def test_astype_casts_floats_and_leaves_integers():
    block = Block()
    parameters = list(block.parameters())
    block.before.requires_grad = False
    assert block.astype(np.float64) is block
    assert all(p is q for p, q in zip(block.parameters(), parameters))
    assert {p.dtype for p in parameters} == {np.dtype(np.float64)}
    assert block.mean.dtype == np.float64 and block.count.dtype.kind == "i"
    assert [p.requires_grad for p in parameters] == [False, True, True, True]
    block(np.ones((1, 2))).backward()
    assert block.after.grad.dtype == np.float64
    with pytest.raises(TypeError, match="int64"):
        block.astype(np.int64)


def test_apply_calls_parts_before_the_whole():
    seen = []
    net = Sequential(Linear(1, 1), Sequential(ReLU()))
    assert net.apply(seen.append) is net
    assert seen == [net[0], net[1][0], net[1], net]


def test_a_deep_copy_has_the_same_numbers_and_shares_nothing():
    tied = Tied()
    twin = copy.deepcopy(tied)
    assert_same(values(twin), values(tied))
    assert twin.second.weight is twin.first.weight and twin.again is twin.first
    twin.first.weight.data += 1
    assert not np.any(twin.first.weight.data == tied.first.weight.data)
    assert all(isinstance(p, Parameter) and p.requires_grad for p in twin.parameters())
    twin(Tensor([[1.0, 2.0]])).backward(np.ones((1, 2), np.float32))
    assert tied.first.weight.grad is None


def test_repr_is_a_tree():
    assert repr(Sequential(Linear(2, 3), Sequential(ReLU()))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )
    assert repr(Parameter([1.0])) == "Parameter([1.], dtype=float32, requires_grad=True)"


# Hooks


def test_a_hook_before_sees_and_replaces_the_arguments():
    layer, seen = ReLU(), []
    handle = layer.register_forward_pre_hook(lambda m, args: seen.append((m, args)))
    x = Tensor([1.0, -1.0])
    assert layer(x).tolist() == [1, 0] and seen == [(layer, (x,))]
    for replaced in (lambda m, args: -args[0], lambda m, args: (-args[0],)):
        with layer.register_forward_pre_hook(replaced):
            assert layer(x).tolist() == [0, 1]
    calls = len(seen)
    handle.remove()
    handle.remove()
    layer(x)
    assert len(seen) == calls, "a removed hook is not called"


def test_a_hook_after_sees_and_replaces_the_output():
    layer, seen = ReLU(), []
    layer.register_forward_hook(lambda m, args, y: seen.append(y.tolist()))
    handle = layer.register_forward_hook(lambda m, args, y: y * 10)
    layer.register_forward_hook(lambda m, args, y: seen.append(y.tolist()))
    assert layer(Tensor([2.0])).tolist() == [20] and seen == [[2], [20]], "in order"
    handle.remove()
    assert layer(Tensor([2.0])).tolist() == [2]


def test_a_backward_hook_sees_the_gradient_of_the_output():
    net, seen = Sequential(Linear(2, 2), ReLU()), []
    handle = net[1].register_full_backward_pre_hook(lambda m, g: seen.append((m, g)))
    y = net(np.ones((1, 2), np.float32))
    (y * 3 + y).backward(np.ones((1, 2), np.float32))
    ((module, gradients),) = seen
    assert module is net[1] and isinstance(gradients, tuple)
    np.testing.assert_array_equal(gradients[0], [[4, 4]], "both uses of the output count")
    handle.remove()
    net(np.ones((1, 2), np.float32)).backward(np.ones((1, 2), np.float32))
    assert len(seen) == 1


def test_hooks_of_parts_run_inside_those_of_the_whole():
    net, seen = Sequential(ReLU()), []
    for name, module in [("whole", net), ("part", net[0])]:
        module.register_forward_pre_hook(lambda m, args, n=name: seen.append(f"before {n}"))
        module.register_forward_hook(lambda m, args, y, n=name: seen.append(f"after {n}"))
    net(Tensor([1.0]))
    assert seen == ["before whole", "before part", "after part", "after whole"]


def test_modules_with_hooks_leave_no_cycles():
    def use():
        net = Sequential(Linear(2, 2), ReLU())
        net[0].register_forward_hook(lambda m, args, y: None)
        net[0].register_full_backward_pre_hook(lambda m, g: None)
        net(np.ones((1, 2), np.float32)).backward(np.ones((1, 2), np.float32))

    use()
    gc.collect()
    gc.disable()
    try:
        use()
        assert gc.collect() == 0, "memory waits for the garbage collector: find the cycle"
    finally:
        gc.enable()
