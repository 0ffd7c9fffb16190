"""ZeRO: data parallelism whose ranks share out what they would all hold in the same way.

With Adam in float32 a parameter costs 16 bytes: itself, its gradient, and two moments. Every rank
of plain data parallelism has all of it. But a rank can do with the moments of its own part of the
parameters, if it gets the others' results (stage 1: 4 + 4 + 8 / N bytes on N ranks); with the
gradients of that part (stage 2: 4 + 12 / N); and with that part of the parameters, if a layer's are
fetched before it runs, forward and again backward, and dropped behind it (stage 3: 16 / N).
Stages 1 and 2 send as many bytes as plain data parallelism: a ring all-reduce is a reduce-scatter
and an all-gather. Stage 3 sends half as many more.
Source: Rajbhandari et al., 2019, arXiv:1910.02054; Zhao et al., 2023, arXiv:2304.11277.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from chapter_03_neural_nets import Module, ModuleList, Optimizer, Parameter
from chapter_08_optimization.wrapper import Combined
from chapter_09_scaling.checkpointing import checkpointed
from chapter_09_scaling.collectives import bounds
from chapter_09_scaling.communicator import Communicator


class Unit:
    """Some parameters in one row of numbers, of which each rank has a part, its `shard`.

    Where `kept`, the parameters are views of the whole row, and the shard is a part of it. Else the
    row exists only inside `whole`; without it the parameters have their shapes, and no memory.
    """

    def __init__(self, comm: Communicator, params: Sequence[Parameter], kept: bool) -> None:
        self.comm, self.params, self.kept = comm, list(params), kept
        flat = np.concatenate([p.data.reshape(-1) for p in params])
        comm.broadcast(flat, out=flat)
        own = slice(*bounds(flat.size, comm.size)[comm.rank :][:2])
        self.size, self.users = flat.size, 0
        self.shard = Parameter(flat[own] if kept else flat[own].copy())
        self.flat = flat if kept else None
        self.arrived: set[int] = set()
        if kept:
            self.show(flat)
        else:
            self.free()

    def show(self, flat: np.ndarray) -> None:
        """Let the parameters be views of the row."""
        ends = np.cumsum([p.size for p in self.params])[:-1]
        for p, part in zip(self.params, np.split(flat, ends)):
            p.data = part.reshape(p.shape)

    def free(self) -> None:
        for p in self.params:
            p.data = np.broadcast_to(np.zeros((), p.dtype), p.shape)  # one number

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside the block the parameters are there."""
        if not self.kept and self.users == 0:
            self.show(self.comm.all_gather(self.shard.data, self.size))
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
            if not self.kept and self.users == 0:
                self.free()

    @property
    def complete(self) -> bool:
        """Whether all gradients have arrived since they were last added up."""
        return len(self.arrived) == len(self.params)

    def reduce(self) -> None:
        """Give the shard the sum of its part of all ranks' gradients, and drop the others."""
        gs = [np.zeros(p.shape, p.dtype) if p.grad is None else p.grad for p in self.params]
        for p in self.params:
            p.grad = None
        g = self.comm.reduce_scatter(np.concatenate([g.reshape(-1) for g in gs]))
        self.shard.grad = g if self.shard.grad is None else self.shard.grad + g
        self.arrived.clear()

    def update(self) -> None:
        """Show the parameters that a step has changed."""
        if self.kept:
            self.comm.all_gather(self.shard.data, out=self.flat)


def sharded(layer: type[Module]) -> type[Module]:
    """A layer class for stage 3: its parameters are there while it runs, and only then.

    Between the two runs it keeps its inputs only (`checkpointing.py`), as all else would hold on to
    the parameters. The same parameters and names as `layer`.
    """

    class Sharded(layer):
        unit: Unit | None = None  # given by ZeRO

        def forward(self, *inputs: Any, **options: Any) -> Any:
            with contextlib.nullcontext() if self.unit is None else self.unit.whole():
                return super().forward(*inputs, **options)

    return checkpointed(Sharded)


def parts_of(model: Module) -> Iterator[Module]:
    """The parts of a model, and the members of its lists."""
    for child in model.children():
        yield from child.children() if isinstance(child, ModuleList) else (child,)


