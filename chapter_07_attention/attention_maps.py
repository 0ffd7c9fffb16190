"""What every head looked at, taken down while the model reads."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

import numpy as np

from chapter_03_neural_nets import Module, evaluating
from chapter_07_attention.attention import attention_weights, queries_keys_values
from chapter_07_attention.multi_head import MultiheadAttention
from utils.promotion import plain


@contextlib.contextmanager
def recorded_attention(model: Module) -> Iterator[dict[str, np.ndarray]]:
    """Inside the block, calls of the model note the shares of each of its attentions, by name.

    Each is (B, heads, T, S), that of the last call.
    """
    found: dict[str, np.ndarray] = {}
    parts = {n: m for n, m in model.named_modules() if isinstance(m, MultiheadAttention)}
    before = {name: part.attend for name, part in parts.items()}

    def recording(name: str) -> Any:
        def attend(q, kv=None, kept=None, *, heads, kv_heads=None, mask=None, **options):
            arrays = plain(q), None if kv is None else plain(kv)
            queries, keys, _ = queries_keys_values(*arrays, heads, kv_heads or heads)
            keys = np.repeat(keys, heads // (kv_heads or heads), axis=1)
            found[name] = attention_weights(queries, keys, mask)
            options = {"heads": heads, "kv_heads": kv_heads, "mask": mask, **options}
            return before[name](q, kv, kept, **options)

        return attend

    try:
        for name, part in parts.items():
            part.attend = recording(name)
        yield found
    finally:
        for name, part in parts.items():
            part.attend = before[name]


def attention_maps(model: Module, *inputs: Any) -> dict[str, np.ndarray]:
    """The shares (B, heads, T, S) of each attention of a model that reads these inputs."""
    with evaluating(model), recorded_attention(model) as found:
        model(*inputs)
    return found
