"""A mixture of experts on one process: who asks whom, what comes back, and its gradients."""

from __future__ import annotations

import functools
import gc

import kernel_cases
import numpy as np
import pytest
from torch_twins import NO_TORCH

from chapter_03_neural_nets import evaluating
from chapter_05_gradient_mastery import AdamW, cross_entropy, in_threads
from chapter_07_attention import GPT, GPTConfig, LlamaConfig
from chapter_09_scaling import mixture_of_experts
from chapter_09_scaling.checkpointing import checkpointed
from chapter_09_scaling.mixture_of_experts import (
    ExpertLayer,
    MixtureOfExperts,
    balance_loss,
    combine,
    dispatch,
    inverse,
    recorded_routing,
    with_balance,
)
from utils import Tensor, check_gradients, grad

WIDTH, HIDDEN = 4, 6
CONFIG = GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=8)
ORDER = np.array([5, 0, 3, 1, 4, 2])
CASES = [
    kernel_cases.case("dispatch", (6, 3), ORDER),
    kernel_cases.case("dispatch", (3, 4), ORDER, top_k=2),
    kernel_cases.case("dispatch", (0, 4), np.zeros(0, np.int64), top_k=2),
    kernel_cases.case("combine", (6, 3), (6, 1), ORDER),
    kernel_cases.case("combine", (6, 4), (2, 3), ORDER),
    kernel_cases.case("combine", (0, 4), (0, 2), np.zeros(0, np.int64)),
]


def mixture(
    experts=5, top_k=2, dtype=np.float64, width=WIDTH, hidden=HIDDEN, **options
) -> MixtureOfExperts:
    options = {"activation": "gelu_tanh", **options}
    rng = np.random.default_rng(0)
    made = MixtureOfExperts(width, hidden, experts, top_k, rng=rng, **options).astype(dtype)
    made.router.weight.data[...] = rng.normal(size=(experts, width))
    return made


def gpt(experts=4, top_k=2, config=CONFIG, **options) -> GPT:
    layer = functools.partial(ExpertLayer, experts=experts, top_k=top_k, **options)
    model = GPT(config, layer=layer, rng=np.random.default_rng(0)).astype(np.float64)
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data += rng.normal(size=p.shape) * 0.3
    return model


def texts(batch=3):
    return np.random.default_rng(2).integers(11, size=(2, batch, 6))


def loss_of(model, ids, targets):
    return cross_entropy(model(ids), targets)


def one_by_one(model: MixtureOfExperts, x: np.ndarray) -> np.ndarray:
    """The definition: token after token, expert after expert."""
    experts, y = list(model.experts), np.zeros_like(x)
    for n, token in enumerate(x):
        logits = model.router.weight.data @ token
        p = np.exp(logits) / np.exp(logits).sum()
        chosen = sorted(range(len(experts)), key=lambda i: (-logits[i], i))[: model.top_k]
        norm = sum(p[i] for i in chosen) if model.top_k > 1 else 1.0
        for i in chosen:
            y[n] += p[i] / norm * experts[i](Tensor(token[None])).data[0]
    return y


def test_a_value_by_hand():
    """Two experts of one number that multiply by 2 and by 10; the second has probability 3/4."""
    model = MixtureOfExperts(1, 1, experts=2, top_k=1, activation="relu", bias=False)
    model.router.weight.data[...] = [[0.0], [np.log(3)]]
    for expert, factor in zip(model.experts, (2.0, 10.0)):
        expert.linear1.weight.data[...], expert.linear2.weight.data[...] = 1, factor
    x = Tensor(np.array([[1.0]], np.float32))
    assert model(x).item() == pytest.approx(7.5), "top 1: the probability times the answer"
    model.top_k = 2
    assert model(x).item() == pytest.approx(0.25 * 2 + 0.75 * 10), "top 2: both, weighted"


