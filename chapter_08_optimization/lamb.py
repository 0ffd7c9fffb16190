"""LAMB: each layer's step is as long, beside its weights, as every other layer's.

With large batches gradients are exact and rates high, and one layer whose step is long beside its
weights spoils all. So the step that Adam would take is stretched to the length of the weights.
"""

from __future__ import annotations

import math

import numpy as np

import chapter_03_neural_nets as chapter_03
from chapter_03_neural_nets.optimizers import update_moments


class LAMB(chapter_03.AdamW):
    """p -= lr |p| / |u| u, with u = Adam's direction + weight_decay p; where |p| or |u| is 0, u.

    Source: You et al., 2019, arXiv:1904.00962, version 3, with its corrections of both means.
    """

    def update(self, p, g, state, lr, group):
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(g), exp_avg_sq=np.zeros_like(g))
        state["step"] = t = state["step"] + 1
        (beta1, beta2), mean, variance = group["betas"], state["exp_avg"], state["exp_avg_sq"]
        update_moments(g, mean, variance, group["betas"])
        u = mean / (1 - beta1**t) / (np.sqrt(variance / (1 - beta2**t)) + group["eps"])
        if group["weight_decay"]:
            u = u + group["weight_decay"] * p.data
        weights, step = (float(np.linalg.norm(a)) for a in (p.data, u))
        trust = weights / step if weights > 0 and step > 0 and math.isfinite(step) else 1.0
        p.data -= lr * trust * u
