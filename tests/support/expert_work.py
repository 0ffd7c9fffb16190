"""What ranks do in the tests of expert parallelism: each case beside the single process.

As a script under mpiexec it prints the same report.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from typing import NamedTuple

import numpy as np

from chapter_03_neural_nets import SGD
from chapter_07_attention import GPT, GPTConfig, LlamaConfig
from chapter_09_scaling import SingleProcess, run
from chapter_09_scaling.checkpointing import checkpointed
from chapter_09_scaling.expert_parallel import (
    expert_data_parallel,
    expert_parallel_layer,
    gather_state,
)
from chapter_09_scaling.mixture_of_experts import ExpertLayer, recorded_routing, with_balance
from chapter_09_scaling.parallel_state import shard_state
from chapter_09_scaling.shared_batches import SharedBatches, shared

CONFIGS = {"gpt": GPTConfig(11, 6, 2, 2, 8), "llama": LlamaConfig(11, 6, 2, 2, 8, hidden=12)}
WIDTH = 8
FULLEST = 30.0  # a logit that decides


class Case(NamedTuple):
    experts: int
    top_k: int
    batch: int = 5
    config: str = "gpt"
    dtype: str = "float64"
    balance: float = 0.1
    unasked: int = -1  # an expert that nobody asks
    favourite: int = -1  # one that everybody asks
    steps: int = 2


CASES = {
    "5 experts, top 2": Case(5, 2, steps=20),
    "float32": Case(5, 2, dtype="float32", steps=20),
    "5 experts, top 1, no balance": Case(5, 1, balance=0.0),
    "4 experts, all asked": Case(4, 4),
    "8 experts, swiglu": Case(8, 2, config="llama"),
    "a batch of 1": Case(4, 1, batch=1),
    "an expert without tokens": Case(5, 2, unasked=1),
    "all ask the last": Case(5, 1, favourite=4),
}


class Table:
    """The same batches over and over, as `Batches` gives them: some targets are ignored."""

    def __init__(self, batch: int) -> None:
        self.rng = np.random.default_rng(1)
        self.batch = batch

    def __next__(self) -> tuple:
        ids, targets = self.rng.integers(11, size=(2, self.batch, 6))
        targets[self.rng.random(targets.shape) < 0.2] = -100
        return ids, targets


def whole_model(case: Case) -> GPT:
    """Biases and norms are not what they began as, and the router is sure of some tokens."""
    layer = functools.partial(ExpertLayer, experts=case.experts, top_k=case.top_k)
    rng = np.random.default_rng(0)
    model = GPT(CONFIGS[case.config], layer=layer, rng=rng).astype(case.dtype)
    for name, p in model.named_parameters():
        p.data += rng.normal(size=p.shape) * (1.0 if "router" in name else 0.2)
    for part in model.layers:
        for expert, logit in ((case.unasked, -FULLEST), (case.favourite, FULLEST)):
            if expert >= 0:  # the norm before it always has a 1 in its first place
                part.norm2.weight.data[0], part.norm2.bias.data[0] = 0, 1
                part.mixture.router.weight.data[expert] = 0
                part.mixture.router.weight.data[expert, 0] = logit
                part.norm2.requires_grad_(False)
    return model


class Trainee:
    """A model on some ranks, and what its steps are made of."""

    def __init__(self, comm, case: Case, layer=None) -> None:
        whole = whole_model(case)
        layer = expert_parallel_layer if layer is None else layer
        layer = layer(comm, experts=case.experts, top_k=case.top_k)
        self.model = GPT(CONFIGS[case.config], layer=layer).astype(case.dtype)
        self.model.load_state_dict(shard_state(self.model, whole.state_dict()))
        for part in self.model.layers:
            part.norm2.requires_grad_(case.unasked < 0 and case.favourite < 0)
        self.parallel = expert_data_parallel(comm, self.model)
        self.optimizer = SGD(self.model.parameters(), 0.005, momentum=0.9)
        self.batches = SharedBatches(Table(case.batch), comm)
        self.loss = with_balance(shared(), case.balance)

    def backward(self) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.model, *next(self.batches))
        loss.backward()
        return loss.item()

    def step(self) -> float:
        value = self.backward()
        self.parallel.synchronize()
        self.optimizer.step()
        return value


class Single(Trainee):
    """The whole model, all the batch."""

    def __init__(self, case: Case) -> None:
        self.model = whole_model(case)
        self.optimizer = SGD(self.model.parameters(), 0.005, momentum=0.9)
        self.batches = SharedBatches(Table(case.batch), SingleProcess())
        self.loss = with_balance(shared(), case.balance)

    def step(self) -> float:
        value = self.backward()
        self.optimizer.step()
        return value


def furthest(found: dict, expected: dict) -> list:
    """The largest difference of what both have, and where it is."""
    both = [name for name in found if name in expected]
    wrong = {name: float(np.abs(found[name] - expected[name]).max()) for name in both}
    name = max(wrong, key=lambda name: (not np.isfinite(wrong[name]), wrong[name]))
    return [min(wrong[name], 1e300), name]


def gradients(model) -> dict:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def told(comm, model, what: str) -> dict:
    """The "grad" or "data" of rank 0's parameters, by name, on every rank."""
    params = {n: p for n, p in model.named_parameters() if p.requires_grad or what == "data"}
    own = [p.data if comm.rank else getattr(p, what) for p in params.values()]
    flat = comm.broadcast(np.concatenate([a.reshape(-1) for a in own]))
    parts = np.split(flat, np.cumsum([a.size for a in own])[:-1])
    return {name: part.reshape(params[name].shape) for name, part in zip(params, parts)}


