"""What the ranks of the tests of data parallelism and ZeRO do: train, and tell what came of it."""

from __future__ import annotations

import functools

import numpy as np

from chapter_03_neural_nets import SGD, AdamW, Batches, Linear, Sequential, train
from chapter_03_neural_nets.losses import IGNORED
from chapter_07_attention import GPT, GPTConfig, TransformerEncoderLayer
from chapter_09_scaling import (
    DataParallel,
    SharedBatches,
    SingleProcess,
    ZeRO,
    sharded,
    shared,
)
from utils import Tensor

CONFIG = GPTConfig(vocab_size=19, block_size=8, n_layer=3, n_head=2, n_embd=12)
STEPS = 20
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
OPTIMIZERS = {
    "adamw": lambda params: AdamW(params, 1e-3, weight_decay=0.1),
    "momentum": lambda params: SGD(params, 0.1, momentum=0.9),
}
CASES = [
    {"dtype": "float64", "optimizer": "adamw", "batch": 5},  # rows that do not divide evenly
    {"dtype": "float32", "optimizer": "momentum", "batch": 12},
    {"dtype": "float64", "optimizer": "momentum", "batch": 1},  # fewer rows than ranks
]


def examples():
    """Texts of different lengths: what is behind a text is ignored."""
    rng = np.random.default_rng(5)
    ids = rng.integers(CONFIG.vocab_size, size=(40, 9))
    targets = ids[:, 1:].copy()
    targets[np.arange(8) >= rng.integers(2, 9, size=(40, 1))] = IGNORED
    return ids[:, :-1], targets


def batches(comm, case):
    rng = np.random.default_rng(1)
    return SharedBatches(Batches(*examples(), batch_size=case["batch"], rng=rng), comm)


def gpt(comm, case, layer=TransformerEncoderLayer):
    """Each rank begins elsewhere: who trains them together must make them alike."""
    return GPT(CONFIG, layer=layer, rng=np.random.default_rng(comm.rank)).astype(case["dtype"])


def parameters_of(model):
    return np.concatenate([p.data.reshape(-1) for p in model.parameters()])


def gradients_of(model):
    return np.concatenate([p.grad.reshape(-1) for p in model.parameters()])


@functools.lru_cache(maxsize=None)
def single(i):
    """The gradients of the first batch and the parameters in the end, of one process."""
    comm, case = SingleProcess(), CASES[i]
    model = gpt(comm, case)
    shared()(model, *next(batches(comm, case))).backward()
    first = gradients_of(model)
    optimizer = OPTIMIZERS[case["optimizer"]](model.parameters())
    history = train(model, optimizer, batches(comm, case), STEPS, loss=shared())
    return {"gradients": first, "parameters": parameters_of(model), "losses": history.losses}


def told(comm, gradients, parameters, **more):
    """A report: the arrays of rank 0 as lists, and whether the others have the same bits."""
    alike = (comm.broadcast(parameters) == parameters).all()
    alike &= (comm.broadcast(gradients) == gradients).all()
    if comm.rank == 0:
        more = {**more, "gradients": gradients.tolist(), "parameters": parameters.tolist()}
    return {**more, "alike": bool(alike)}


def check(results, what):
    for i, case in enumerate(CASES):
        found, expected = results[0][i], single(i)
        tolerance, where = TOLERANCE[case["dtype"]], f"{what}, {len(results)} ranks, {case}"
        for name, why in (
            ("gradients", "is each rank's loss weighted by its share of the targets?"),
            ("parameters", "after 20 steps; are the copies alike before the first?"),
        ):
            far = np.abs(np.array(found[name]) - expected[name]).max()
            assert far <= tolerance, f"{where}: {name} are {far:.1e} from one process's: {why}"
        for rank, result in enumerate(results):
            assert result[i]["alike"], f"{where}: rank {rank} has other numbers than rank 0"


def data_parallel(comm, overlap=True, bucket_bytes=1 << 10, algorithm="ring"):
    return [data_parallel_case(comm, case, overlap, bucket_bytes, algorithm) for case in CASES]


def data_parallel_with(comm, options):
    """One table for each choice of overlap, size of buckets and algorithm."""
    return [data_parallel(comm, *choice) for choice in options]