@pytest.mark.parametrize("experts, top_k", [(1, 1), (5, 1), (5, 2), (5, 4), (5, 5)])
def test_each_token_gets_the_answers_of_its_experts(experts, top_k, rng):
    model, x = mixture(experts, top_k), rng.normal(size=(23, WIDTH))
    found = model(Tensor(x)).data
    np.testing.assert_allclose(
        found, one_by_one(model, x), rtol=1e-12, atol=1e-14, err_msg="not what the definition says"
    )
    texts = model(Tensor(x[:20].reshape(4, 5, WIDTH)))
    np.testing.assert_allclose(texts.data.reshape(20, WIDTH), found[:20], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "top_k, activation", [(1, "gelu_tanh"), (2, "gelu_tanh"), (3, "gelu_tanh"), (2, "swiglu")]
)
def test_gradients_by_central_differences(top_k, activation, rng):
    """Of the tokens, the router and all experts; the tokens are far from ties."""
    model = mixture(3, top_k, width=3, hidden=2, activation=activation)
    x = 2 * rng.normal(size=(3, 3))
    logits = np.sort(x @ model.router.weight.data.T, axis=1)
    assert np.diff(logits, axis=1).min() > 1e-2, "a choice would change within the differences"
    owners = [
        (functools.reduce(getattr, name.split(".")[:-1], model), name.split(".")[-1])
        for name, _ in model.named_parameters()
    ]

    def run(x, *values):
        for (owner, name), value in zip(owners, values):
            vars(owner)[name] = value  # a Tensor stands in for the parameter
        with recorded_routing() as found:
            y = model(x)
        return y, found[0].balance

    check_gradients(run, [x, *(p.data for p in model.parameters())])


def test_values_and_gradients_beside_pytorch(rng):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    model, x = mixture(6, 2), rng.normal(size=(17, WIDTH))
    g = rng.normal(size=x.shape)
    ours = Tensor(x, requires_grad=True)
    y = model(ours)
    y.backward(g)
    state = {k: torch.tensor(v, requires_grad=True) for k, v in model.state_dict().items()}
    theirs = torch.tensor(x, requires_grad=True)
    top = (theirs @ state["router.weight"].T).topk(2, dim=1)
    gates, expected = top.values.softmax(dim=1), torch.zeros(x.shape, dtype=torch.float64)
    for i in range(6):  # Mixtral's way: a softmax over the chosen logits
        w1, b1, w2, b2 = (
            state[f"experts.{i}.{name}"]
            for name in ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")
        )
        rows, place = torch.where(top.indices == i)
        hidden = torch.nn.functional.gelu(theirs[rows] @ w1.T + b1, approximate="tanh")
        expected = expected.index_add(0, rows, (hidden @ w2.T + b2) * gates[rows, place][:, None])
    expected.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=0, atol=1e-12)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(
            p.grad, state[name].grad.numpy(), rtol=0, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_equal_their_composed_forms(case):
    kernel = getattr(mixture_of_experts, case.name)
    kernel_cases.agree_when_some_are_wanted(kernel, case)
    kernel_cases.agree_twice_derived(kernel, case)
    for layout in kernel_cases.LAYOUTS if case.args[0][0] else ():
        order_kept = case._replace(args=tuple(a for a in case.args if type(a) is tuple))
        arrays = [kernel_cases.LAYOUTS[layout](a) for a in order_kept.arrays()]
        kernel_cases.agree(kernel, kernel_cases.tensors([*arrays, ORDER]), **case.options)


def test_one_way_and_back():
    """Each answer comes back to the token that asked; gates of 1/2 add up to the token itself."""
    x = np.arange(12.0).reshape(3, 4)
    assert (inverse(ORDER)[ORDER] == np.arange(6)).all()
    np.testing.assert_array_equal(combine(dispatch(x, ORDER, 2), np.full((3, 2), 0.5), ORDER), x)


def test_equal_logits_ask_the_first(rng):
    model = mixture(4, 2)
    model.router.weight.data[...] = 0
    with recorded_routing() as found:
        model(Tensor(rng.normal(size=(3, WIDTH))))
    assert found[0].chosen.tolist() == [[0, 1]] * 3, "ties go to the lower numbers"
    np.testing.assert_allclose(found[0].probabilities.data, 0.25)


def test_each_expert_runs_once_on_its_own_rows(rng):
    model, rows = mixture(5, 2), []
    for expert in model.experts:
        expert.register_forward_hook(lambda module, args, y: rows.append(len(args[0])))
    with recorded_routing() as found:
        model(Tensor(rng.normal(size=(40, WIDTH))))
    assert len(rows) == 5, "experts run once, not for every token"
    assert rows == np.bincount(found[0].chosen.ravel(), minlength=5).tolist()
    assert sum(rows) == 80, "no token is dropped, however crowded an expert is"


def test_an_expert_that_nobody_asks_gets_a_gradient_of_zeros(rng):
    model = mixture(3, 1)
    model.router.weight.data[...] = 0
    np.sum(model(Tensor(rng.normal(size=(5, WIDTH))))).backward()
    asked, *others = model.experts
    assert np.abs(asked.linear1.weight.grad).max() > 0
    for expert in others:
        assert all((p.grad == 0).all() for p in expert.parameters()), "zeros, and not None"


def test_no_tokens_at_all():
    model, x = mixture(), Tensor(np.zeros((0, 3, WIDTH)), requires_grad=True)
    with recorded_routing() as found:
        y = model(x)
    assert y.shape == x.shape and found[0].balance.item() == 0
    (np.sum(y) + found[0].balance).backward()
    assert all((p.grad == 0).all() for p in model.parameters())


def test_the_router_of_top_1_learns_from_the_loss(rng):
    """With a weight of 1 it would not: that is why top 1 weighs by the probability itself."""
    model = mixture(3, 1)
    np.sum(model(Tensor(rng.normal(size=(5, WIDTH))))).backward()
    assert np.abs(model.router.weight.grad).max() > 1e-3


# The balance.


def test_balance_by_hand():
    """Three of four ask the first: 2 (3/4 * 0.6 + 1/4 * 0.4) = 1.1."""
    p = Tensor(np.array([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.3, 0.7]]), requires_grad=True)
    value = balance_loss(p, np.array([3, 1]))
    assert value.item() == pytest.approx(2 * (0.75 * 0.6 + 0.25 * 0.4))
    value.backward()
    np.testing.assert_allclose(p.grad, [[2 * 0.75 / 4, 2 * 0.25 / 4]] * 4)


