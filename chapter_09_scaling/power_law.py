"""A scaling law: the loss of a model from how large it is and how much it has read.

L(N, D) = E + A / N^alpha + B / D^beta. E is what no model can know of the next token, the second
term is what a model of N parameters is too small to know, the third what D tokens were too few to
teach. Five constants are fitted to runs that were cheap, and then asked about one that is not.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

from chapter_03_neural_nets.optimizers import in_range
from utils.seeding import generator

# Where the search begins: exponents, and the share of the loss that nothing can lower.
EXPONENTS = (0.1, 0.3, 0.6, 1.0)
SHARES = (0.1, 0.4, 0.7, 0.9)
STEPS = 120  # more than it takes: most fits stand still after 30
# Of log (E, A, B, alpha, beta): runs that no power law describes must not end in infinity.
LEAST = np.log([1e-9, 1e-9, 1e-9, 0.01, 0.01])
MOST = np.log([1e9, 1e30, 1e30, 3.0, 3.0])


class PowerLaw(NamedTuple):
    """E + A / N^alpha + B / D^beta: a loss (nats) for N parameters and D tokens.

    Each constant is a number, or an array of them: as many laws at once.
    Source: Hoffmann et al., 2022, arXiv:2203.15556.
    """

    E: Any
    A: Any
    B: Any
    alpha: Any
    beta: Any

    def __call__(self, parameters: Any, tokens: Any) -> Any:
        return self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta


def compute_optimal(law: PowerLaw, flops: Any) -> tuple[Any, Any]:
    """Of all (N, D) that cost so many operations, C = 6 N D, those of the lowest loss.

    There the two terms fall equally fast: alpha A / N^alpha = beta B / D^beta.
    Source: Hoffmann et al., 2022, arXiv:2203.15556, equation 4.
    """
    pairs = np.asarray(flops) / 6
    total = law.alpha + law.beta
    balance = (law.alpha * law.A / (law.beta * law.B)) ** (1 / total)
    parameters = balance * pairs ** (law.beta / total)
    return parameters, pairs / parameters


def fit_power_law(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    delta: float = 1e-3,
) -> PowerLaw:
    """The law nearest to the runs: the least sum of Huber's function of errors in log L.

    An error up to `delta` counts by its square and a larger one by its size, so that a run gone
    wrong does not bend the law. Of the minima found from a grid of starting points the lowest is
    returned. Raises ValueError for losses that are no positive numbers, and for runs that cannot
    tell five constants: fewer than 6, or of fewer than 3 sizes or 3 numbers of tokens.
    Source: Hoffmann et al., 2022, arXiv:2203.15556, section 3.3.
    """
    runs = logs_of(parameters, tokens, losses)
    in_range("delta", delta)
    if delta == 0:
        raise ValueError("delta is the error up to which squares are taken: it cannot be 0")
    thetas, objectives = minimized(starting_points(*runs), *runs, np.ones(len(runs[0])), delta)
    return law_of(thetas[np.argmin(objectives)])


def bootstrap(
    law: PowerLaw,
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    resamples: int = 1000,
    delta: float = 1e-3,
    rng: np.random.Generator | None = None,
) -> PowerLaw:
    """Laws fitted to the runs drawn anew: each constant is an array (resamples,).

    As many runs are drawn as there are, with replacement, which gives each run a whole weight; the
    fit begins at `law`. How far the constants scatter is how far they would if the experiment were
    done again, as long as the law is true and no run depends on another.
    Source: Efron, 1979, doi:10.1214/aos/1176344552.
    """
    runs = logs_of(parameters, tokens, losses)
    n = len(runs[0])
    weights = generator(rng).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    starts = np.repeat(np.log([law]), resamples, axis=0)
    return law_of(minimized(starts, *runs, weights, delta)[0].T)


def interval(values: np.ndarray, share: float = 0.9) -> tuple[float, float]:
    """The middle `share` of the values: what lies between their outer quantiles."""
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def law_of(theta: np.ndarray) -> PowerLaw:
    """The constants from their logarithms, (5,) or (5, laws)."""
    return PowerLaw(*(x.item() if x.ndim == 0 else x for x in map(np.asarray, np.exp(theta))))


def logs_of(*columns: Sequence[float]) -> list[np.ndarray]:
    """log N, log D and log L of the runs, looked at before they are used."""
    names = ("parameters", "tokens", "losses")
    arrays = [np.asarray(column, np.float64) for column in columns]
    if any(a.ndim != 1 or len(a) != len(arrays[0]) for a in arrays):
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise ValueError(f"runs have one number each of parameters, tokens and loss, not {shapes}")
    for name, array in zip(names, arrays):
        if not (np.isfinite(array) & (array > 0)).all():
            raise ValueError(f"{name} must be finite numbers above 0, not {array}")
    kinds = [len(np.unique(a)) for a in arrays[:2]]
    if len(arrays[0]) < 6 or min(kinds) < 3:
        raise ValueError(
            f"five constants need 6 runs or more, of 3 sizes and 3 numbers of tokens at least, "
            f"not {len(arrays[0])} of {kinds[0]} and {kinds[1]}"
        )
    return [np.log(a) for a in arrays]


def starting_points(n: np.ndarray, d: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A grid of log (E, A, B, alpha, beta) whose laws go through the middle of the runs: (S, 5)."""
    grid = np.meshgrid(SHARES, EXPONENTS, EXPONENTS, indexing="ij")
    share, alpha, beta = (axis.ravel() for axis in grid)
    half = np.log((1 - share) / 2) + y.mean()
    e, a, b = np.log(share) + y.mean(), half + alpha * n.mean(), half + beta * d.mean()
    return np.stack([e, a, b, np.log(alpha), np.log(beta)], axis=1)


