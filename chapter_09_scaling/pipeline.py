"""Pipeline parallelism: each rank has some layers, and works on what the rank before has made.

Only activations travel forward and their gradients back, (rows, T, C) for each micro-batch, so that
the links between stages may be slow. What a stage does in which order is the schedule's to say
(`pipeline_schedules.py`); here is what the actions do. The gradients of all micro-batches add up to
those of the whole batch, and stay where the layers are.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from chapter_03_neural_nets import Identity, Module, Parameter
from chapter_03_neural_nets.losses import IGNORED
from chapter_03_neural_nets.training import Loss
from chapter_05_gradient_mastery.threads import only_once, parted
from chapter_07_attention import GPT
from chapter_07_attention.config import whole_number
from chapter_07_attention.positions import LearnedPositions, Positions
from chapter_09_scaling.collectives import bounds
from chapter_09_scaling.communicator import Communicator
from chapter_09_scaling.pipeline_schedules import (
    Action,
    Schedule,
    Span,
    destination,
    one_forward_one_backward,
    source,
)
from chapter_09_scaling.shared_batches import next_token_loss, shared
from utils import Tensor, grad, kernel
from utils.modes import mode


class Pipeline:
    """A GPT cut into as many stages as there are ranks; `stage` is the part of this one.

    All ranks give the same model, which is taken apart: what other ranks hold is dropped from it.
    `loss` is a mean over targets. Where embedding and head are one matrix, both ends have a copy
    and add up their gradients. `spans` tells when the last step did what, in seconds of
    `time.perf_counter`; `sent_bytes` and `most_kept` how many bytes of activations and of their
    gradients it sent, and how many micro-batches it kept at once.
    Raises ValueError, on all ranks, for fewer layers than ranks, or no micro-batch.
    """

    def __init__(
        self,
        comm: Communicator,
        model: GPT,
        micro_batches: int = 4,
        schedule: Schedule = one_forward_one_backward,
        loss: Loss = next_token_loss,
    ) -> None:
        self.comm, self.schedule, self.share = comm, schedule, shared(loss)
        self.micro_batches = whole_number("micro_batches", micro_batches)
        self.is_first, self.is_last = comm.rank == 0, comm.rank == comm.size - 1
        tied = getattr(model.head, "weight", None) is model.embedding.weight
        self.dtype = next(model.parameters()).dtype
        self.stage = stage_of(model, comm.rank, comm.size)
        self.tied: Parameter | None = None
        if tied and self.is_first != self.is_last:
            self.tied = self.stage.embedding.weight if self.is_first else self.stage.head.weight
            if self.is_first:
                comm.send(self.tied.data, comm.size - 1, "tied weights")
            else:
                comm.receive(self.tied.data, 0, "tied weights")
        self.spans: list[Span] = []
        self.sent_bytes = self.most_kept = 0

    def loss(self, stage: Module, inputs: Any, targets: Any, total: int | None = None) -> Tensor:
        """The mean loss of a batch, the same on all ranks: the `loss` of chapter 3's `train`.

        All ranks give the whole batch, ids (B, T) and targets (B, T). The gradient of its backward
        is that of this rank's parameters; a stage in which nothing is trained only passes gradients
        on. With `total`, the batch is a part of one that has so many
        targets, and the loss its share of their mean (`SharedBatches`). Raises ValueError for a
        mean of no targets.
        """
        inputs, targets = np.asarray(inputs), np.asarray(targets)
        if len(inputs) != len(targets):
            raise ValueError(f"{len(inputs)} rows of inputs, but {len(targets)} of targets")
        total = int((targets != IGNORED).sum()) if total is None else total
        if total == 0:
            raise ValueError("the mean loss of no targets does not exist")
        params = [p for p in stage.parameters() if p.requires_grad]
        batch = Pass(self, stage, params, inputs, targets, total)
        # Where there are none, a leaf of its own lets the loss go backward as on other ranks.
        leaves = params or [Tensor(np.zeros((), batch.dtype), requires_grad=True)]

        @kernel(composed=only_once)
        def mean(*arrays):
            value = self.run(batch)
            gradients = batch.gradients or arrays
            return value, lambda g, wanted: tuple(gradient * g for gradient in gradients)

        return mean(*leaves)

    def step(self, inputs: Any, targets: Any, total: int | None = None) -> float:
        """The loss of a batch; its gradients are added to the `grad` of this rank's parameters."""
        value = self.loss(self.stage, inputs, targets, total)
        value.backward()
        return value.item()

    def run(self, batch: Pass) -> np.ndarray:
        """Do what the schedule says; returns the loss, which the last stage tells the others."""
        comm, before = self.comm, self.comm.sent_bytes
        actions = []
        if batch.rows:  # else this is the part of a rank that has no rows
            actions = self.schedule(comm.rank, comm.size, len(batch.rows))
        if mode.node_class is None:
            actions = [action for action in actions if action.kind == "forward"]
        made, spans = None, []
        for last, action in zip((None, *actions), (*actions, None)):
            taken = self.pass_on(last, made, action, batch)
            if action is not None:
                begin = time.perf_counter()
                made = getattr(batch, action.kind)(action.micro_batch, taken)
                spans.append(Span(comm.rank, *action, begin, time.perf_counter()))
        self.sent_bytes, self.most_kept = comm.sent_bytes - before, batch.most_kept
        self.spans = spans
        self.add_tied(batch)
        return comm.broadcast(np.array(batch.value, batch.dtype), root=comm.size - 1)

    def pass_on(
        self, last: Action | None, made: np.ndarray | None, action: Action | None, batch: Pass
    ) -> np.ndarray | None:
        """Send on what was made while what the next action needs comes in.

        Both at once, as two stages that send to each other would else wait for each other, each to
        be received. The names say which micro-batch it is: another order is an error.
        """
        comm, to, sender, taken = self.comm, None, None, None
        if last is not None:
            to = destination(last, comm.rank, comm.size)
        if action is not None:
            sender = source(action, comm.rank, comm.size)
        if sender is not None:
            taken = batch.empty(action.micro_batch)
        if to is not None or sender is not None:
            made = None if to is None else np.ascontiguousarray(made)
            comm.exchange(made, to, taken, sender, names=(str(last), str(action)))
        return taken

    def add_tied(self, batch: Pass) -> None:
        """Add up what both ends found for the matrix that they share."""
        for p, own in zip(batch.params, batch.gradients):
            if p is self.tied:
                other, end = np.empty_like(own), self.comm.size - 1 - self.comm.rank
                self.comm.exchange(own, end, other, end, names=("tied weights",) * 2)
                own += other


