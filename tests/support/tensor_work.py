"""What ranks do in the tests of tensor parallelism: each case beside the single process."""

from __future__ import annotations

import functools
import hashlib
import json
import sys

import numpy as np

from chapter_03_neural_nets import SGD
from chapter_04_training_dynamics import clip_grad_norm
from chapter_05_gradient_mastery import AdamW, Linear, cross_entropy
from chapter_07_attention import (
    GPT,
    GPTConfig,
    LlamaConfig,
    MultiheadAttention,
    TransformerEncoderLayer,
)
from chapter_09_scaling import grid, run
from chapter_09_scaling.checkpointing import checkpointed
from chapter_09_scaling.replicas import DataParallel
from chapter_09_scaling.shared_batches import SharedBatches, shared
from chapter_09_scaling.tensor_parallel import (
    clip_tensor_parallel_grad_norm,
    cuts_of,
    gather_state,
    shard_state,
    tensor_parallel_gpt,
    tensor_parallel_grad_norm,
)
from chapter_09_scaling.tensor_parallel_layers import (
    ColumnParallelLinear,
    RowParallelLinear,
    TensorParallelAttention,
    TensorParallelLayer,
    copied,
    shares,
    summed,
)
from chapter_09_scaling.traffic import ring_all_reduce_bytes, tensor_parallel_bytes
from chapter_09_scaling.vocab_parallel import VocabParallelEmbedding, vocab_parallel_cross_entropy
from utils import Tensor, grad

CONFIGS = {
    "gpt2": GPTConfig(13, 6, 2, 4, 16),
    "llama": LlamaConfig(13, 6, 1, 8, 16, n_kv_head=4, hidden=10),
    "alibi": GPTConfig(13, 6, 1, 5, 10, positions="alibi", bias=False, tied=False, hidden=7,
                       activation="relu", window=4),
}  # fmt: skip
BATCH, TIME, STEPS = 5, 6, 20


