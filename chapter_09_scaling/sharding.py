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
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np

from chapter_03_neural_nets import Module, ModuleList, Optimizer, Parameter
from chapter_03_neural_nets.module import LoadedKeys
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
        self.size, self.users = flat.size, 0
        self.shard = Parameter(self.own(flat) if kept else self.own(flat).copy())
        self.flat: np.ndarray | None = None  # the whole row, where it exists
        self.arrived: set[int] = set()
        if kept:
            self.show(flat)
        else:
            self.free()

    def own(self, flat: np.ndarray) -> np.ndarray:
        """This rank's part of a row."""
        return flat[slice(*bounds(self.size, self.comm.size)[self.comm.rank :][:2])]

    def cut(self, flat: np.ndarray) -> list[np.ndarray]:
        """A row as arrays of the parameters' shapes, which are views of it."""
        ends = np.cumsum([p.size for p in self.params])[:-1]
        return [part.reshape(p.shape) for p, part in zip(self.params, np.split(flat, ends))]

    def show(self, flat: np.ndarray) -> None:
        """Let the parameters be views of the row."""
        self.flat = flat
        for p, array in zip(self.params, self.cut(flat)):
            p.data = array

    def free(self) -> None:
        self.flat = None
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

    def take(self) -> None:
        """The opposite: let the shard be what the parameters are, inside `whole`."""
        self.shard.data[...] = self.own(self.flat)


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
    first use in a step to its end. `state_dict`, and that of a model in stage 3, is put together
    from all ranks: it is that of one process, make_optimizer(model.parameters()). So all ranks must
    ask for it and load it, and these may be others, or more, or one.
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
        for unit in self.units:
            for i, p in enumerate(unit.params):
                p.register_hook(lambda g, unit=unit, i=i: self.arrive(unit, i))
        if stage == 3:
            model.state_dict = functools.partial(self.model_state, model.state_dict)
            model.load_state_dict = functools.partial(self.load_model, model.load_state_dict)
        super().__init__([make_optimizer([unit.shard for unit in self.units])])

    def hold(self, unit: Unit) -> None:
        if unit.users == 0:
            self.outer.enter_context(unit.whole())

    def arrive(self, unit: Unit, i: int) -> None:
        """The gradient of a parameter is complete: add up the units that are, in their order."""
        if self.reduced == len(self.order):
            self.reduced = 0  # another backward pass before the step
        if self.stage == 1:
            return  # all gradients stay where they are until the step
        unit.arrived.add(i)
        while self.reduced < len(self.order) and self.order[self.reduced].complete:
            self.order[self.reduced].reduce()
            self.reduced += 1

    def reduce(self) -> None:
        """Add up what is not yet added up of all ranks' gradients."""
        for unit in self.order[self.reduced :]:
            unit.reduce()
        self.reduced = len(self.order)
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

    def model_state(self, state_dict: Callable[[], dict]) -> dict[str, np.ndarray]:
        """The model's own `state_dict`, of parameters that are fetched for it."""
        with self.whole():
            return state_dict()

    def load_model(
        self, load_state_dict: Callable[..., LoadedKeys], state: Mapping[str, Any], strict=True
    ) -> LoadedKeys:
        """The model's own `load_state_dict`, of which each rank keeps its part."""
        with self.whole():
            found = load_state_dict(state, strict)
            for unit in self.units:
                unit.take()
        return found

    def state_dict(self) -> dict[str, np.ndarray]:
        """What one process would save: the steps, and each parameter's state as `number.name`."""
        kept = self.optimizers[0].state_dict()
        saved = {"steps": np.array(self.steps)}
        if len(kept) != len(saved) + sum(map(len, self.state.values())):
            raise TypeError(f"{self.optimizers[0]!r} keeps more than a state of each parameter, "
                            "which ZeRO cannot put together")  # fmt: skip
        numbers = {p: i for i, p in enumerate(self.model.parameters())}
        for unit in self.units:
            for name, part in self.state[unit.shard].items():
                arrays = [np.asarray(part)] * len(unit.params)
                if np.ndim(part):
                    arrays = unit.cut(self.comm.all_gather(part, unit.size))
                saved.update({f"{numbers[p]}.{name}": a for p, a in zip(unit.params, arrays)})
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, or that of one process; each rank takes its part.

        Raises ValueError where it does not fit, RuntimeError where rank 0 was given another one.
        """
        numbers = {p: i for i, p in enumerate(self.model.parameters())}
        names = dict.fromkeys(key.partition(".")[2] for key in saved if key != "steps")
        own: dict[str, Any] = {key: saved[key] for key in ("steps",) if key in saved}
        used = set(own)
        for i, unit in enumerate(self.units):
            for name in names:
                keys = [f"{numbers[p]}.{name}" for p in unit.params]
                missing = [key for key in keys if key not in saved]
                if len(missing) == len(keys):
                    continue
                arrays = [np.asarray(saved[key]) for key in keys if key in saved]
                alike = self.optimizers[0].state_shape(unit.shard, name) == ()
                shapes = [() if alike else p.shape for p in unit.params]
                if missing or [a.shape for a in arrays] != shapes:
                    raise ValueError(f"{', '.join(keys)} are needed together, of the shapes "
                                     f"{shapes}")  # fmt: skip
                whole = np.concatenate([a.reshape(-1) for a in arrays])
                own[f"{i}.{name}"] = arrays[0] if alike else unit.own(whole)
                used.update(keys)
        if used != set(saved):
            raise ValueError(f"{', '.join(sorted(set(saved) - used))} belong to no parameter that "
                             "is trained")  # fmt: skip
        super().load_state_dict({f"0.{key}": value for key, value in own.items()})
        steps = int(self.comm.broadcast(np.array(self.steps)))
        if steps != self.steps:
            raise RuntimeError(f"rank {self.comm.rank} goes on from step {self.steps}, and rank 0 "
                               f"from {steps}: give all the same checkpoint")  # fmt: skip
