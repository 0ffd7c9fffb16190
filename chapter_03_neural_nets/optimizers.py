"""Optimisers: how a gradient becomes a step.

Each is its paper's update for one parameter, in place; the base class calls it for all of them,
counts the steps and asks for the learning rate, a number or a function of the step. Trajectories
are PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Iterable, Mapping, Sequence, Union

import numpy as np

from utils import Tensor
from utils.graph import Leaf
from utils.promotion import plain

LearningRate = Union[float, Callable[[int], float]]


class Optimizer:
    """Base class: define `update`, which changes one parameter in place.

    `params` are Tensors, or groups of them with options of their own:
    [{"params": [...], "weight_decay": 0.0}, ...]. `lr` is a number, or a function of the number of
    steps taken. Raises ValueError for an option out of its range, now or when `lr` returns it.
    """

    state_names: Sequence[str] = ()  # what `update` keeps for each parameter

    def __init__(self, params: Iterable, lr: LearningRate, **options: Any) -> None:
        if isinstance(params, Tensor):
            raise TypeError("give an optimiser a list of parameters, also where there is one only")
        params = list(params)
        if not params:
            raise ValueError(f"{type(self).__name__} got no parameters")
        self.defaults = {"lr": lr, **options}
        self.steps = 0
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        for group in params if isinstance(params[0], Mapping) else [{"params": params}]:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Take in Tensors under "params", with their options; those not given are `defaults`."""
        unknown = set(group) - set(self.defaults) - {"params"}
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no option {', '.join(sorted(unknown))}; it has "
                f"{', '.join(self.defaults)}"
            )
        if "params" not in group:
            raise ValueError(f"a group of parameters needs params, and has {', '.join(group)}")
        members = group["params"]
        members = [members] if isinstance(members, Tensor) else list(members)
        for p in members:
            if not isinstance(p, Tensor) or p.dtype.kind != "f":
                raise TypeError(f"an optimiser changes floating Tensors, not {_kind(p)}")
            if p.requires_grad and not isinstance(p.node, Leaf):
                raise ValueError(f"a computed Tensor, of shape {p.shape}, cannot be optimised")
            if p in self.state:
                raise ValueError(f"a parameter of shape {p.shape} is given twice")
            self.state[p] = {}
        options = {**self.defaults, **group, "params": members}
        self.check(options)
        self.param_groups.append(options)

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for options out of range; subclasses add theirs."""
        self.learning_rate(options)
        in_range("weight_decay", options.get("weight_decay", 0.0))

    def learning_rate(self, group: Mapping[str, Any]) -> float:
        """The learning rate of a group at the step that comes next."""
        lr = group["lr"]
        return in_range("lr", lr(self.steps) if callable(lr) else lr)

    @property
    def lr(self) -> float:
        """The learning rate of the step that comes next (of the first group)."""
        return self.learning_rate(self.param_groups[0])

    def parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            self.update_group(group, self.learning_rate(group))
        self.steps += 1

    def update_group(self, group: Mapping[str, Any], lr: float) -> None:
        for p in group["params"]:
            if p.grad is not None:
                self.update(p, p.grad, self.state[p], lr, group)

    def update(
        self, p: Tensor, g: np.ndarray, state: dict[str, Any], lr: float, group: Mapping[str, Any]
    ) -> None:
        """Change `p.data` in place by the gradient `g`, which must stay as it is."""
        raise NotImplementedError(f"{type(self).__name__} does not define update")

    def zero_grad(self) -> None:
        for p in self.parameters():
            p.grad = None

    def kept_for(self, p: Tensor, group: Mapping[str, Any]) -> Sequence[str]:
        """Which of `state_names` `update` keeps for a parameter of this group."""
        return self.state_names

    def state_shape(self, p: Tensor, name: str) -> tuple[int, ...]:
        """The shape of what `update` keeps for a parameter by that name."""
        return () if name == "step" else p.shape

    def state_dict(self) -> dict[str, np.ndarray]:
        """The number of steps, and each parameter's state as `number.name`: arrays, not copies."""
        saved = {"steps": np.array(self.steps)}
        for i, p in enumerate(self.parameters()):
            saved.update({f"{i}.{name}": np.asarray(x) for name, x in self.state[p].items()})
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; ValueError where the parameters are others."""
        params = self.parameters()
        states: list[dict[str, Any]] = [{} for _ in params]
        for key, value in saved.items():
            number, _, name = key.partition(".")
            if key == "steps":
                continue
            array = np.array(value)
            if not (number.isdigit() and int(number) < len(params)):
                raise ValueError(f"{key} belongs to none of the {len(params)} parameters")
            if name not in self.state_names:
                raise ValueError(f"{key} is not what {type(self).__name__} keeps of a parameter")
            shape = self.state_shape(params[int(number)], name)
            if array.shape != shape:
                raise ValueError(f"{key} has shape {array.shape}, its parameter asks for {shape}")
            states[int(number)][name] = array if array.dtype.kind == "f" else array.item()
        if "steps" not in saved:
            raise ValueError("this is not the state of an optimiser: it lacks steps")
        groups = (group for group in self.param_groups for _ in group["params"])
        for i, (p, group, state) in enumerate(zip(params, groups, states)):
            missing = [f"{i}.{n}" for n in self.kept_for(p, group) if state and n not in state]
            if missing:
                raise ValueError(
                    f"this is not the state of {type(self).__name__}: it lacks {', '.join(missing)}"
                )
        self.steps = int(saved["steps"])
        self.state = dict(zip(params, states))

    def __repr__(self) -> str:
        options = {k: v for k, v in self.param_groups[0].items() if k != "params"}
        listed = ", ".join(f"{name}={value}" for name, value in options.items())
        return f"{type(self).__name__}({sum(p.size for p in self.parameters())} numbers, {listed})"


class SGD(Optimizer):
    """p -= lr v, where the velocity v = momentum v + g gathers what gradients have in common.

    Nesterov's variant looks where the velocity will lead: p -= lr (g + momentum v).
    Source: Sutskever et al., 2013, On the importance of initialization and momentum, ICML.
    """

    state_names = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
        )

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        in_range("momentum", options["momentum"])
        if options["nesterov"] and options["momentum"] == 0:
            raise ValueError("nesterov=True needs a momentum above 0")

    def kept_for(self, p, group):
        return self.state_names if group["momentum"] else ()

    def update(self, p, g, state, lr, group):
        momentum = group["momentum"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p.data
        if momentum:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = v = g.copy()
            else:
                v = state["momentum_buffer"]
                v *= momentum
                v += g
            g = g + momentum * v if group["nesterov"] else v
        p.data -= lr * g


class Adam(Optimizer):
    """Steps of the size of the learning rate, whatever the size of the gradients.

    m and v are running means of g and g^2; both begin at 0, which 1 - beta^t corrects:
    p -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps). Weight decay is added to g.
    Source: Kingma, Ba, 2014, arXiv:1412.6980.
    """

    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_betas(options["betas"])
        in_range("eps", options["eps"])

    def update(self, p, g, state, lr, group):
        if group["weight_decay"]:
            g = self.decayed(p.data, g, lr, group["weight_decay"])
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(g), exp_avg_sq=np.zeros_like(g))
        state["step"] += 1
        adam_step(p.data, g, state["exp_avg"], state["exp_avg_sq"], state["step"], lr, group)

    @staticmethod
    def decayed(data: np.ndarray, g: np.ndarray, lr: float, weight_decay: float) -> np.ndarray:
        """The gradient with weight decay: that of weight_decay / 2 * sum(p^2) is added."""
        return g + weight_decay * data


class AdamW(Adam):
    """Adam whose weight decay takes part of the parameter itself: p -= lr weight_decay p.

    Added to the gradient it would be divided by sqrt(v), and decay large gradients least.
    Source: Loshchilov, Hutter, 2017, arXiv:1711.05101.
    """

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    @staticmethod
    def decayed(data: np.ndarray, g: np.ndarray, lr: float, weight_decay: float) -> np.ndarray:
        data *= 1 - lr * weight_decay
        return g


def adam_step(
    data: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    t: int,
    lr: float,
    group: Mapping[str, Any],
) -> None:
    """Adam's t-th update of `data`, in place, with its running means `m` and `v`."""
    (beta1, beta2), eps = group["betas"], group["eps"]
    update_moments(g, m, v, group["betas"])
    scale = np.sqrt(v, out=np.empty_like(v))
    scale *= 1 / math.sqrt(1 - beta2**t)
    scale += eps
    np.divide(m, scale, out=scale)
    scale *= lr / (1 - beta1**t)
    data -= scale


def update_moments(g: np.ndarray, m: np.ndarray, v: np.ndarray, betas: Sequence[float]) -> None:
    """The running means of g and of its square, in place."""
    beta1, beta2 = betas
    m += (1 - beta1) * (g - m)
    v *= beta2
    v += (1 - beta2) * np.square(g)


def in_range(name: str, value: Any, least: float = 0.0) -> float:
    """The value, if it is a finite number of at least `least`; else ValueError (also for NaN)."""
    value = plain(value).item() if np.ndim(value) == 0 else value
    if not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least {least:g}, not {value}")
    return value


def check_betas(betas: Sequence[float]) -> None:
    """Raise ValueError where these are no two shares that a running mean keeps."""
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas are two numbers from 0 up and below 1, not {betas}")


def _kind(x: Any) -> str:
    return f"{x.dtype} ones" if isinstance(x, Tensor) else type(x).__name__
