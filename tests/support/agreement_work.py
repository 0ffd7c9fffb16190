"""What ranks do in the tests of what they must agree on: states, overflows, buffers."""

from __future__ import annotations

import numpy as np
from parallel_work import OPTIMIZERS, batches, gpt, parameters_of

from chapter_03_neural_nets import SGD, AdamW, Batches, Linear, Module, Parameter, Sequential, train
from chapter_03_neural_nets.training import classification_loss
from chapter_04_training_dynamics import BatchNorm1d
from chapter_05_gradient_mastery import cross_entropy
from chapter_07_attention import GPT, GPTConfig, TransformerEncoderLayer
from chapter_09_scaling import DataParallel, SharedBatches, ZeRO, sharded, shared
from chapter_09_scaling.loss_scaling import LossScaler
from chapter_09_scaling.pipeline import Pipeline
from chapter_09_scaling.pipeline_schedules import SCHEDULES
from utils import manual_seed

CASE = {"dtype": "float64", "batch": 5}


def layer_of(stage):
    return sharded(TransformerEncoderLayer) if stage == 3 else TransformerEncoderLayer


# Checkpoints.


def zero_run(comm, stage, steps, folder=None, optimizer="adamw", scaled=False):
    """A training, saved in the middle and at the end: its parameters, its state and its losses."""
    model = gpt(comm, CASE, layer_of(stage))
    zero, loss = ZeRO(comm, model, OPTIMIZERS[optimizer], stage), shared()
    used = LossScaler(zero, init_scale=2.0**8, growth_interval=2) if scaled else zero
    loss = used.watch(loss) if scaled else loss
    history = train(model, used, batches(comm, CASE), steps, loss=loss, checkpoint=folder,
                    checkpoint_every=2)  # fmt: skip
    state = {name: a.tolist() for name, a in zero.state_dict().items()}
    with zero.whole():
        own = parameters_of(model).tolist()
    return {"parameters": own, "state": state, "losses": history.losses}


def saved_and_resumed(comm, stage, folder, options):
    """Six steps at once, and four, an end, and two more by others: they must be the same."""
    whole = zero_run(comm, stage, 6, **options)
    zero_run(comm, stage, 4, folder, **options)
    again = zero_run(comm, stage, 6, folder, **options)
    losses = [run.pop("losses")[4:] for run in (whole, again)]
    return {"same": whole == again and losses[0] == losses[1], "parameters": again["parameters"]}


def different_places(comm, folders):
    """Each rank goes on from a folder of its own."""
    zero_run(comm, 1, 6, folders[comm.rank])


def keeps_the_best(comm):
    """The model ends with the weights of the first evaluation, which is the best."""
    model = gpt(comm, CASE, layer_of(3))
    zero, seen = ZeRO(comm, model, AdamW, 3), []

    def judge(model):
        with zero.whole():
            seen.append(float(parameters_of(model).sum()))
        return {"loss": float(len(seen))}

    train(model, zero, batches(comm, CASE), 3, loss=shared(), evaluate=judge, evaluate_every=1,
          keep_best=True)  # fmt: skip
    with zero.whole():
        return [float(parameters_of(model).sum()), *seen]


# Overflows.


def one_overflows(comm):
    """Every rank has parameters of its own; only rank 1's gradient is too large."""
    p = Parameter(np.ones(2, np.float32))
    scaler = LossScaler(SGD([p], 1.0), init_scale=8.0, comm=comm)
    for bad in (np.inf if comm.rank == 1 else 1.0, 1.0):
        p.grad = np.array([bad, 1.0], np.float32) * np.float32(scaler.scale)
        scaler.scaled = True
        scaler.step()
    return [p.data.tolist(), scaler.scale, scaler.skipped]


def scaled_zero(comm, stage):
    """Steps of ZeRO with a scale and without; then one in which a single rank has an overflow."""
    found = []
    for scaled in (False, True):
        model = gpt(comm, CASE, layer_of(stage))
        zero, loss = ZeRO(comm, model, OPTIMIZERS["momentum"], stage), shared()
        used = LossScaler(zero, init_scale=2.0**8) if scaled else zero
        loss = used.watch(loss) if scaled else loss
        stream, sent = batches(comm, CASE), comm.sent_bytes
        train(model, used, stream, 4, loss=loss)
        sent = comm.sent_bytes - sent
        with zero.whole():
            found.append([parameters_of(model), sent])
    used.zero_grad()
    value = loss(model, *next(stream))
    with np.errstate(all="ignore"):
        (value * (np.inf if comm.rank == 1 else 1.0)).backward()
        used.step()
    with zero.whole():
        kept = np.array_equal(parameters_of(model), found[1][0])
    used.zero_grad()
    loss(model, *next(stream)).backward()
    used.step()
    with zero.whole():
        went_on = np.isfinite(parameters_of(model)).all() and not np.array_equal(
            parameters_of(model), found[1][0]
        )
    return {
        "same": bool(np.array_equal(found[0][0], found[1][0])),
        "more bytes": found[1][1] - found[0][1],
        "kept": bool(kept),
        "scale": used.scale,
        "went on": bool(went_on),
    }


