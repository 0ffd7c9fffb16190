"""The gradient of a whole network by hand, one line for each line of the forward pass.

The network is chapter 3's `ContextMLP` with one hidden layer and chapter 4's batch normalisation:
embedding, linear, normalisation, tanh, linear, cross-entropy. `forward` is written in steps so
small that each has a derivative from a school book, and `backward` goes through them in reverse.
As NumPy is the engine's language, the same `forward` runs on arrays and on Tensors: what `backward`
says of every intermediate can be held against autodiff.

Shapes: B examples, T tokens of context, E numbers a token, H hidden units, V tokens in all.
"""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from utils.promotion import plain

Values = Mapping[str, Any]


def forward(p: Values, ids: np.ndarray, targets: np.ndarray, eps: float = 1e-5) -> dict[str, Any]:
    """Every value on the way from parameters (by their names in `state_dict`) to the loss."""
    v: dict[str, Any] = {}
    rows = np.arange(len(ids))
    v["vectors"] = p["embedding.weight"][ids]  # (B, T, E)
    v["inputs"] = np.reshape(v["vectors"], (len(ids), -1))  # (B, T E)
    v["product1"] = v["inputs"] @ np.transpose(p["mlp.1.weight"])  # (B, H)
    v["hidden"] = v["product1"] + p["mlp.1.bias"]
    v["mean"] = np.sum(v["hidden"], axis=0, keepdims=True) / len(ids)  # (1, H)
    v["centred"] = v["hidden"] - v["mean"]
    v["squared"] = v["centred"] * v["centred"]
    v["variance"] = np.sum(v["squared"], axis=0, keepdims=True) / len(ids)
    v["inverse_std"] = (v["variance"] + eps) ** -0.5
    v["normal"] = v["centred"] * v["inverse_std"]
    v["scaled"] = v["normal"] * p["mlp.2.weight"]
    v["shifted"] = v["scaled"] + p["mlp.2.bias"]
    v["active"] = np.tanh(v["shifted"])
    v["product2"] = v["active"] @ np.transpose(p["mlp.4.weight"])  # (B, V)
    v["logits"] = v["product2"] + p["mlp.4.bias"]
    largest = plain(v["logits"]).max(axis=1, keepdims=True)  # cancels: a constant
    v["safe"] = v["logits"] - largest
    v["exponentials"] = np.exp(v["safe"])
    v["total"] = np.sum(v["exponentials"], axis=1, keepdims=True)  # (B, 1)
    v["inverse"] = v["total"] ** -1.0
    v["probabilities"] = v["exponentials"] * v["inverse"]
    v["logarithms"] = np.log(v["probabilities"])
    v["chosen"] = v["logarithms"][rows, targets]  # (B,)
    v["loss"] = -np.sum(v["chosen"]) / len(ids)
    return v


def backward(p: Values, v: Values, ids: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """The gradient of the loss by every parameter and every value of `forward`, by name."""
    d: dict[str, np.ndarray] = {}
    n, rows = len(ids), np.arange(len(ids))
    d["loss"] = np.ones_like(v["loss"])
    # The loss is the mean of the chosen logarithms, with a minus.
    d["chosen"] = np.full_like(v["chosen"], -1 / n)
    # Choosing passes the gradient to what was chosen, and nothing to the rest.
    d["logarithms"] = np.zeros_like(v["logarithms"])
    d["logarithms"][rows, targets] = d["chosen"]
    d["probabilities"] = d["logarithms"] / v["probabilities"]
    # A product: each factor's gradient is the other factor. What was broadcast is summed.
    d["inverse"] = np.sum(d["probabilities"] * v["exponentials"], axis=1, keepdims=True)
    d["total"] = -d["inverse"] * v["inverse"] ** 2
    # The exponentials were used twice, in the product and in the total: the gradients add.
    d["exponentials"] = d["probabilities"] * v["inverse"] + d["total"]
    d["safe"] = d["exponentials"] * v["exponentials"]
    d["logits"] = d["safe"]
    d["mlp.4.bias"] = d["logits"].sum(axis=0)
    d["product2"] = d["logits"]
    # For a product of matrices, the shapes leave one way only.
    d["mlp.4.weight"] = d["product2"].T @ v["active"]  # (V, B) (B, H)
    d["active"] = d["product2"] @ p["mlp.4.weight"]  # (B, V) (V, H)
    d["shifted"] = d["active"] * (1 - v["active"] ** 2)
    d["mlp.2.bias"] = d["shifted"].sum(axis=0)
    d["scaled"] = d["shifted"]
    d["mlp.2.weight"] = np.sum(d["scaled"] * v["normal"], axis=0)
    d["normal"] = d["scaled"] * p["mlp.2.weight"]
    d["inverse_std"] = np.sum(d["normal"] * v["centred"], axis=0, keepdims=True)
    d["variance"] = -0.5 * d["inverse_std"] * v["inverse_std"] ** 3
    d["squared"] = np.broadcast_to(d["variance"] / n, v["squared"].shape)
    d["centred"] = d["normal"] * v["inverse_std"] + 2 * v["centred"] * d["squared"]
    d["mean"] = -np.sum(d["centred"], axis=0, keepdims=True)
    d["hidden"] = d["centred"] + d["mean"] / n
    d["mlp.1.bias"] = d["hidden"].sum(axis=0)  # zero: the normalisation takes any bias away
    d["product1"] = d["hidden"]
    d["mlp.1.weight"] = d["product1"].T @ v["inputs"]
    d["inputs"] = d["product1"] @ p["mlp.1.weight"]
    d["vectors"] = d["inputs"].reshape(v["vectors"].shape)
    # A token that stands in several places gathers the gradients of all of them.
    d["embedding.weight"] = np.zeros_like(p["embedding.weight"])
    np.add.at(d["embedding.weight"], ids, d["vectors"])
    return d
