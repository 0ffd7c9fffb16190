"""Chapter 8: optimisers, schedules, regularisers, averages, and the landscape they move in."""

from __future__ import annotations

from chapter_08_optimization.adafactor import Adafactor
from chapter_08_optimization.adaptive import Adagrad, NAdam, RMSprop
from chapter_08_optimization.averaging import EMA, SWA, refresh_statistics
from chapter_08_optimization.early_stopping import early_stopping
from chapter_08_optimization.figures import (
    plot_race,
    plot_race_in_seconds,
    plot_rates,
    plot_schedules,
)
from chapter_08_optimization.groups import hidden_matrices, weight_decay_groups
from chapter_08_optimization.lamb import LAMB
from chapter_08_optimization.landscape import (
    Plane,
    loss_surface,
    path_between,
    principal_plane,
    random_direction,
    random_plane,
    weights_of,
)
from chapter_08_optimization.landscape_figures import (
    plot_path_between,
    plot_paths_on_ravine,
    plot_surface_with_paths,
    plot_two_minima,
)
from chapter_08_optimization.lion import Lion
from chapter_08_optimization.lookahead import Lookahead
from chapter_08_optimization.mixing import Mixed, cutmix, mixup
from chapter_08_optimization.muon import Muon, orthogonalize
from chapter_08_optimization.race import CONTESTANTS, Run, Task, best_of, run, tuned
from chapter_08_optimization.ravine import VALLEYS, path_on
from chapter_08_optimization.recipe import muon_and_adamw, recipe
from chapter_08_optimization.sam import SAM
from chapter_08_optimization.schedules import cosine, inverse_sqrt, linear, one_cycle, warm_up, wsd
from chapter_08_optimization.stochastic_depth import StochasticDepth, StochasticDepthLayer
from chapter_08_optimization.wrapper import Combined

__all__ = [
    "Adafactor",
    "Adagrad",
    "CONTESTANTS",
    "Combined",
    "EMA",
    "LAMB",
    "Lion",
    "Lookahead",
    "Mixed",
    "Muon",
    "NAdam",
    "Plane",
    "RMSprop",
    "Run",
    "SAM",
    "SWA",
    "StochasticDepth",
    "StochasticDepthLayer",
    "Task",
    "VALLEYS",
    "best_of",
    "cosine",
    "cutmix",
    "early_stopping",
    "hidden_matrices",
    "inverse_sqrt",
    "linear",
    "loss_surface",
    "mixup",
    "muon_and_adamw",
    "one_cycle",
    "orthogonalize",
    "path_between",
    "path_on",
    "plot_path_between",
    "plot_paths_on_ravine",
    "plot_race",
    "plot_race_in_seconds",
    "plot_rates",
    "plot_schedules",
    "plot_surface_with_paths",
    "plot_two_minima",
    "principal_plane",
    "random_direction",
    "random_plane",
    "recipe",
    "refresh_statistics",
    "run",
    "tuned",
    "warm_up",
    "weight_decay_groups",
    "weights_of",
    "wsd",
]
