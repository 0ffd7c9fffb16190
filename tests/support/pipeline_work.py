"""What ranks do in the tests of the pipeline; as a script under mpiexec, it prints what came out.

Every rank also trains the whole model by itself, and reports how far its stage is from it.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys

import numpy as np

from chapter_03_neural_nets import SGD, Module, Parameter, evaluating, train
from chapter_05_gradient_mastery import AdamW, cross_entropy
from chapter_07_attention import GPT, GPTConfig, LlamaConfig, TransformerEncoderLayer
from chapter_09_scaling import grid, run
from chapter_09_scaling.checkpointing import checkpointed
from chapter_09_scaling.parallel_state import shard_state
from chapter_09_scaling.pipeline import Pipeline, gather_state
from chapter_09_scaling.pipeline_schedules import SCHEDULES, Action
from chapter_09_scaling.replicas import DataParallel
from chapter_09_scaling.shared_batches import SharedBatches
from chapter_09_scaling.traffic import pipeline_bytes
from utils import manual_seed, no_grad

TIME, VOCABULARY, ROWS, STEPS = 6, 11, 5, 20
SIZES = (VOCABULARY, TIME, 5, 2, 8)  # vocabulary, context, layers, heads, width
CONFIGS = {
    "GPT-2, tied": lambda: GPTConfig(*SIZES),
    "Llama": lambda: LlamaConfig(*SIZES, n_kv_head=1),
    "ALiBi, tied": lambda: GPTConfig(*SIZES, positions="alibi", bias=False),
}


def whole(name: str, dtype: str, **options) -> GPT:
    """The same model on every rank."""
    manual_seed(3)
    model = GPT(CONFIGS[name](), **options).astype(dtype)
    for p in model.parameters():  # else the gradients are as small as their rounding
        p.data *= 10 if p.ndim == 2 else 1
    return model


def batch(step: int, rows: int = ROWS) -> tuple:
    """Ids and targets; some are ignored, all of the last row, and so more in some micro-batches."""
    rng = np.random.default_rng(step)
    ids, targets = rng.integers(VOCABULARY, size=(2, rows, TIME))
    targets[: rows // 2, :2] = -100
    targets[-1:] = -100 if rows > 1 else targets[-1:]
    return ids, targets


class Stream:
    """An endless row of batches."""

    def __init__(self, rows: int = ROWS) -> None:
        self.step, self.rows = 0, rows

    def __iter__(self):
        return self

    def __next__(self) -> tuple:
        self.step += 1
        return batch(self.step, self.rows)


def loss(model, ids, targets):
    return cross_entropy(model(ids), targets)


def far(found: dict, expected: dict) -> float:
    """The largest difference, beside the largest of all numbers that are compared or 1."""
    scale = max([1.0, *(float(np.abs(expected[name]).max()) for name in found)])
    return max(float(np.abs(found[name] - expected[name]).max()) for name in found) / scale


def gradients(model: Module) -> dict:
    """By name; a matrix that is two things at once has two names."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if isinstance(model, GPT) and "embedding.weight" in found:
        found.setdefault("head.weight", found["embedding.weight"])
    return found


CASES = [
    *itertools.product(["GPT-2, tied"], ["float32", "float64"], SCHEDULES, [3, 8]),
    *itertools.product(["Llama", "ALiBi, tied"], ["float64"], SCHEDULES, [1, 2]),
]


def table(comm) -> dict:
    """Models, dtypes, schedules and numbers of micro-batches, each beside the whole model."""
    report = {}
    for name, dtype, schedule, micro_batches in CASES:
        expected = whole(name, dtype)
        value = loss(expected, *batch(0))
        value.backward()
        pipeline = Pipeline(comm, whole(name, dtype), micro_batches, SCHEDULES[schedule])
        case = f"{name}, {dtype}, {schedule}, {micro_batches} micro-batches"
        report[case] = beside(pipeline, expected, value.item())
    return report