def data_parallel_case(comm, case, overlap, bucket_bytes, algorithm):
    model = gpt(comm, case)
    parallel = DataParallel(comm, model, bucket_bytes, overlap, algorithm)
    shared()(model, *next(batches(comm, case))).backward()
    parallel.synchronize()
    gradients = gradients_of(model)
    optimizer = OPTIMIZERS[case["optimizer"]](model.parameters())
    history = train(model, optimizer, batches(comm, case), STEPS, loss=shared(),
                    before_step=[parallel.synchronize])  # fmt: skip
    return told(comm, gradients, parameters_of(model), losses=history.losses)


def zero(comm):
    """A table for each stage."""
    return [[zero_case(comm, case, stage) for case in CASES] for stage in (1, 2, 3)]


def zero_case(comm, case, stage):
    layer = sharded(TransformerEncoderLayer) if stage == 3 else TransformerEncoderLayer
    model = gpt(comm, case, layer)
    optimizer = ZeRO(comm, model, OPTIMIZERS[case["optimizer"]], stage)
    shared()(model, *next(batches(comm, case))).backward()
    optimizer.reduce()
    found = {id(p): g for p, g in zero_gradients(comm, optimizer)}
    gradients = np.concatenate([found[id(p)] for p in model.parameters()])
    optimizer.zero_grad()
    train(model, optimizer, batches(comm, case), STEPS, loss=shared())
    with optimizer.whole():
        own = parameters_of(model)
    share = sum(unit.shard.size for unit in optimizer.units) / own.size
    return told(comm, gradients, own, share=share)


def zero_gradients(comm, optimizer):
    for unit in optimizer.units:
        flat = comm.all_gather(unit.shard.grad, unit.size)
        ends = np.cumsum([p.size for p in unit.params])[:-1]
        yield from zip(unit.params, np.split(flat, ends))


def forgets_to_synchronize(comm):
    model = gpt(comm, CASES[0])
    DataParallel(comm, model)
    for _ in range(2):
        shared()(model, *next(batches(comm, CASES[0]))).backward()


def another_model(comm):
    """Rank 1 has a wider model: the first broadcast finds out."""
    width = 12 + 2 * comm.rank
    DataParallel(comm, GPT(GPTConfig(19, 8, 1, 2, width)))


def unused(comm):
    """A parameter that only some ranks use, and one that none does."""
    model = gpt(comm, CASES[0])
    parallel = DataParallel(comm, model, bucket_bytes=1)
    used = model.embedding.weight
    if comm.rank == 0:
        np.sum(used * 2).backward()
    parallel.synchronize()
    return [float(used.grad.sum()) / used.size, float(np.abs(model.norm.weight.grad).max())]


def zero_in_another_order(comm, stage):
    """Rank 1 leaves one of two layers of one size out: sums must not get mixed up."""
    model = Sequential(Linear(1, 1, bias=False), Linear(1, 1, bias=False))
    for p in model.parameters():
        p.data[...] = 1.0
    optimizer = ZeRO(comm, model, lambda params: SGD(params, 1.0), stage)
    x = Tensor(np.array([[1000.0]], np.float32))
    np.sum(model(x) if comm.rank == 0 else model[0](x) * 0.5).backward()
    optimizer.step()
    return [p.data.item() for p in model.parameters()]


def zero_twice(comm, stage):
    """Two backward passes before a step, the first one's gradients added up at once."""
    model = Sequential(Linear(1, 1, bias=False))
    model[0].weight.data[...] = 1.0
    optimizer = ZeRO(comm, model, lambda params: SGD(params, 0.1), stage)
    for _ in range(2):
        np.sum(model(Tensor(np.ones((1, 1), np.float32))) * 0.5).backward()
        optimizer.reduce()
    optimizer.step()
    return model[0].weight.data.item()


def zero_with_frozen(comm, stage):
    """Frozen parameters are rank 0's too."""
    model = gpt(comm, {"dtype": "float32"})
    model.embedding.requires_grad_(False)
    ZeRO(comm, model, AdamW, stage)
    return float(model.embedding.weight.data.sum())


def small_zero_works(comm):
    return {
        "another order": [zero_in_another_order(comm, stage) for stage in (1, 2)],
        "twice": [zero_twice(comm, stage) for stage in (1, 2)],
        "frozen": zero_with_frozen(comm, 1),
    }


def closes(comm):
    """Two backward passes in a row are nobody's business any more, and another may follow."""
    model = gpt(comm, CASES[0])
    DataParallel(comm, model).close()
    for _ in range(2):
        shared()(model, *next(batches(comm, CASES[0]))).backward()
    model.zero_grad()
    again = DataParallel(comm, model)
    shared()(model, *next(batches(comm, CASES[0]))).backward()
    again.synchronize()