def batches(count: int, seed: int = 1) -> list:
    """Ids and targets, some of them ignored."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        targets = rng.integers(13, size=(BATCH, TIME))
        targets[rng.random(targets.shape) < 0.2] = -100
        found.append((rng.integers(13, size=(BATCH, TIME)), targets))
    return found


def whole_gpt(config, dtype) -> GPT:
    """A model that no seed of a rank changes; its biases and norms are not what they began as."""
    rng = np.random.default_rng(0)
    model = GPT(config, rng=rng)
    for p in model.parameters():
        p.data[...] += 0.1 * rng.normal(size=p.shape).astype(np.float32)
    return model.astype(dtype)


def part_of(config, comm, dtype, **options) -> GPT:
    # Only rank 0 says how it begins.
    state = whole_gpt(config, np.float32).state_dict()
    if comm.rank:
        state = {name: np.zeros_like(array) for name, array in state.items()}
    return tensor_parallel_gpt(config, comm, state, **options).astype(dtype)


def difference(a, b) -> float:
    found = float(np.abs(np.asarray(a) - np.asarray(b)).max(initial=0))
    return found if found < 1e300 else 1e300  # NaN is not below, and JSON has none


def worst(a: dict, b: dict) -> dict:
    """The largest differences by name; infinite where names, dtypes or shapes differ."""
    if list(a) != list(b):
        return {"names": 1e300}
    fits = all((a[k].shape, a[k].dtype) == (b[k].shape, b[k].dtype) for k in a)
    return {k: difference(a[k], b[k]) for k in a} if fits else {"shapes or dtypes": 1e300}


def gradients(model) -> dict:
    return {name: p.grad for name, p in model.named_parameters()}


def gathered_gradients(model, comm) -> dict:
    """The whole model's gradients, gathered as parameters are."""
    kept = [p.data.copy() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    for p in model.parameters():
        p.data[...] = p.grad
    state = gather_state(model, comm)
    for p, data in zip(model.parameters(), kept):
        p.data[...] = data
    return {name: state[name] for name in names}


def common_digest(model) -> str:
    """The bits of what every rank must have alike: parameters and gradients that are not cut."""
    cut, digest = cuts_of(model), hashlib.sha256()
    for name, p in model.named_parameters():
        if name not in cut:
            digest.update(p.data.tobytes() + p.grad.tobytes())
    return digest.hexdigest()


def trained(comm, name: str, dtype: str, vocabulary: bool) -> dict:
    """One model cut among the ranks and one that is not: gradients, and 20 steps of both."""
    config = CONFIGS[name]
    single, model = whole_gpt(config, dtype), part_of(config, comm, dtype, vocabulary=vocabulary)
    # A key's bias changes no share, so its gradient is rounding, which AdamW divides by itself.
    rate = {
        "float32": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
        "float64": lambda parameters: AdamW(parameters, lr=1e-3, eps=1e-4),
    }[dtype]
    optimizers = rate(single.parameters()), rate(model.parameters())
    report = {"loss": 0.0, "norm": 0.0}
    report["begin"] = worst(gather_state(model, comm), single.state_dict())
    for step, (ids, targets) in enumerate(batches(STEPS)):
        for o in optimizers:
            o.zero_grad()
        loss = cross_entropy(single(ids), targets)
        loss.backward()
        before = comm.sent_bytes
        if vocabulary:
            own = vocab_parallel_cross_entropy(
                model(ids), targets, vocab_size=config.vocab_size, comm=comm
            )
        else:
            own = cross_entropy(model(ids), targets)
        own.backward()
        if step == 0:
            report["sent"] = comm.sent_bytes - before
            report["theory"] = theory(config, comm, dtype, vocabulary, (targets != -100).sum())
            report["gradients"] = worst(gathered_gradients(model, comm), gradients(single))
        report["loss"] = max(report["loss"], difference(loss.data, own.data))
        if step % 2:
            norms = (clip_grad_norm(single.parameters(), 0.5),
                     clip_tensor_parallel_grad_norm(model, comm, 0.5))  # fmt: skip
            report["norm"] = max(report["norm"], difference(*norms))
        for o in optimizers:
            o.step()
    report["end"] = worst(gather_state(model, comm), single.state_dict())
    report["common"] = common_digest(model)
    if not vocabulary:
        report["next"] = difference(model.next_logits([1, 2, 3]), single.next_logits([1, 2, 3]))
    return report


def theory(config, comm, dtype, vocabulary, counted) -> float:
    """What a step sends by the formula of the accounting."""
    itemsize, n, rank = np.dtype(dtype).itemsize, comm.size, comm.rank
    sent = tensor_parallel_bytes(config, BATCH, TIME, itemsize, n, rank)
    if vocabulary:  # the embedding forward, the head backward; largest, sum, and the target's logit
        for numbers in (BATCH * TIME * config.n_embd,) * 2 + (int(counted), 2 * int(counted)):
            sent += ring_all_reduce_bytes(numbers, itemsize, n, rank)
    return sent


# The parts alone.


def by_hand(comm) -> dict:
    """x = 3 on all ranks; rank r multiplies it by r + 1."""
    x = Tensor(np.array(3.0), requires_grad=True)
    y = summed(copied(x, comm) * (comm.rank + 1.0), comm)
    (dx,) = grad(y, x)
    alone = Tensor(np.array(3.0), requires_grad=True)
    (dx_alone,) = grad(summed(alone * (comm.rank + 1.0), comm), alone)
    plain = np.array(2.0)
    return {
        "factor": comm.rank + 1,
        "y": y.item(),
        "dx": dx.item(),
        "dx of an own x": dx_alone.item(),
        "on arrays": [float(copied(plain, comm)), float(summed(plain, comm))],
    }


def second_derivatives(comm) -> float:
    """A product of the Hessian of |gradient|^2 with a vector, through cut layers and whole ones."""
    rng = np.random.default_rng(2)
    layers = [Linear(4, 5, rng=rng), Linear(5, 3, rng=rng)]
    x = rng.normal(size=(2, 4))
    rng = np.random.default_rng(2)
    parts = [ColumnParallelLinear(4, 5, rng=rng, comm=comm),
             RowParallelLinear(5, 3, rng=rng, comm=comm)]  # fmt: skip
    found = []
    for first, second in (layers, parts):
        first.astype(np.float64), second.astype(np.float64)
        own = Tensor(x, requires_grad=True)
        y = np.sum(np.tanh(second(np.tanh(first(own)))) ** 2)
        (dx,) = grad(y, own, create_graph=True)
        (ddx,) = grad(np.sum(np.sin(dx)), own, create_graph=True)
        found.append([dx.data, ddx.data, grad(np.sum(ddx**2), own)[0].data])
    return max(map(difference, *found))


def attention(comm) -> dict:
    """Grouped queries, another memory, and masks of all kinds, in float64."""
    found = {}
    masks = {
        "no mask": None,
        "one mask": np.random.default_rng(3).random((3, 4)) < 0.8,
        "a mask a head": np.random.default_rng(4).normal(size=(10, 3, 4)),
        "a mask a row and head": np.random.default_rng(5).random((2, 10, 3, 4)) < 0.8,
        "a mask a row": np.random.default_rng(5).random((2, 1, 3, 4)) < 0.8,
    }
    options = {"num_kv_heads": 5, "head_dim": 3}
    for name, mask in masks.items():
        results = []
        for make in (MultiheadAttention, functools.partial(TensorParallelAttention, comm=comm)):
            part = make(8, 10, rng=np.random.default_rng(6), **options).astype(np.float64)
            part.out_proj.bias.data[...] = np.arange(8)
            rng = np.random.default_rng(7)
            x, memory = (Tensor(rng.normal(size=(2, t, 8)), requires_grad=True) for t in (3, 4))
            y = part(x, memory, mask)
            y = y + part(x, mask=None if mask is None else mask[..., :3])
            leaves = [x, memory, part.out_proj.bias]
            results.append([y.data, *(g.data for g in grad(np.sum(y**2), leaves))])
        found[name] = max(map(difference, *results))
    return found


def layer(comm) -> dict:
    """A layer of 2017, with its norms behind the sums."""
    results = []
    for make in (TransformerEncoderLayer, functools.partial(TensorParallelLayer, comm=comm)):
        part = make(8, 4, 9, 0.0, "gelu", rng=np.random.default_rng(8)).astype(np.float64)
        x = Tensor(np.random.default_rng(9).normal(size=(2, 3, 8)), requires_grad=True)
        y = part(x)
        part.zero_grad()
        np.sum(y**3).backward()
        common = [part.norm1.weight, part.norm2.bias, part.linear2.bias]
        results.append([y.data, x.grad, *(p.grad for p in common)])
    return {"gelu, norm behind": max(map(difference, *results))}


def checkpointed_bytes(comm) -> list:
    """What a step sends whose layers run forward twice, by count and by formula."""
    config = CONFIGS["gpt2"]
    model = part_of(config, comm, "float64", layer=checkpointed(TensorParallelLayer))
    plain = part_of(config, comm, "float64")
    ids, targets = batches(1)[0]
    cross_entropy(plain(ids), targets).backward()
    before = comm.sent_bytes
    cross_entropy(model(ids), targets).backward()
    sent = comm.sent_bytes - before
    said = tensor_parallel_bytes(config, BATCH, TIME, 8, comm.size, comm.rank, checkpointing=True)
    return [sent, said, max(worst(gradients(model), gradients(plain)).values())]


def embedding_and_loss(comm) -> dict:
    """The vocabulary's parts alone: extreme logits, ids at both ends of every part."""
    rng = np.random.default_rng(10)
    table = VocabParallelEmbedding(7, 3, rng=np.random.default_rng(11), comm=comm)
    ids = np.array([[0, 6, 3], [2, 2, 5]])
    vectors = table(ids)
    np.sum(vectors * np.arange(6.0).reshape(2, 3, 1)).backward()
    whole = np.zeros((7, 3))
    np.add.at(whole, ids, np.arange(6.0).reshape(2, 3, 1) * np.ones(3))
    own = table.cuts["weight"].part(whole, comm.rank)
    found = {"table": difference(table.weight.grad, own)}
    for case, scale in {"small": 1, "large": 300}.items():
        logits, targets = scale * rng.normal(size=(2, 4, 7)), rng.integers(7, size=(2, 4))
        targets[0, 1] = -100
        cut = table.cuts["weight"]._replace(axis=2)
        mine = Tensor(cut.part(logits, comm.rank), requires_grad=True)
        all_of = Tensor(logits, requires_grad=True)
        a, b = cross_entropy(all_of, targets), vocab_parallel_cross_entropy(
            mine, targets, vocab_size=7, comm=comm)  # fmt: skip
        c = vocab_parallel_cross_entropy.composed(mine, targets, vocab_size=7, comm=comm)
        expected = cut.part(grad(a, all_of)[0].data, comm.rank)
        found[case] = max(difference(a.data, b.data), difference(a.data, c.data),
                          difference(grad(b, mine)[0].data, expected),
                          difference(grad(c, mine)[0].data, expected))  # fmt: skip
    return found


def states(comm) -> dict:
    """shard_state and gather_state undo one another, exactly."""
    found = {}
    for name, config in CONFIGS.items():
        whole = whole_gpt(config, np.float32).state_dict()
        model = tensor_parallel_gpt(config, comm, rng=np.random.default_rng(12))
        fresh = GPT(config, rng=np.random.default_rng(12)).state_dict()
        found[f"{name} fresh"] = worst(gather_state(model, comm), fresh)
        model.load_state_dict(shard_state(model, whole, comm))
        found[name] = worst(gather_state(model, comm), whole)
    return {name: max(by_name.values()) for name, by_name in found.items()}


def held(comm) -> list:
    """The numbers of this rank's part of a Llama."""
    model = tensor_parallel_gpt(CONFIGS["llama"], comm)
    return [sum(p.size for name, p in model.named_parameters() if name in cuts_of(model)),
            sum(p.size for p in model.parameters())]  # fmt: skip


def refusals(comm) -> dict:
    """What each rank says where something cannot be cut, or is not supported."""
    n, own_tokens = comm.size, len(shares(13, comm.size, "tokens")[comm.rank])
    calls = {
        "heads": lambda: tensor_parallel_gpt(GPTConfig(13, 6, 1, n - 1, 4 * (n - 1)), comm),
        "groups": lambda: tensor_parallel_gpt(LlamaConfig(13, 6, 1, 12, 24, n_kv_head=n - 1), comm),
        "hidden": lambda: tensor_parallel_gpt(GPTConfig(13, 6, 1, n, 4 * n, hidden=n - 1), comm),
        "tokens": lambda: VocabParallelEmbedding(n - 1, 4, comm=comm),
        "outputs": lambda: ColumnParallelLinear(8, n - 1, comm=comm),
        "inputs": lambda: RowParallelLinear(n - 1, 8, comm=comm),
        "dropout": lambda: tensor_parallel_gpt(GPTConfig(13, 6, 1, n, 4 * n, dropout=0.1), comm),
        "logits": lambda: vocab_parallel_cross_entropy(
            np.zeros((2, 13)), np.zeros(2, int), vocab_size=13, comm=comm),
        "targets": lambda: vocab_parallel_cross_entropy(
            np.zeros((2, own_tokens)), np.array([0, 13]), vocab_size=13, comm=comm),
        "none": lambda: vocab_parallel_cross_entropy(
            np.zeros((1, own_tokens)), np.array([-100]), vocab_size=13, comm=comm),
        "max_norm": lambda: clip_tensor_parallel_grad_norm(Linear(2, 2), comm, float("nan")),
    }  # fmt: skip
    said = {}
    for name, call in calls.items():
        try:
            call()
        except ValueError as error:
            said[name] = str(error)
    comm.barrier()  # and the group is as it was
    return said


def on_grid(comm, dtype: str, data: int, tensor: int) -> dict:
    """Data and tensor parallelism together, clipped, beside a single process."""
    config, groups = CONFIGS["llama"], grid(comm, data=data, tensor=tensor)
    single, model = whole_gpt(config, dtype), part_of(config, groups["tensor"], dtype)
    replicas = DataParallel(groups["data"], model, overlap=False)
    ours, theirs = (SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (model, single))
    loss, found = shared(), {"norm": 0.0}
    own_rows = SharedBatches(iter(batches(STEPS)), groups["data"])
    for ids, targets in batches(STEPS):
        ours.zero_grad()
        theirs.zero_grad()
        cross_entropy(single(ids), targets).backward()
        loss(model, *next(own_rows)).backward()
        replicas.synchronize()
        if "gradients" not in found:
            found["gradients"] = worst(
                gathered_gradients(model, groups["tensor"]), gradients(single))  # fmt: skip
            found["norm"] = difference(tensor_parallel_grad_norm(model, groups["tensor"]),
                                       clip_grad_norm(single.parameters(), np.inf))  # fmt: skip
        clip_grad_norm(single.parameters(), 0.5)
        clip_tensor_parallel_grad_norm(model, groups["tensor"], 0.5)
        ours.step()
        theirs.step()
    found["end"] = worst(gather_state(model, groups["tensor"]), single.state_dict())
    return found


CASES = [("gpt2", "float64", False), ("llama", "float32", True), ("alibi", "float64", True)]


def small_table(comm) -> dict:
    """What must not depend on how messages travel."""
    return {"trained": trained(comm, *CASES[1]), "exact": embedding_and_loss(comm),
            "refusals": refusals(comm)}  # fmt: skip


def table(comm) -> dict:
    """All of it, for one number of ranks."""
    report = {"trained": {", ".join(map(str, case)): trained(comm, *case) for case in CASES}}
    report["by hand"] = by_hand(comm)
    report["second derivatives"] = second_derivatives(comm)
    report["checkpointed"] = checkpointed_bytes(comm)
    report["exact"] = {**attention(comm), **layer(comm), **embedding_and_loss(comm)}
    report["states"] = states(comm)
    report["held"] = held(comm)
    report["refusals"] = refusals(comm) if comm.size > 1 else {}
    if comm.size == 4:
        report["grid"] = on_grid(comm, "float64", 2, 2)
    return report


if __name__ == "__main__":
    found = run(small_table, "mpi", 0)
    if found is not None:
        json.dump(found, sys.stdout)
