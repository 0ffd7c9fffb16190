"""The same network with the algebra done: a few lines a layer, and training without autodiff.

Where `by_hand` takes a step for every operation, most of what it computes cancels on paper: the
README derives each formula that stands here. Softmax and cross-entropy become p - onehot; the
seven lines of batch normalisation become one.
"""

from __future__ import annotations

import numpy as np

from chapter_05_gradient_mastery.by_hand import Values


def loss_and_gradients(
    p: Values, ids: np.ndarray, targets: np.ndarray, eps: float = 1e-5
) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The loss, its gradient by every parameter, and the batch's mean and variance."""
    n, rows = len(ids), np.arange(len(ids))
    w1, w2, gamma = p["mlp.1.weight"], p["mlp.4.weight"], p["mlp.2.weight"]

    x = p["embedding.weight"][ids].reshape(n, -1)
    z = x @ w1.T + p["mlp.1.bias"]
    mean, variance = z.mean(axis=0), z.var(axis=0)
    inverse_std = 1 / np.sqrt(variance + eps)
    normal = (z - mean) * inverse_std
    h = np.tanh(normal * gamma + p["mlp.2.bias"])
    logits = h @ w2.T + p["mlp.4.bias"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - shifted[rows, targets])

    d_logits = exponentials / total
    d_logits[rows, targets] -= 1
    d_logits /= n
    d_scaled = (d_logits @ w2) * (1 - h * h)
    d_gamma, d_beta = np.sum(d_scaled * normal, axis=0), d_scaled.sum(axis=0)
    d_z = gamma * inverse_std * (d_scaled - d_beta / n - normal * d_gamma / n)
    d_table = np.zeros_like(p["embedding.weight"])
    np.add.at(d_table, ids, (d_z @ w1).reshape(*ids.shape, -1))
    gradients = {
        "embedding.weight": d_table,
        "mlp.1.weight": d_z.T @ x,
        "mlp.1.bias": d_z.sum(axis=0),
        "mlp.2.weight": d_gamma,
        "mlp.2.bias": d_beta,
        "mlp.4.weight": d_logits.T @ h,
        "mlp.4.bias": d_logits.sum(axis=0),
    }
    return float(loss), gradients, {"mean": mean, "variance": variance}


def train_by_hand(
    state: dict[str, np.ndarray],
    batches,
    steps: int,
    lr: float = 0.1,
    momentum: float = 0.9,
    statistics_momentum: float = 0.1,
) -> list[float]:
    """Gradient descent with momentum on `state`, the network's `state_dict`, in place.

    The running mean and variance follow those of the batches, as in `BatchNorm1d`. Returns the loss
    of every step.
    """
    velocity = {}
    losses = []
    for _ in range(steps):
        ids, targets = next(batches)
        if len(ids) < 2:
            raise ValueError(f"a batch of {len(ids)} has no variance: give 2 examples or more")
        with np.errstate(all="ignore"):  # said in one line, below
            loss, gradients, batch = loss_and_gradients(state, ids, targets)
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"step {len(losses)}: the loss is {loss}; lower the learning rate, {lr:g}"
            )
        for name, g in gradients.items():
            velocity[name] = g if name not in velocity else momentum * velocity[name] + g
            state[name] -= lr * velocity[name]
        unbiased = batch["variance"] * len(ids) / (len(ids) - 1)
        state["mlp.2.running_mean"] += statistics_momentum * (
            batch["mean"] - state["mlp.2.running_mean"]
        )
        state["mlp.2.running_var"] += statistics_momentum * (unbiased - state["mlp.2.running_var"])
        state["mlp.2.num_batches_tracked"] += 1
        losses.append(loss)
    return losses