def compared(comm, case: Case) -> dict:
    """Gradients of the first step, and parameters after the last, beside those of one process."""
    together, alone = Trainee(comm, case), Single(case)
    loss = float(comm.all_reduce(np.array(together.step())))
    expected = alone.step() if comm.rank == 0 else 0.0
    found = gradients(together.model)
    report = {"loss": abs(loss - expected) if comm.rank == 0 else 0.0}
    report["gradients"] = furthest(found, told(comm, alone.model, "grad"))
    for _ in range(case.steps - 1):
        together.step()
        if comm.rank == 0:
            alone.step()
    whole = told(comm, alone.model, "data")
    state = gather_state(together.model, comm)
    digest = hashlib.sha256(b"".join(state[name].tobytes() for name in sorted(state)))
    report.update(
        names=sorted(state) == sorted(alone.model.state_dict()),
        parameters=furthest(state, whole),
        digest=digest.hexdigest(),
    )
    return report


def traffic(comm, case: Case) -> dict:
    """What forward and backward send, and how often this rank's tokens ask each expert."""
    trainee = Trainee(comm, case)
    before = comm.sent_bytes
    trainee.backward()
    sent = comm.sent_bytes - before
    ids, _, _ = next(SharedBatches(Table(case.batch), comm))
    with recorded_routing() as found:
        trainee.model(ids)
    counts = [np.bincount(r.chosen.ravel(), minlength=case.experts).tolist() for r in found]
    return {"sent": sent, "counts": counts, "rows": len(ids)}


def refused(comm) -> str:
    """More ranks than experts."""
    try:
        GPT(CONFIGS["gpt"], layer=expert_parallel_layer(comm, experts=comm.size - 1, top_k=1))
    except ValueError as error:
        comm.barrier()
        return str(error)
    return ""


def in_a_checkpoint(comm) -> list:
    """Tokens travel once more when a layer runs again: the gradients without the balance."""
    case = Case(5, 2, balance=0.0)

    def layer(comm, **options):
        plain = expert_parallel_layer(comm)
        return functools.partial(checkpointed(ExpertLayer), **{**plain.keywords, **options})

    together, alone = Trainee(comm, case, layer), Single(case)
    together.loss = alone.loss = shared()
    together.step()
    alone.step()
    return furthest(gradients(together.model), gradients(alone.model))


def report(comm, names: list | None = None) -> dict:
    """All that the tests look at, or the cases of these names."""
    fitting = {name: case for name, case in CASES.items() if case.experts >= comm.size}
    cases = {name: compared(comm, fitting[name]) for name in (names or fitting)}
    if names:
        return {"cases": cases}
    return {
        "cases": cases,
        "traffic": traffic(comm, CASES["5 experts, top 2"]),
        "refused": refused(comm) if comm.size > 1 else "",
        "checkpoint": in_a_checkpoint(comm),
    }


if __name__ == "__main__":
    result = run(report, "mpi", 0, sys.argv[1:])
    if result is not None:
        print(json.dumps(result))