class Pass:
    """A batch on its way through one stage: what is kept for the way back, and what adds up.

    `rows` has the rows of each micro-batch; there are fewer of them where there are fewer rows.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        stage: Module,
        params: list[Parameter],
        inputs: np.ndarray,
        targets: np.ndarray,
        total: int,
    ) -> None:
        self.pipeline, self.stage, self.params = pipeline, stage, params
        self.inputs, self.targets, self.total = inputs, targets, total
        self.rows = list(parted(len(inputs), pipeline.micro_batches))
        self.dtype = next((p.dtype for p in stage.parameters()), pipeline.dtype)
        self.value, self.gradients = 0.0, [np.zeros_like(p.data) for p in params]
        self.kept: dict[int, tuple[Any, Tensor]] = {}  # what went in and came out
        self.most_kept = 0

    def forward(self, i: int, x: np.ndarray | None) -> np.ndarray:
        """The activations (rows, T, C) of the stage before, or the ids, to those of this one."""
        rows = self.rows[i]
        x = self.inputs[rows] if x is None else Tensor(x, requires_grad=True)
        if self.pipeline.is_last:
            y = self.pipeline.share(self.stage, x, self.targets[rows], self.total)
            self.value += y.item()
        else:
            y = self.stage(x)
        if mode.node_class is not None:
            self.kept[i] = x, y
            self.most_kept = max(self.most_kept, len(self.kept))
        return y.data

    def backward(self, i: int, g: np.ndarray | None) -> np.ndarray | None:
        """The gradient (rows, T, C) of what came out, or None for the loss, to what went in."""
        x, y = self.kept.pop(i)
        sources = self.params if self.pipeline.is_first else [*self.params, x]
        found = [dx.data for dx in grad(y, sources, g, retain_graph=False)]
        for gradient, part in zip(self.gradients, found):
            gradient += part
        return None if self.pipeline.is_first else found[-1]

    def empty(self, i: int) -> np.ndarray:
        """Where activations or gradients of a micro-batch are received: (rows, T, C)."""
        shape = self.inputs[self.rows[i]].shape
        return np.empty((*shape, self.stage.config.n_embd), self.dtype)


def stage_of(model: GPT, stage: int, stages: int) -> GPT:
    """The model itself without what other stages hold: its layers keep their names.

    Layers are cut as evenly as possible; the first stage has the embedding and the positions that
    are added there, the last the norm and the head. Raises ValueError for more stages than layers.
    """
    layers = model.config.n_layer
    if stages > layers:
        raise ValueError(f"{layers} layers cannot be cut into {stages} stages: use fewer ranks")
    begin, end = bounds(layers, stages)[stage : stage + 2]
    for i in range(layers):
        if not begin <= i < end:
            setattr(model.layers, str(i), None)
    if stage > 0:
        model.embed = begin_with  # not a part, as it takes no ids
        model.embedding = Identity()
        if isinstance(model.positions, LearnedPositions):  # others tell the layers something
            model.positions = Positions()
    if stage < stages - 1:
        model.norm, model.head = Identity(), Identity()
    return model


def begin_with(x: Tensor) -> Tensor:
    """What a later stage has in place of an embedding: the stage before made its vectors."""
    return x


def gather_state(stage: Module, comm: Communicator) -> dict[str, np.ndarray]:
    """The `state_dict` of the whole model, on every rank; all ranks must call it."""
    own, state = stage.state_dict(), {}
    said = json.dumps({name: [a.dtype.name, a.shape] for name, a in own.items()}).encode()
    for root in range(comm.size):
        length = comm.broadcast(np.array(len(said)), root)
        text = np.frombuffer(said, np.uint8) if root == comm.rank else np.empty(length, np.uint8)
        for name, (dtype, shape) in json.loads(comm.broadcast(text, root).tobytes()).items():
            array = own[name] if root == comm.rank else np.empty(shape, dtype)
            state[name] = comm.broadcast(array, root)
    return state