class ZeRO(Combined):
    """An optimiser of a model on all ranks, each of which changes its own part of the parameters.

    `make_optimizer(params)` makes one that looks at each number on its own (SGD, Adam, Lion, not
    Muon or LAMB); it gets one row of numbers for each layer. Gradients of all ranks are added up.
    Stage 3 takes models whose layers are `sharded`; what lies outside of them is there from the
    first use in a step to its end. `state_dict` is that of the rank's own part.
    Raises ValueError for another stage, and for stage 3 of a model without such layers.
    """

    def __init__(
        self,
        comm: Communicator,
        model: Module,
        make_optimizer: Callable[[list[Parameter]], Optimizer],
        stage: int = 1,
    ) -> None:
        if stage not in (1, 2, 3):
            raise ValueError(f"the stages of ZeRO are 1, 2 and 3, not {stage}")
        for p in model.parameters():
            if not p.requires_grad:
                p.data[...] = comm.broadcast(p.data)
        layers = [part for part in model.modules() if hasattr(part, "unit")]
        if stage == 3 and not layers:
            raise ValueError("stage 3 needs layers that are sharded: GPT(config, layer=sharded("
                             "TransformerEncoderLayer))")  # fmt: skip
        self.comm, self.model, self.stage = comm, model, stage
        self.units: list[Unit] = []
        self.outer = contextlib.ExitStack()  # in which what lies outside of the layers is whole
        inside = set()
        for layer in layers or parts_of(model):
            params = [p for p in layer.parameters() if p.requires_grad]
            if stage == 3 and not inside.isdisjoint(params):
                raise ValueError("stage 3 cannot fetch parameters that two of the layers share")
            params = [p for p in params if p not in inside]
            inside.update(params)
            if params:
                self.units.append(Unit(comm, params, kept=stage < 3))
            if params and stage == 3:
                layer.unit = self.units[-1]
        # Which all ranks add up in the same order, the last layer's first.
        self.order = self.units[::-1]
        self.reduced = 0  # how many of them have been, in this step
        rest = [p for p in model.parameters() if p.requires_grad and p not in inside]
        if rest:
            unit = Unit(comm, rest, kept=stage < 3)
            self.units.append(unit)
            self.order.append(unit)
            if stage == 3:
                model.register_forward_pre_hook(lambda *_: self.hold(unit))
        if stage > 1:
            for unit in self.units:
                for i, p in enumerate(unit.params):
                    p.register_hook(lambda g, unit=unit, i=i: self.arrive(unit, i))
        if stage == 3:
            model.state_dict = functools.partial(self.state_of, model.state_dict)
        super().__init__([make_optimizer([unit.shard for unit in self.units])])

    def hold(self, unit: Unit) -> None:
        if unit.users == 0:
            self.outer.enter_context(unit.whole())

    def state_of(self, state_dict: Callable[[], dict]) -> dict[str, np.ndarray]:
        """The model's own `state_dict`, where its parameters are there; else RuntimeError."""
        if not all(unit.users for unit in self.units):
            raise RuntimeError("the parameters are shared out among the ranks: take state_dict() "
                               "inside `with zero.whole():`")  # fmt: skip
        return state_dict()

    def arrive(self, unit: Unit, i: int) -> None:
        """The gradient of a parameter is complete: add up the units that are, in their order."""
        if self.reduced == len(self.order):
            self.reduced = 0  # another backward pass before the step
        unit.arrived.add(i)
        while self.reduced < len(self.order) and self.order[self.reduced].complete:
            self.order[self.reduced].reduce()
            self.reduced += 1

    def reduce(self) -> None:
        """Add up what is not yet added up of all ranks' gradients."""
        for unit in self.order[self.reduced :]:
            unit.reduce()
        self.reduced = 0 if self.stage == 1 else len(self.order)
        self.outer.close()

    def step(self) -> None:
        self.reduce()
        self.reduced = 0
        super().step()
        for unit in self.units:
            unit.update()

    def zero_grad(self) -> None:
        super().zero_grad()
        self.model.zero_grad()

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside the block all parameters are there: to save the model, or to look at it."""
        with contextlib.ExitStack() as stack:
            for unit in self.units:
                stack.enter_context(unit.whole())
            yield