def log_loss(theta: np.ndarray, n: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log L of S laws for R runs, (S, R), and its derivatives by each law's theta, (S, 5, R).

    The log of a sum of exponentials changes by each exponent as much as that term's share is.
    """
    e, a, b, alpha, beta = theta.T[..., None]  # (S, 1) each
    sized, read = np.exp(alpha) * n, np.exp(beta) * d  # (S, R)
    terms = np.stack(np.broadcast_arrays(e, a - sized, b - read))  # (3, S, R)
    y = np.logaddexp.reduce(terms)
    shares = np.exp(terms - y)
    return y, np.stack([*shares, -shares[1] * sized, -shares[2] * read], axis=1)


def huber(errors: np.ndarray, delta: float) -> np.ndarray:
    """error^2 / 2 up to `delta`, and from there on the straight line that goes on from it."""
    size = np.minimum(np.abs(errors), delta)
    return size * (np.abs(errors) - size / 2)


def minimized(
    theta: np.ndarray,
    n: np.ndarray,
    d: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    delta: float,
) -> tuple[np.ndarray, np.ndarray]:
    """From each of S starting points down to a minimum, all at once: (S, 5), and how low, (S,).

    Levenberg and Marquardt's method: a step solves the least squares of the errors made linear,
    held back the more, the less that came true. An error beyond `delta` gets the weight
    delta / |error|, which gives its square the slope of Huber's line.
    Source: Marquardt, 1963, doi:10.1137/0111030; Huber, 1964, doi:10.1214/aoms/1177703732.
    """

    def objective(theta: np.ndarray) -> np.ndarray:
        errors = log_loss(theta, n, d)[0] - y
        return (weights * huber(errors, delta)).sum(axis=-1)

    damping = np.full(len(theta), 1e-2)
    lowest = objective(theta)
    for _ in range(STEPS):
        predicted, jacobian = log_loss(theta, n, d)
        errors = predicted - y
        counted = weights * delta / np.maximum(np.abs(errors), delta)
        weighted = jacobian * counted[:, None]
        gradient = weighted @ errors[..., None]  # (S, 5, 1)
        curvature = weighted @ jacobian.swapaxes(1, 2)  # (S, 5, 5)
        scale = np.einsum("skk->sk", curvature) + 1e-12
        held = curvature + damping[:, None, None] * scale[:, None] * np.eye(5)
        step = np.linalg.solve(held, gradient)[..., 0]
        tried = np.clip(theta - np.clip(step, -1, 1), LEAST, MOST)
        reached = objective(tried)
        better = reached < lowest
        theta = np.where(better[:, None], tried, theta)
        lowest = np.where(better, reached, lowest)
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-12, 1e8)
    return theta, lowest
