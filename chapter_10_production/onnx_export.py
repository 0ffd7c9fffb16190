"""A GPT as an ONNX file, for runtimes that know no Python.

Any program with a runtime of ONNX (on a phone, in a browser, in C++) reads the file and runs the
network in it. There is no cache in it: ids go in, and the logits of all places come out.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Callable, Mapping

import numpy as np

from chapter_07_attention import GPT
from chapter_10_production.decoder import check_shapes
from chapter_10_production.onnx_graph import GPTGraph
from utils.files import atomic_write

if TYPE_CHECKING:
    from onnx import ModelProto

# Of 2023 and 2024, so that what is released reads them; onnxruntime does from 1.18 on.
OPSET, IR_VERSION = 20, 10
LARGEST = 2**31 - 2**20  # bytes: a file is one message of less than 2 GiB, the nodes included
INSTALL = "pip install onnx onnxruntime (the extra 'onnx')"


def to_onnx(model: GPT, metadata: Mapping[str, str] | None = None) -> ModelProto:
    """A model's graph, checked: `ids` (batch, time) int64 to `logits` (batch, time, vocab_size).

    Its arrays have the names and values of `state_dict`, in float32; `metadata` goes beside the
    configuration. Raises ImportError without the package onnx, and ValueError for a model of 2 GiB
    and more, or of swapped-in parts with other arrays.
    """
    onnx, config = load_onnx(), model.config
    arrays = {n: np.asarray(a, np.float32) for n, a in model.state_dict().items()}
    check_shapes(config, arrays)
    if config.tied:
        del arrays["head.weight"]
    size = sum(array.nbytes for array in arrays.values())
    if size > LARGEST:
        raise ValueError(f"an ONNX file holds less than 2 GiB, the model is {size / 2**30:.1f} GiB")
    graph = GPTGraph(onnx.helper.make_node, config, arrays)
    value, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "gpt",
            inputs=[value("ids", types.INT64, ["batch", "time"])],
            outputs=[value("logits", types.FLOAT, ["batch", "time", config.vocab_size])],
            initializer=[onnx.numpy_helper.from_array(a, n) for n, a in graph.arrays.items()],
            doc_string="the logits of the next token at every place of texts of at most "
            f"{config.block_size} tokens",
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="deep-learning-first-principles",
        doc_string=f"a GPT of {size // 4:,} parameters: {config.n_layer} layers of width "
        f"{config.n_embd}, {config.vocab_size} tokens",
    )
    facts = {"config": json.dumps(asdict(config)), "parameters": str(size // 4)}
    onnx.helper.set_model_props(made, {**facts, **(metadata or {})})
    onnx.checker.check_model(made)
    return made


def save_onnx(
    model: GPT, path: str | os.PathLike, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a model's graph to a file, whole or not at all; raises what `to_onnx` does."""
    content = to_onnx(model, metadata).SerializeToString()
    with atomic_write(path) as file:
        file.write(content)
    return Path(path)


def onnxruntime_model(path: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
    """The model in a file, run by onnxruntime: ids (B, T) to logits (B, T, vocab_size)."""
    session = load_onnxruntime().InferenceSession(
        os.fspath(path), providers=["CPUExecutionProvider"]
    )
    return lambda ids: session.run(["logits"], {"ids": np.asarray(ids, np.int64)})[0]


def load_onnx() -> ModuleType:
    """The package onnx; ImportError, with what to do, where it is missing."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f"an ONNX file is made with onnx ({error}): {INSTALL}") from error
    return onnx


def load_onnxruntime() -> ModuleType:
    """The package onnxruntime; ImportError, with what to do, where it is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"an ONNX file runs in onnxruntime ({error}): {INSTALL}") from error
    return onnxruntime