def beside(pipeline: Pipeline, expected: GPT, value: float) -> dict:
    """One step: how far it is from that of the whole model, and what it cost."""
    found = pipeline.step(*batch(0))
    config, stage, ids = expected.config, pipeline.stage, batch(0)[0]
    itemsize = np.dtype(next(stage.parameters()).dtype).itemsize
    sent = pipeline_bytes(config, *ids.shape, itemsize, pipeline.comm.size, pipeline.comm.rank)
    once = gradients(stage)
    wrong = far({name: once[name] for name, _ in stage.named_parameters()}, gradients(expected))
    first = {name: p.grad.copy() for name, p in stage.named_parameters()}
    pipeline.step(*batch(0))  # without zero_grad
    twice = {name: p.grad / 2 for name, p in stage.named_parameters()}
    return {
        "loss": abs(found - value),
        "value": found,
        "gradients": wrong,
        "twice": far(twice, first),
        "sent": [pipeline.sent_bytes, sent],
        "kept": pipeline.most_kept,
        "names": list(stage.state_dict()),
        "order": [[span.kind, span.micro_batch] for span in pipeline.spans],
        "clock": all(a.end <= b.begin for a, b in zip(pipeline.spans, pipeline.spans[1:])),
    }


OPTIMIZERS = {
    "SGD": lambda params: SGD(params, lr=0.05, momentum=0.9),
    "AdamW": lambda params: AdamW(params, lr=1e-3, weight_decay=0.1),
}
TRAININGS = [("GPT-2, tied", "float32", "SGD"), ("GPT-2, tied", "float64", "SGD"),
             ("Llama", "float64", "AdamW")]  # fmt: skip


def trained(model: Module, optimizer: str, rows: int = ROWS, **options) -> list:
    """The losses of twenty steps of chapter 3's loop."""
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    return train(model, optimizer, Stream(rows), STEPS, **options).losses


def single(name: str, dtype: str, optimizer: str, rows: int = ROWS) -> dict:
    """The training in a single process, of the whole model: what came out."""
    model = whole(name, dtype)
    losses = trained(model, optimizer, rows, loss=loss)
    return {"losses": losses, "state": model.state_dict(), "judged": judged(model, loss)}


def judged(model: Module, loss) -> float:
    with evaluating(model), no_grad():
        return loss(model, *batch(99)).item()


def trainings(comm) -> dict:
    """The same in a pipeline: what this stage found, and what rank 0 put together."""
    report = {}
    for name, dtype, optimizer in TRAININGS:
        pipeline = Pipeline(comm, whole(name, dtype), 2)
        losses = trained(pipeline.stage, optimizer, loss=pipeline.loss)
        gathered = gather_state(pipeline.stage, comm)
        report[f"{name}, {dtype}, {optimizer}"] = {
            "losses": losses,
            "state": as_lists(pipeline.stage.state_dict()),
            "gathered": as_lists(gathered),
            "judged": judged(pipeline.stage, pipeline.loss),
            "judged by": sorted({span.kind for span in pipeline.spans}),
        }
    return report


def as_lists(state: dict) -> dict:
    return {name: array.tolist() for name, array in state.items()}


def states(comm) -> dict:
    """Stages that began otherwise, loaded from a whole state; and checkpointed layers."""
    pipeline = Pipeline(comm, whole("GPT-2, tied", "float64"), 2)
    manual_seed(99 + comm.rank)  # others than the rest, even on every rank
    state = whole("GPT-2, tied", "float64").state_dict()
    other = Pipeline(comm, GPT(CONFIGS["GPT-2, tied"]()).astype("float64"), 2)
    other.stage.load_state_dict(shard_state(other.stage, state))
    again = whole("GPT-2, tied", "float64", layer=checkpointed(TransformerEncoderLayer))
    recomputing = Pipeline(comm, again, 2, SCHEDULES["gpipe"])
    return {
        "loaded": other.step(*batch(0)) - pipeline.step(*batch(0)),
        "checkpointed": recomputing.step(*batch(0)) - pipeline.step(*batch(0)),
        "gradients": far(gradients(recomputing.stage), gradients(other.stage)),
    }


