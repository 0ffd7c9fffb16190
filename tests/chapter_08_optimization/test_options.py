"""Options out of range: ValueError that names the option, also for NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chapter_03_neural_nets import Parameter
from chapter_08_optimization import (
    EMA,
    LAMB,
    SAM,
    SWA,
    Adafactor,
    Adagrad,
    Lion,
    Lookahead,
    Muon,
    NAdam,
    RMSprop,
)

BAD = [
    (Adagrad, "lr_decay", [-1.0, math.nan]),
    (Adagrad, "initial_accumulator_value", [-1.0, math.nan]),
    (RMSprop, "alpha", [-0.1, 1.5, math.nan]),
    (RMSprop, "momentum", [-1.0, math.nan]),
    (NAdam, "betas", [(0.9, 1.0), (math.nan, 0.9), (0.9,), (-0.1, 0.9)]),
    (NAdam, "momentum_decay", [-1.0, math.nan]),
    (Adafactor, "beta2_decay", [0.5, math.nan, -math.inf]),
    (Adafactor, "eps", [(1e-3,), (math.nan, 1e-3), (None, -1.0), (None, math.nan)]),
    (Adafactor, "d", [0.5, 0.0, math.nan]),
    (Lion, "betas", [(0.9, 1.0), (math.nan, 0.9), (0.9,)]),
    (LAMB, "betas", [(1.0, 0.9), (0.9, math.nan)]),
    (Muon, "momentum", [-1.0, math.nan]),
    (Muon, "ns_steps", [-1, math.nan, 2.5]),
    (Muon, "ns_coefficients", [(1.0, 2.0), (math.nan, 1.0, 1.0)]),
    (Muon, "adjust_lr_fn", ["adam"]),
    (Muon, "parts", [0, -1, 1.5, math.nan]),
    *[(kind, "eps", [-1e-8, math.nan]) for kind in (Adagrad, RMSprop, NAdam, LAMB, Muon)],
    *[
        (kind, name, [-0.1, math.nan, math.inf])
        for kind in (Adagrad, RMSprop, NAdam, Adafactor, Lion, LAMB, Muon)
        for name in ("lr", "weight_decay")
    ],
    (lambda p, **o: Lookahead(Lion(p), **o), "k", [0, 1.5, math.nan]),
    (lambda p, **o: Lookahead(Lion(p), **o), "alpha", [-0.1, 1.1, math.nan]),
    (lambda p, **o: EMA(Lion(p), **o), "decay", [-0.1, 1.1, math.nan]),
    (lambda p, **o: SWA(Lion(p), **o), "start", [0, 1.5, math.nan]),
    (lambda p, **o: SWA(Lion(p), start=1, **o), "every", [0, 1.5, math.nan]),
    (lambda p, **o: SAM(Lion(p), **o), "rho", [-0.1, math.nan, math.inf]),
]
BAD = [(kind, name, value) for kind, name, values in BAD for value in values]


@pytest.mark.parametrize("kind, option, value", BAD)
def test_bad_options_are_named(kind, option, value):
    with pytest.raises(ValueError, match=option):
        kind([Parameter(np.ones((2, 3)))], **{option: value})
