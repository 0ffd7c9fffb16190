"""What a decision hangs on: the gradient of one logit with respect to the input.

Backpropagation does not care what is a parameter. With the input as the leaf, it says for every
number of it which way, and how much, the answer would move.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from chapter_03_neural_nets import Module, eval_mode
from utils import Tensor, grad


def saliency(model: Module, inputs: Any, classes: Any) -> np.ndarray:
    """The gradient of each input's logit of its class: the shape of the floating `inputs`.

    The model is in evaluation mode, and its parameters' gradients are left alone. Raises ValueError
    for a class that there is not.
    Source: Simonyan et al., 2013, arXiv:1312.6034.
    """
    x, classes = Tensor(np.asarray(inputs), requires_grad=True), np.asarray(classes)
    with eval_mode(model):
        logits = model(x)
    if classes.min(initial=0) < 0 or classes.max(initial=0) >= logits.shape[1]:
        raise ValueError(f"classes are 0 to {logits.shape[1] - 1}, not {classes}")
    chosen = logits[np.arange(len(x)), classes]
    return grad(chosen.sum(), [x])[0].data


def token_influence(model: Module, ids: Sequence[int]) -> np.ndarray:
    """How much each token's vector moves the logit of what comes after each place: (T, T).

    Row t holds the lengths of the gradients of the logit of the token after t, with respect to the
    vectors of tokens 0 to t; for a causal model all others are 0. The model must look its tokens up
    in `model.embedding`.
    """
    if len(ids) < 2:
        raise ValueError(f"give two tokens or more: one to see, one to expect, not {list(ids)}")
    vectors: list[Tensor] = []
    keep = model.embedding.register_forward_hook(
        lambda module, args, output: vectors.append(output)
    )
    with eval_mode(model), keep:
        logits = model(np.array([ids[:-1]]))
    found = []
    for place, following in enumerate(ids[1:]):
        (gradient,) = grad(logits[0, place, following], vectors)
        found.append(np.linalg.norm(gradient.data[0], axis=-1))
    return np.array(found)