def test_balance_is_1_where_all_are_asked_alike_and_grows_to_the_number_of_experts():
    even = np.full((8, 4), 0.25)
    assert balance_loss(even, np.full(4, 4), top_k=2) == pytest.approx(1)
    one = np.tile([1.0, 0, 0, 0], (8, 1))
    assert balance_loss(one, np.array([8, 0, 0, 0])) == pytest.approx(4)


def test_with_balance_adds_the_weighted_sum_over_layers():
    model, batch = gpt(), texts()
    with recorded_routing() as found:
        plain = loss_of(model, *batch).item()
    assert len(found) == CONFIG.n_layer
    total = sum(routing.balance.item() for routing in found)
    value = with_balance(loss_of, 0.25)(model, *batch)
    assert value.item() == pytest.approx(plain + 0.25 * total, rel=1e-12)


def test_the_balance_changes_the_router_only_through_its_probabilities():
    model, batch = gpt(experts=4, top_k=1), texts()
    routers = [layer.mixture.router.weight for layer in model.layers]
    last = routers[-1:]
    (g,) = grad(with_balance(loss_of, 1.0)(model, *batch), last)
    (plain,) = grad(loss_of(model, *batch), last)
    with recorded_routing() as found:
        model(batch[0])
    p, chosen = found[-1].probabilities, found[-1].chosen
    counts = np.bincount(chosen.ravel(), minlength=4) / chosen.size
    (expected,) = grad(4 * np.sum(np.mean(p, axis=0) * counts), last)
    np.testing.assert_allclose(g.data - plain.data, expected.data, rtol=1e-9, atol=1e-14)


def test_the_balance_makes_use_more_even():
    """From a router that prefers one expert, the balance alone brings the others back."""

    def largest_share(weight):
        model, batch = gpt(experts=4, top_k=1), texts(8)
        for layer in model.layers:
            layer.norm2.bias.data[0], layer.mixture.router.weight.data[0, 0] = 3, 1
        optimizer = AdamW(model.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            with_balance(loss_of, weight)(model, *batch).backward()
            optimizer.step()
        with recorded_routing() as found:
            model(batch[0])
        shares = [np.bincount(r.chosen.ravel(), minlength=4) / r.chosen.size for r in found]
        return np.max(shares)

    assert largest_share(1.0) < 0.6 < largest_share(0.0)


def test_each_thread_records_its_own():
    model, batch = gpt(), texts(4)
    loss = with_balance(loss_of, 0.5)
    halves = [loss(model, *(a[rows] for a in batch)) for rows in (slice(0, 2), slice(2, 4))]
    with recorded_routing() as found:
        value = in_threads(loss, 2)(model, *batch)
    assert value.item() == pytest.approx(np.mean([half.item() for half in halves]), rel=1e-12)
    assert found == [], "the blocks inside have lists of their own"


def test_nothing_is_recorded_outside_a_block():
    model = gpt()
    with recorded_routing() as outer:
        with recorded_routing() as inner:
            model(texts()[0])
        model(texts()[0])
    model(texts()[0])
    assert (len(inner), len(outer)) == (2, 2)


def test_a_balance_that_has_lost_its_gradient_is_an_error():
    model = GPT(CONFIG, layer=functools.partial(checkpointed(ExpertLayer), experts=4))
    with pytest.raises(RuntimeError, match="checkpoint"):
        with_balance(loss_of)(model, *texts())
    loss_of(model, *texts()).backward()  # without a balance all is well
    with evaluating(model):
        with_balance(loss_of)(model, *texts())


def test_a_model_without_experts_cannot_be_balanced():
    with pytest.raises(ValueError, match="no mixture of experts"):
        with_balance(loss_of)(GPT(CONFIG), *texts())
    for weight in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="from 0 up"):
            with_balance(loss_of, weight)


