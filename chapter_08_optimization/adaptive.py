"""A learning rate for every number: divide by how large its gradients have been.

Some parameters get large gradients at every step and some a small one now and then; one rate is too
much for these or too little for those. Adagrad divides by the root of the sum of all squares so
far, so that its steps only shrink; RMSprop by a running mean, which forgets; Adam (chapter 3) adds
momentum, and NAdam momentum that looks ahead.
"""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

import numpy as np

import chapter_03_neural_nets as chapter_03
from chapter_03_neural_nets import Optimizer
from chapter_03_neural_nets.optimizers import LearningRate, in_range, update_moments


class Adagrad(Optimizer):
    """s += g^2; p -= lr / (1 + lr_decay t) g / (sqrt(s) + eps), for t = 0, 1, ...

    What is rarely seen keeps a large rate, which suits words. Weight decay is added to g.
    Source: Duchi, Hazan, Singer, 2011, JMLR 12:2121-2159.
    """

    state_names = ("step", "sum")

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        for name in ("lr_decay", "initial_accumulator_value", "eps"):
            in_range(name, options[name])

    def update(self, p, g, state, lr, group):
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p.data
        if not state:
            state.update(step=0, sum=np.full_like(g, group["initial_accumulator_value"]))
        squares = state["sum"]
        squares += np.square(g)
        p.data -= (
            lr / (1 + group["lr_decay"] * state["step"]) * g / (np.sqrt(squares) + group["eps"])
        )
        state["step"] += 1


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2; p -= lr g / (sqrt(v) + eps).

    `centered` takes the square of the running mean of g from v: what is left is a variance. With
    momentum the quotients gather: b = momentum b + quotient; p -= lr b. Weight decay is added to g.
    Source: Tieleman, Hinton, 2012, lecture 6.5 of Neural Networks for Machine Learning; centered:
    Graves, 2013, arXiv:1308.0850.
    """

    state_names = ("square_avg", "grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        for name in ("alpha", "eps", "momentum"):
            in_range(name, options[name])
        if options["alpha"] > 1:
            raise ValueError(f"alpha is a share, at most 1, not {options['alpha']}")

    def kept_for(self, p, group):
        centred = ("grad_avg",) if group["centered"] else ()
        return ("square_avg", *centred, *(("momentum_buffer",) if group["momentum"] else ()))

    def update(self, p, g, state, lr, group):
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p.data
        if not state:
            state.update({name: np.zeros_like(g) for name in self.kept_for(p, group)})
        alpha, variance = group["alpha"], state["square_avg"]
        variance *= alpha
        variance += (1 - alpha) * np.square(g)
        if group["centered"]:
            mean = state["grad_avg"]
            mean += (1 - alpha) * (g - mean)
            variance = np.maximum(variance - np.square(mean), 0)  # rounding may make it less
        step = g / (np.sqrt(variance) + group["eps"])
        if group["momentum"]:
            gathered = state["momentum_buffer"]
            gathered *= group["momentum"]
            gathered += step
            step = gathered
        p.data -= lr * step


class NAdam(chapter_03.Adam):
    """Adam with Nesterov's momentum: the step mixes g itself with the running mean it leads to.

    With mu_t = beta1 (1 - 0.96^(momentum_decay t) / 2), which begins near beta1 / 2, and M_t their
    product, p -= lr ((1 - mu_t) g / (1 - M_t) + mu_(t+1) m / (1 - M_(t+1))) / (sqrt(v / (1 -
    beta2^t)) + eps). Weight decay is added to g, or decays p itself if it is decoupled.
    Source: Dozat, 2016, Incorporating Nesterov Momentum into Adam, ICLR workshop.
    """

    state_names = ("step", "mu_product", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable,
        lr: LearningRate = 2e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
    ) -> None:
        Optimizer.__init__(
            self,
            params,
            lr,
            betas=tuple(betas),
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
        )

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        in_range("momentum_decay", options["momentum_decay"])

    def state_shape(self, p, name):
        return () if name == "mu_product" else super().state_shape(p, name)

    def update(self, p, g, state, lr, group):
        (beta1, beta2), decay = group["betas"], group["momentum_decay"]
        if group["weight_decay"]:
            kind = chapter_03.AdamW if group["decoupled_weight_decay"] else chapter_03.Adam
            g = kind.decayed(p.data, g, lr, group["weight_decay"])
        if not state:
            moments = {name: np.zeros_like(g) for name in ("exp_avg", "exp_avg_sq")}
            state.update(step=0, mu_product=1.0, **moments)
        state["step"] = t = state["step"] + 1
        now, ahead = (beta1 * (1 - 0.5 * 0.96 ** (n * decay)) for n in (t, t + 1))
        state["mu_product"] = product = float(state["mu_product"]) * now
        mean, variance = state["exp_avg"], state["exp_avg_sq"]
        update_moments(g, mean, variance, group["betas"])
        step = (1 - now) / (1 - product) * g
        step += ahead / (1 - product * ahead) * mean
        step /= np.sqrt(variance / (1 - beta2**t)) + group["eps"]
        p.data -= lr * step