def tied_at_start(comm) -> list:
    """Ranks that began differently have one matrix at both ends: its sum on each."""
    manual_seed(comm.rank)
    stage = Pipeline(comm, GPT(CONFIGS["GPT-2, tied"]())).stage
    ends = [stage.embedding, stage.head]
    return [float(end.weight.data.sum()) for end in ends if hasattr(end, "weight")]


class Scale(Module):
    """A layer that costs nothing: a factor for each channel."""

    def __init__(self, width: int, *_, **options) -> None:
        super().__init__()
        self.weight = Parameter(np.ones(width, np.float32))

    def forward(self, x, mask=None):
        return x * self.weight


def large(comm) -> dict:
    """Activations of 2 MB a message, more than is in flight without a receiver."""
    time, width, rows = 512, 128, 8
    config = GPTConfig(2, time, 4, 1, width)
    ids = np.random.default_rng(0).integers(2, size=(3 * rows, time))
    report = {"bytes": rows * time * width * 4}
    for name, schedule in SCHEDULES.items():
        manual_seed(0)
        pipeline = Pipeline(comm, GPT(config, layer=Scale), 3, schedule)
        report[name] = pipeline.step(ids, ids)
    return report


def refusals(comm) -> list:
    """What each rank says to what cannot be."""
    config = GPTConfig(7, 4, max(comm.size - 1, 1), 1, 4)
    ids = np.zeros((2, 4), int)
    calls = [functools.partial(Pipeline, comm, GPT(config), n) for n in (0, -1, True, 1.5)]
    if comm.size > 1:
        calls.append(lambda: Pipeline(comm, GPT(config)))
    pipeline = Pipeline(comm, GPT(GPTConfig(7, 4, comm.size, 1, 4)))
    calls.append(lambda: pipeline.step(ids, np.full((2, 4), -100)))
    calls.append(lambda: pipeline.step(ids, ids[:1]))
    said = []
    for call in calls:
        try:
            call()
        except ValueError as error:
            said.append(str(error))
    comm.barrier()  # and the group is as it was
    return said


def everything(comm) -> dict:
    return {
        "table": table(comm),
        "trainings": trainings(comm),
        "states": states(comm),
        "tied": tied_at_start(comm),
        "large": large(comm) if comm.size > 1 else {},
        "refusals": refusals(comm),
        "grid": on_grid(comm) if comm.size == 4 else {},
    }


def on_grid(comm) -> dict:
    """Two copies of two stages: rows shared out, gradients added up."""
    report = {}
    for rows, overlap in [(5, False), (5, True), (1, True)]:
        groups = grid(comm, data=2, pipeline=2)
        pipeline = Pipeline(groups["pipeline"], whole("GPT-2, tied", "float64"), 2)
        copies = DataParallel(groups["data"], pipeline.stage, overlap=overlap)
        losses = shares(pipeline, groups["data"], copies, rows)
        state = as_lists(pipeline.stage.state_dict())
        report[f"{rows}, {overlap}"] = {"rows": rows, "losses": losses, "state": state}
    return report


def shares(pipeline: Pipeline, copies, parallel: DataParallel, rows: int) -> list:
    """Train on this copy's rows of every batch (of a batch of 1, the first copy has none)."""
    stage = pipeline.stage
    return train(stage, OPTIMIZERS["SGD"](stage.parameters()), SharedBatches(Stream(rows), copies),
                 STEPS, loss=pipeline.loss, before_step=[parallel.synchronize]).losses  # fmt: skip


def table_and_large(comm) -> dict:
    return {"table": table(comm), "large": large(comm)}


def other_order(comm) -> None:
    """The second stage takes micro-batch 1 first."""

    def schedule(stage, stages, micro_batches):
        order = [0, 1] if stage == 0 else [1, 0]
        return [Action(kind, i) for kind in ("forward", "backward") for i in order]

    Pipeline(comm, whole("GPT-2, tied", "float64"), 2, schedule).step(*batch(0, rows=4))


if __name__ == "__main__":
    results = run(globals()[sys.argv[1]], "mpi", 0)
    if results is not None:
        sys.stdout.write(json.dumps(results))