# Buffers.


def normalized(comm, broadcast_buffers):
    """Four steps of a net with batch norm; rank r begins with other statistics."""
    rng = np.random.default_rng(7)
    model = Sequential(Linear(3, 4, rng=rng), BatchNorm1d(4), Linear(4, 2, rng=rng))
    model[1].running_mean += comm.rank
    parallel = DataParallel(comm, model, broadcast_buffers=broadcast_buffers)
    inputs = rng.normal(size=(16, 3)).astype(np.float32)
    data = Batches(inputs, (inputs[:, 0] > 0).astype(np.int64), batch_size=8, rng=rng)
    start = model[1].running_mean.tolist()
    seen = []
    model[0].register_forward_hook(lambda module, args, y: seen.append(y.data.mean(axis=0)))
    train(model, SGD(model.parameters(), 0.1), SharedBatches(data, comm), 4,
          loss=shared(classification_loss), before_step=[parallel.synchronize])  # fmt: skip
    state = {name: array.tolist() for name, array in model.state_dict().items()}
    return {"start": start, "state": state, "means": np.array(seen).tolist()}


# Stages with nothing to train.


class Same(Module):
    """A layer without parameters."""

    def __init__(self, *sizes, **options):
        super().__init__()

    def forward(self, x, mask=None):
        return x * 2


FROZEN = {
    "the first": ["embedding", "positions", "layers.0"],
    "one between": ["layers.1"],
    "the last": ["layers.2", "norm", "head"],
    "all": [""],
}


def frozen(name, tied):
    manual_seed(3)
    model = GPT(GPTConfig(11, 6, 3, 2, 8, tied=tied)).astype("float64")
    for part, p in model.named_parameters():
        if any(part.startswith(begin) for begin in FROZEN[name]):
            p.requires_grad = False
    return model


def nothing_to_train(comm):
    """Steps of pipelines of which a part is frozen, beside those of the whole model."""
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(11, size=(2, 4, 6))
    report = {}
    for name in FROZEN:
        for schedule in SCHEDULES:
            expected = frozen(name, tied=False)
            loss = cross_entropy(expected(ids), targets)
            if name != "all":
                loss.backward()
            pipeline = Pipeline(comm, frozen(name, tied=False), 2, SCHEDULES[schedule])
            value = pipeline.step(ids, targets)
            wanted = dict(expected.named_parameters())
            off = [abs(value - loss.item())]
            for key, p in pipeline.stage.named_parameters():
                alike = (p.grad is None) == (wanted[key].grad is None)
                off.append(0.0 if alike else 1.0)
                if p.grad is not None:
                    off.append(float(np.abs(p.grad - wanted[key].grad).max()))
            stage = pipeline.stage
            train(stage, SGD(stage.parameters(), 0.1), iter([(ids, targets)] * 2), 2,
                  loss=pipeline.loss)  # fmt: skip
            report[f"{name}, {schedule}"] = max(off)
    manual_seed(0)
    pipeline = Pipeline(comm, GPT(GPTConfig(11, 6, 3, 2, 8, tied=True), layer=Same), 2)
    report["no parameters"] = [sum(1 for _ in pipeline.stage.parameters()),
                               pipeline.step(ids, targets)]  # fmt: skip
    return report


# All of it, by as many ranks as it takes to see it.


def everything(comm, folder):
    """What two ranks do."""
    stages = {
        str(stage): saved_and_resumed(comm, stage, f"{folder}/{stage}", {}) for stage in (1, 2, 3)
    }
    return {
        "resumed": stages,
        "resumed, scaled": saved_and_resumed(comm, 3, f"{folder}/scaled", {"scaled": True}),
        "best": keeps_the_best(comm),
        "one overflows": one_overflows(comm),
        "scaled": {str(stage): scaled_zero(comm, stage) for stage in (1, 2, 3)},
        "buffers": normalized(comm, True),
        "own buffers": normalized(comm, False),
    }


def by_three(comm, folder):
    """What three do: they go on where two have been, and are a pipeline."""
    return {
        "gone on": {str(stage): zero_run(comm, stage, 8, f"{folder}/{stage}")["parameters"]
                    for stage in (1, 2, 3)},
        "pipeline": nothing_to_train(comm),
    }  # fmt: skip