# In the model.


def test_names_and_sizes_in_gpt():
    dense, model = GPT(CONFIG), gpt(experts=4)
    own, theirs = set(dense.state_dict()), set(model.state_dict())
    assert all(".linear1." in name or ".linear2." in name for name in own - theirs)
    for name in own - theirs:
        layer, end = name.split(".")[1], ".".join(name.split(".")[2:])
        assert all(f"layers.{layer}.mixture.experts.{i}.{end}" in theirs for i in range(4))


def test_matrices_begin_as_those_of_gpt():
    """GPT draws what is called weight: small, and smaller where it adds to the residual path."""
    config = GPTConfig(11, 6, 8, 2, 64)
    expert = (
        GPT(config, layer=functools.partial(ExpertLayer, experts=2)).layers[0].mixture.experts[1]
    )
    assert expert.linear1.weight.data.std() == pytest.approx(0.02, rel=0.1)
    assert expert.linear2.weight.data.std() == pytest.approx(0.02 / 4, rel=0.1)


def test_equal_experts_are_the_dense_model():
    """If all experts are one perceptron, top 2 gives what the perceptron gives."""
    dense = GPT(CONFIG, rng=np.random.default_rng(3)).astype(np.float64)
    model = gpt(experts=3)
    state = dense.state_dict()
    for name, array in model.state_dict().items():
        if "experts" in name:
            layer, _, rest = name.partition(".mixture.experts.")
            array[...] = state[f"{layer}.{rest.partition('.')[2]}"]
        elif "router" not in name:
            array[...] = state[name]
    ids = texts()[0]
    np.testing.assert_allclose(model(ids).data, dense(ids).data, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("config", [CONFIG, LlamaConfig(11, 6, 2, 2, 8, hidden=12)])
def test_training_lowers_the_loss(config):
    model, batch = gpt(config=config), texts()
    optimizer, losses = AdamW(model.parameters(), lr=0.01), []
    for _ in range(30):
        optimizer.zero_grad()
        value = with_balance(loss_of)(model, *batch)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.6 * losses[0]


def test_float32_stays_float32(rng):
    y = mixture(dtype=np.float32)(Tensor(rng.normal(size=(3, WIDTH)).astype(np.float32)))
    assert y.dtype == np.float32
    model = GPT(CONFIG, layer=functools.partial(ExpertLayer, experts=4))
    assert with_balance(loss_of)(model, *texts()).dtype == np.float32


def test_no_cycles_are_left():
    model, batch = gpt(), texts()
    with_balance(loss_of)(model, *batch).backward()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(5):
            with_balance(loss_of)(model, *batch).backward()
        assert len(gc.get_objects()) - before < 20, "a graph must vanish without the collector"
    finally:
        gc.enable()


@pytest.mark.parametrize("experts, top_k, said", [
    (4, 5, "cannot ask 5 of 4"), (0, 1, "experts is a whole number from 1 up"),
    (4, 0, "top_k is a whole number from 1 up"), (4, True, "top_k is a whole number"),
    (2.0, 1, "experts is a whole number"),
])  # fmt: skip
def test_sizes_that_make_no_mixture(experts, top_k, said):
    with pytest.raises(ValueError, match=said):
        MixtureOfExperts(WIDTH, HIDDEN, experts, top_k)
