"""LoRA: adapt a large matrix by a small one.

What a trained model must change to learn something new is little, so let the change of a matrix W
(out x in) have a low rank r: W + (alpha / r) B A, with B (out x r) and A (r x in). W is frozen; A
begins at random and B at zero, so at first the model is what it was. Only A and B get gradients and
an optimiser's moments, which for r = 8 and matrices of 1000 x 1000 is 1.6 % of them. In the end the
product is added to W, and the model costs no more than before.
"""

from __future__ import annotations

import math
from typing import Any, Iterator, Sequence

import numpy as np

import chapter_03_neural_nets as chapter_03
from chapter_03_neural_nets import Module, Parameter, kaiming_uniform_
from chapter_05_gradient_mastery import Linear, linear
from chapter_07_attention import MultiheadAttention
from chapter_07_attention.config import whole_number
from utils import Tensor

TARGETS = ("in_proj", "out_proj", "linear1", "linear2")  # the matrices of a transformer's layer


class LoRA(Module):
    """What both layers share: `lora_A` (n r, in) and `lora_B` (out, r) for n matrices in one."""

    frozen: str  # the name of the matrix that is adapted
    plain: type  # what the layer is without adapters

    def adapt(self, rank: int, alpha: float, rng: np.random.Generator | None = None) -> None:
        """Freeze the layer's own parameters and begin adapters that change nothing yet."""
        check_sizes(rank, alpha)
        for _, p in self._own_parameters():
            p.requires_grad = False
        weight = getattr(self, self.frozen)
        self.rank, self.alpha, self.scale = rank, alpha, alpha / rank
        parts, (rows, columns) = len(list(self.parts())), weight.shape
        self.lora_A = Parameter(np.empty((parts * rank, columns), weight.dtype))
        self.lora_B = Parameter(np.zeros((rows, rank), weight.dtype))
        kaiming_uniform_(self.lora_A, a=5**0.5, rng=rng)

    def parts(self) -> Iterator[slice]:
        """The rows of each of the matrices that lie one below the other."""
        yield slice(0, len(getattr(self, self.frozen)))

    def increase(self) -> np.ndarray:
        """What the adapters add to the frozen matrix: (out, in)."""
        a = self.lora_A.data.reshape(-1, self.rank, self.lora_A.shape[1])
        b = self.lora_B.data
        return self.scale * np.concatenate([b[rows] @ a[i] for i, rows in enumerate(self.parts())])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, alpha={self.alpha:g}"


class LoRALinear(LoRA, Linear):
    """x W^T + bias + (alpha / rank) (x A^T) B^T with W and bias frozen: (..., out_features).

    Source: Hu et al., 2021, arXiv:2106.09685.
    """

    frozen, plain = "weight", Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rank: int = 8,
        alpha: float = 16.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, rng)
        self.adapt(rank, alpha, rng)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + linear(linear(x, self.lora_A), self.lora_B * self.scale)


class LoRAAttention(LoRA, MultiheadAttention):
    """Attention whose queries, keys and values have adapters of their own, in two arrays.

    `linear` makes `out_proj` as before. Source: Hu et al., 2021, arXiv:2106.09685.
    """

    frozen, plain = "in_proj_weight", MultiheadAttention

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *args: Any,
        rank: int = 8,
        alpha: float = 16.0,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__(embed_dim, num_heads, *args, rng=rng, **options)
        self.adapt(rank, alpha, rng)

    def parts(self) -> Iterator[slice]:
        queries, shared = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        yield slice(0, queries)
        yield slice(queries, queries + shared)
        yield slice(queries + shared, queries + 2 * shared)

    def project(self, x: Tensor, rows: slice) -> Tensor:
        first, last, _ = rows.indices(len(self.in_proj_weight))
        small = [
            linear(
                linear(x, self.lora_A[i * self.rank : (i + 1) * self.rank]),
                self.lora_B[part] * self.scale,
            )
            for i, part in enumerate(self.parts())
            if first <= part.start and part.stop <= last
        ]
        return super().project(x, rows) + np.concatenate(small, axis=-1)


def add_lora(
    model: Module,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = TARGETS,
    rng: np.random.Generator | None = None,
) -> Module:
    """The same model, frozen, with adapters beside the matrices of these names, in place.

    A target is the name of a `Linear`, or "in_proj" for an attention's queries, keys and values.
    The names of all that was there stay as they were. Raises ValueError for a target that the model
    does not have, for a matrix that is used in two places (a tied head), and for a model that has
    adapters already.
    """
    check_sizes(rank, alpha)
    if adapters(model):
        raise ValueError("the model has adapters already: merge_lora adds them to its weights")
    owned = [id(p) for module in model.modules() for _, p in module._own_parameters()]
    chosen: dict[Module, type] = {}
    for target in targets:
        found = layers_called(model, target)
        if not found:
            raise ValueError(f"the model has nothing to adapt that is called {target}")
        if any(owned.count(id(getattr(layer, kind.frozen))) > 1 for layer, kind in found.items()):
            raise ValueError(f"{target} shares its matrix with another part (tied weights), which "
                             "would change with it")  # fmt: skip
        chosen.update(found)
    if not chosen:
        raise ValueError("adapters need targets: names of the layers to adapt")
    model.requires_grad_(False)
    for layer, kind in chosen.items():
        # The layer itself becomes one with adapters: whoever holds it holds that.
        layer.__class__ = kind
        layer.adapt(rank, alpha, rng)
    return model


def merge_lora(model: Module) -> Module:
    """Add the adapters to the matrices beside them and take them out, in place.

    What is left is a plain model with the names it had before, all of it trainable again. Raises
    ValueError where there are no adapters.
    """
    if not adapters(model):
        raise ValueError("the model has no adapters to merge")
    for layer in list(model.modules()):
        if isinstance(layer, LoRA):
            getattr(layer, layer.frozen).data[...] += layer.increase()
            for name in ("lora_A", "lora_B", "rank", "alpha", "scale"):
                delattr(layer, name)
            layer.__class__ = layer.plain
    return model.requires_grad_(True)


def adapters(model: Module) -> dict[str, Parameter]:
    """The parameters of all adapters, by name."""
    return {
        name: p
        for name, p in model.named_parameters()
        if name.rpartition(".")[2] in ("lora_A", "lora_B")
    }


def lora_parameters(model: Module) -> list[Parameter]:
    """What an optimiser is given."""
    return list(adapters(model).values())


def lora_state_dict(model: Module) -> dict[str, np.ndarray]:
    """The adapters alone, to be saved: `load_state_dict(..., strict=False)` brings them back."""
    return {name: p.data for name, p in adapters(model).items()}


def check_sizes(rank: int, alpha: float) -> None:
    whole_number("rank", rank)
    if isinstance(alpha, bool) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha is a number above 0, not {alpha}")


def layers_called(model: Module, target: str) -> dict[Module, type]:
    """The layers that a target means, and what they become."""
    found: dict[Module, type] = {}
    for path, layer in model.named_modules():
        if target == "in_proj" and type(layer) is MultiheadAttention:
            found[layer] = LoRAAttention
        elif path.rpartition(".")[2] == target and type(layer) in (Linear, chapter_03.Linear):
            found[layer] = LoRALinear
    return found
